"""What the operator knows of the SpotJobs and SpotJobClasses: the newest version of each, in memory.

An older event never overwrites a newer own write: resourceVersions of one object are compared as integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spotjob.core.resources import SpotJob, SpotJobClass


def _revision(resource: SpotJob | SpotJobClass) -> int:
    return int(resource.metadata.resource_version)


class Store:
    """The newest version of every object, by key."""

    def __init__(self) -> None:
        self._jobs: dict[str, SpotJob] = {}
        self._classes: dict[str, SpotJobClass] = {}

    # ---- jobs ----

    def put(self, job: SpotJob) -> bool:
        """Keep this version; False when a newer or equal one is known, be it of a namesake that was created since."""
        known = self._jobs.get(job.key)
        if known is not None and _revision(known) >= _revision(job):
            return False
        self._jobs[job.key] = job
        return True

    def drop(self, key: str, uid: str) -> None:
        """The object is gone; a namesake that was created since stays."""
        known = self._jobs.get(key)
        if known is not None and known.metadata.uid == uid:
            del self._jobs[key]

    def get(self, key: str) -> SpotJob | None:
        return self._jobs.get(key)

    def jobs(self) -> Iterable[SpotJob]:
        return self._jobs.values()

    def keys(self) -> frozenset[str]:
        """Every job that is known now."""
        return frozenset(self._jobs)

    def listed(self, jobs: Iterable[SpotJob], known_before: frozenset[str]) -> frozenset[str]:
        """A full listing of our own. Returns the keys of `known_before` that it does not show: they are gone.

        `known_before` are the keys from before the listing was asked for. What the watch has brought since may be
        newer than the listing, so its absence there means nothing.
        """
        shown = {job.key: job for job in jobs}
        gone = known_before - shown.keys()
        for key in gone:
            self._jobs.pop(key, None)
        for job in shown.values():
            self.put(job)
        return gone

    # ---- classes ----

    def put_class(self, job_class: SpotJobClass) -> None:
        known = self._classes.get(job_class.name)
        if known is None or known.metadata.uid != job_class.metadata.uid or _revision(known) < _revision(job_class):
            self._classes[job_class.name] = job_class

    def drop_class(self, name: str) -> None:
        self._classes.pop(name, None)

    def listed_classes(self, classes: Iterable[SpotJobClass], known_before: frozenset[str]) -> None:
        """As `listed`, for the classes."""
        shown = {job_class.name: job_class for job_class in classes}
        for name in known_before - shown.keys():
            self.drop_class(name)
        for job_class in shown.values():
            self.put_class(job_class)

    def classes(self) -> Mapping[str, SpotJobClass]:
        return self._classes

    def regions(self) -> set[str]:
        """Every region in which an instance of ours may live."""
        of_classes = {c.spec.region for c in self._classes.values()}
        of_jobs = {j.current.region for j in self._jobs.values() if j.guarded and j.current and j.current.region}
        return of_classes | of_jobs


def narrow(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object as the watch gives it, without managedFields: they are half of its size."""
    metadata = {name: value for name, value in body["metadata"].items() if name != "managedFields"}
    return {**body, "metadata": metadata}

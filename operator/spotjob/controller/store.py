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
        """Keep this version; False when a newer or equal one of the same object is known."""
        known = self._jobs.get(job.key)
        if known is not None and known.metadata.uid == job.metadata.uid and _revision(known) >= _revision(job):
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

    def replace_all(self, jobs: Iterable[SpotJob]) -> None:
        """A full listing of our own: what it does not show is gone."""
        listed = {job.key: job for job in jobs}
        for key in [k for k in self._jobs if k not in listed]:
            del self._jobs[key]
        for job in listed.values():
            self.put(job)

    # ---- classes ----

    def put_class(self, job_class: SpotJobClass) -> None:
        known = self._classes.get(job_class.name)
        if known is None or known.metadata.uid != job_class.metadata.uid or _revision(known) < _revision(job_class):
            self._classes[job_class.name] = job_class

    def drop_class(self, name: str) -> None:
        self._classes.pop(name, None)

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

"""Keeps an index of all SpotJobs by list and watch, so that an instance finds its job without a search.

What is in the index may be late, never wrong for long: whoever acts on it asks the API server for the object first.
An entry that is missing always means "not yet".
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Protocol, TypeVar

from spotjob.core.ports import KubeError, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.kube.client import Expired
from spotjob.kube.objects import WatchEvent
from spotjob.kube.transport import pause

log = logging.getLogger(__name__)

Found = TypeVar("Found")


class JobIndex:
    """The newest known version of every SpotJob by uid, and which jobs name an instance in a live attempt."""

    def __init__(self) -> None:
        self._jobs: dict[str, SpotJob] = {}
        self._by_instance: dict[str, set[str]] = {}
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        """Who waits, by the uid of a job or the id of an instance. A job's event wakes those of its keys only."""
        self._ending = False
        self.synced = asyncio.Event()
        """Set once the first full listing is in."""

    def get(self, uid: str) -> SpotJob | None:
        return self._jobs.get(uid)

    def for_instance(self, instance_id: str) -> SpotJob | None:
        """The job whose current attempt, not over, names this instance. Of two, the one that is claimed."""
        named = [self._jobs[uid] for uid in sorted(self._by_instance.get(instance_id, ()))]
        return max(named, key=_claimed, default=None)

    async def wait_for_instance(self, instance_id: str, seconds: float) -> SpotJob | None:
        """As for_instance, but wait up to `seconds` for one to appear."""
        return await self.wait_for(instance_id, lambda: self.for_instance(instance_id), seconds)

    async def wait_for(self, key: str, look: Callable[[], Found | None], seconds: float) -> Found | None:
        """What `look` finds, now or after a change of `key` (a job's uid or an instance's id) within `seconds`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while (found := look()) is None and not self._ending and (left := deadline - loop.time()) > 0:
            changed: asyncio.Future[None] = loop.create_future()
            self._waiting.setdefault(key, set()).add(changed)
            try:
                await asyncio.wait((changed,), timeout=left)
            finally:
                self._stop_waiting(key, changed)
        return found

    def newest(self, job: SpotJob) -> SpotJob:
        """This version, or the one that is known here if that is newer."""
        known = self._jobs.get(job.metadata.uid)
        return job if known is None or _revision(known) < _revision(job) else known

    def stop_waits(self) -> None:
        """Let every wait return now, and nobody wait any more: the process is about to end."""
        self._ending = True
        for key in list(self._waiting):
            self._wake(key)

    def put(self, job: SpotJob) -> None:
        """Keep this version unless a newer one of the same object is known: a late event never undoes an own write."""
        known = self._jobs.get(job.metadata.uid)
        if known is not None and _revision(known) >= _revision(job):
            return
        self._unlink(known)
        self._jobs[job.metadata.uid] = job
        if (attempt := job.running) is not None:
            self._by_instance.setdefault(attempt.instance_id, set()).add(job.metadata.uid)
            self._wake(attempt.instance_id)
        self._wake(job.metadata.uid)

    def refresh(self, job: SpotJob) -> None:
        """The answer to an own write. An object that is not known here may be deleted already: the watch will tell."""
        if job.metadata.uid in self._jobs:
            self.put(job)

    def drop(self, uid: str) -> None:
        """The object is gone."""
        self._unlink(self._jobs.pop(uid, None))
        self._wake(uid)

    def forget(self) -> None:
        """Drop everything: no version of before can be compared with those that come."""
        for uid in list(self._jobs):
            self.drop(uid)

    def replace_all(self, jobs: Iterable[SpotJob]) -> None:
        """A full listing: what it does not show was deleted while nobody watched."""
        listed = {job.metadata.uid: job for job in jobs}
        for uid in [uid for uid in self._jobs if uid not in listed]:
            self.drop(uid)
        for job in listed.values():
            self.put(job)
        self.synced.set()

    def _unlink(self, job: SpotJob | None) -> None:
        if job is None or (attempt := job.running) is None:
            return
        named = self._by_instance[attempt.instance_id]
        named.discard(job.metadata.uid)
        if not named:
            del self._by_instance[attempt.instance_id]

    def _wake(self, key: str) -> None:
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    def _stop_waiting(self, key: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[key]
        waiting.discard(future)
        if not waiting:
            del self._waiting[key]


def _revision(job: SpotJob) -> int:
    """resourceVersions of one object are integers that grow: they are etcd's revisions."""
    return int(job.metadata.resource_version)


def _claimed(job: SpotJob) -> bool:
    return job.running is not None and job.running.claim_hash is not None


class Source(Protocol):
    """What the informer needs of the Kubernetes client."""

    async def list_jobs_at(self) -> tuple[list[SpotJob], str]: ...

    def watch_jobs(self, resource_version: str) -> AsyncIterator[WatchEvent]: ...


FAULTS_BEFORE_LISTING = 5
"""After so many faults in a row the watch is given up and all jobs are listed again: the server may have lost or
regained its memory, and then never knows the version that is asked for."""


class Informer:
    """Feeds the index for as long as it runs. It lists once, then resumes its watch wherever it broke off."""

    def __init__(self, source: Source, index: JobIndex) -> None:
        self._source, self._index = source, index
        self._version: str | None = None
        self._newest = 0

    async def run(self) -> None:
        """Until cancelled. Faults of the API server are waited out, at most 10 s at a time."""
        faults = 0
        while True:
            try:
                version = self._version or await self._list()
                # A watch that ends at once and says nothing is a fault too: it must not be repeated in a tight loop.
                faults = 0 if await self._watch(version) else faults + 1
            except Expired:
                log.info("the watch of SpotJobs is too old; listing again")
                self._version = None
            except (Unanswered, KubeError) as error:
                faults += 1
                log.warning("watching SpotJobs: %s", error)
            if faults and faults % FAULTS_BEFORE_LISTING == 0:
                self._version = None
            if faults:
                await asyncio.sleep(pause(faults))

    async def _list(self) -> str:
        jobs, self._version = await self._source.list_jobs_at()
        if int(self._version) < self._newest:
            log.warning("the API server's memory is an older one, as after a restore: everything is read anew")
            self._index.forget()
        self._newest = int(self._version)
        self._index.replace_all(jobs)
        log.info("%d SpotJobs listed", len(jobs))
        return self._version

    async def _watch(self, version: str) -> int:
        """How many events came."""
        events = 0
        async for event in self._source.watch_jobs(version):
            self._take(event)
            self._version, self._newest = event.resource_version, int(event.resource_version)
            events += 1
        return events

    def _take(self, event: WatchEvent) -> None:
        if event.kind == "bookmark":
            return
        if event.kind == "deleted" or event.job is None:
            self._index.drop(event.uid)
        else:
            self._index.put(event.job)

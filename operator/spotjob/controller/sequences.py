"""The JobSequences' own work queue: news only add keys, and a few workers look at one key each."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from spotjob.controller.lease import Lease
from spotjob.controller.sequence_planner import Planner
from spotjob.controller.sequence_runner import EcsRegions, Runner
from spotjob.controller.sequence_store import NotLeading, SequenceApi, SequenceStore, parent_key
from spotjob.controller.store import Store
from spotjob.controller.workqueue import WorkQueue
from spotjob.core.ports import Clock, Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.checks import Check
from spotjob.core.sequence.resources import SEQUENCE_LABEL, JobSequence
from spotjob.kube.child_jobs import Jobs

log = logging.getLogger(__name__)

WORKERS = 16
"""JobSequences that are looked at at the same time; one that waits needs none of them."""
CONFLICT_SECONDS = 0.05
NOT_LEADING_SECONDS = 0.5
FAULT_SECONDS = 2.0
REFUSED_SECONDS = 30.0
BUG_SECONDS = 60.0


class Sequences:
    """Everything about JobSequences in this process."""

    def __init__(
        self,
        api: SequenceApi,
        jobs: Jobs,
        ecs: EcsRegions,
        check: Check,
        spot_jobs: Store,
        clock: Clock,
        lease: Lease,
        poll_seconds: float,
    ) -> None:
        """`check` finds what is wrong with the parameters of an ecs_task; `spot_jobs` is what the watch has shown."""
        self._api, self._clock, self._lease = api, clock, lease
        self.known = SequenceStore()
        self._queue = WorkQueue()
        poll = timedelta(seconds=poll_seconds)
        self._runner = Runner(api, jobs, ecs, check, self.known, spot_jobs, clock, lease, poll)
        self._planner = Planner(api, check, self.known, clock, lease, self._queue.add)
        self._doubtful: set[str] = set()  # keys whose version here is old, or with a write whose outcome is not known

    # ---- news from the watch: store and enqueue, nothing else ----

    def changed(self, held: JobSequence) -> None:
        before = self.known.get(held.key)
        if not self.known.put(held):
            return
        self._queue.add(held.key)
        if before is None or before.over != held.over:
            self._tell_parent(held)

    def deleted(self, held: JobSequence) -> None:
        self.known.drop(held)
        self._queue.add(held.key)
        self._tell_parent(held)

    def job_changed(self, job: SpotJob) -> None:
        """A SpotJob is another, or gone."""
        if (name := job.metadata.labels.get(SEQUENCE_LABEL)) is not None:
            self._queue.add(f"{job.metadata.namespace}/{name}")

    def _tell_parent(self, held: JobSequence) -> None:
        if (parent := parent_key(held)) is not None:
            self._queue.add(parent)

    # ---- running ----

    async def learn(self) -> None:
        """A leader's start: the whole truth, whatever the watch has missed. Raises KubeError, Unanswered."""
        before = self.known.keys()
        gone = self.known.listed(await self._api.list_all(), before)
        for key in gone | self.known.keys():
            self._queue.add(key)

    async def run(self) -> None:
        """Until cancelled. Run it on the leader, after `learn`."""
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._look_at(key)
            except Exception:  # a bug about one must not stop the others
                log.exception("%s: could not be driven", key)
                self._look_again(key, BUG_SECONDS)
            finally:
                self._queue.done(key)

    async def _look_at(self, key: str) -> None:
        """One pass. What went wrong with the API server puts the key back into the queue."""
        try:
            await self._drive(key)
        except NotLeading:
            self._queue.add_after(key, NOT_LEADING_SECONDS)
        except (Conflict, NotFound) as error:
            log.debug("%s: %s", key, error)
            self._look_again(key, CONFLICT_SECONDS)
        except Unanswered as error:
            log.warning("%s: the API server gave no answer: %s", key, error)
            self._look_again(key, FAULT_SECONDS)
        except KubeError as error:
            log.error("%s: the API server refused: %s", key, error)
            self._look_again(key, REFUSED_SECONDS)

    def _look_again(self, key: str, seconds: float) -> None:
        """From the newest version of the object."""
        self._doubtful.add(key)
        self._queue.add_after(key, seconds)

    async def _drive(self, key: str) -> None:
        if not self._lease.leading():
            raise NotLeading
        if key in self._doubtful:
            await self._refresh(key)
        held = self.known.get(key)
        if held is None:
            self._runner.forget(key)
            return
        again = await (self._planner.plan(held) if held.spec.schedule else self._runner.drive(held))
        if again is not None:
            self._queue.add_after(key, (again - self._clock.now()).total_seconds())
        # The watch is silent about our own writes.
        after = self.known.get(key)
        if after is None or after.over != held.over:
            self._tell_parent(held)

    async def _refresh(self, key: str) -> None:
        namespace, name = key.split("/")
        try:
            self.known.put(await self._api.get(namespace, name))
        except NotFound:
            if (known := self.known.get(key)) is not None:
                self.deleted(known)
        self._doubtful.discard(key)

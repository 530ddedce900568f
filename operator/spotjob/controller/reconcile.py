"""Carries out, for one job at a time, what `core.decide` decides about it."""

from __future__ import annotations

import logging

from spotjob.controller.console import ConsoleReader
from spotjob.controller.launcher import Launcher
from spotjob.controller.lease import Lease
from spotjob.controller.mirror import Mirror
from spotjob.controller.store import Store
from spotjob.controller.terminator import Terminator
from spotjob.controller.workqueue import WorkQueue
from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.decide import decide
from spotjob.core.ledger import Ledger
from spotjob.core.news import news_of
from spotjob.core.ports import Clock, Conflict, KubeError, Kubernetes, NotFound, Unanswered
from spotjob.core.reasons import Reason
from spotjob.core.resources import DRILL_ANNOTATION, SpotJob
from spotjob.core.signs import NO_SIGNS, SignBook
from spotjob.core.states import Bound, Change, Decision, Ended, Observed, Waiting

log = logging.getLogger(__name__)

CONFLICT_SECONDS = 0.05
FAULT_SECONDS = 2.0
REFUSED_SECONDS = 30.0
NOT_LEADING_SECONDS = 0.5


class Reconciler:
    """One pass over one job."""

    def __init__(
        self,
        kube: Kubernetes,
        store: Store,
        queue: WorkQueue,
        ledger: Ledger,
        signs: SignBook,
        console: ConsoleReader,
        launcher: Launcher,
        terminator: Terminator,
        mirror: Mirror,
        clock: Clock,
        lease: Lease,
    ) -> None:
        self._kube, self._store, self._queue, self._ledger = kube, store, queue, ledger
        self._signs, self._console = signs, console
        self._launcher, self._terminator, self._mirror = launcher, terminator, mirror
        self._clock, self._lease = clock, lease
        self._doubtful: set[str] = set()  # keys whose version here is old, or with a write whose outcome is not known

    async def reconcile(self, key: str) -> None:
        """Look at one job and do what comes next. Errors of the API server put the key back in the queue."""
        try:
            if key in self._doubtful:
                await self._look_again(key)
            job = self._store.get(key)
            self._ledger.job_is(key, job)
            if job is None:
                self._launcher.forget(key)
                self._console.forget(key)
                return
            self._launcher.look_at(job)
            if not self._lease.leading():  # a renewal that came late: nothing may be lost of this
                self._queue.add_after(key, NOT_LEADING_SECONDS)
                return
            await self._carry_out(job, decide(job, self._observe(job), self._clock.now()))
        except Conflict as error:
            log.debug("%s: %s", key, error)
            self._doubtful.add(key)
            self._queue.add_after(key, CONFLICT_SECONDS)
        except NotFound:
            self._doubtful.add(key)
            self._queue.add_after(key, CONFLICT_SECONDS)
        except Unanswered as error:
            log.warning("%s: the API server gave no answer: %s", key, error)
            self._doubtful.add(key)
            self._queue.add_after(key, FAULT_SECONDS)
        except KubeError as error:
            log.error("%s: the API server refused: %s", key, error)
            self._queue.add_after(key, REFUSED_SECONDS)

    def _observe(self, job: SpotJob) -> Observed:
        attempt = job.current
        instance = self._ledger.get(attempt.instance_id) if attempt else None
        return Observed(
            instances=(instance,) if instance else (),
            offer=self._launcher.offer(job.key),
            obstacle=self._launcher.obstacle(job.key),
            contested=self._ledger.contested(job.key),
            signs=self._signs.of(attempt.instance_id) if attempt else NO_SIGNS,
            last_words=self._console.answer(job),
            mirrored=self._mirror.holds(job),
        )

    async def _carry_out(self, job: SpotJob, decision: Decision) -> None:
        if decision.guard:
            self._wrote(await self._kube.add_finalizer(job))
            return
        if _rests_on_silence(decision.change) and await self._is_old(job):
            return
        if decision.tell is not None:
            await self._kube.record_event(job, decision.tell.reason, decision.tell.note, decision.tell.warning)
        if decision.change is not None:
            job = await self._write(job, decision.change)
        if decision.end_drill:
            self._wrote(await self._kube.remove_annotation(job, DRILL_ANNOTATION))
            return
        self._ask_for(job, decision)
        for instance_id in decision.terminate:
            self._terminate(job, instance_id)
        if decision.release:
            await self._release(job)
        if decision.delete:
            await self._kube.delete_job(job)
        self._look_later(job.key, decision)

    def _ask_for(self, job: SpotJob, decision: Decision) -> None:
        """An instance from the launcher, or the result from the console; what is not asked for is not kept."""
        if decision.launch:
            self._launcher.want(job)
        elif not decision.keep_offer and not isinstance(decision.change, Bound):
            self._launcher.forget(job.key)
        if decision.ask_console:
            self._console.want(job)
        else:
            self._console.forget(job.key)

    def _look_later(self, key: str, decision: Decision) -> None:
        """At the decision's own time, when a standing obstacle ends, and when the table was waited for long enough."""
        obstacle = self._launcher.obstacle(key) if decision.launch else None
        job = self._store.get(key)
        mirrored_by = self._mirror.waits_until(job) if job is not None else None
        for when in (decision.wake_at, obstacle.retry_at if obstacle else None, mirrored_by):
            if when is not None:
                self._queue.add_after(key, (when - self._clock.now()).total_seconds())

    async def _write(self, job: SpotJob, change: Change) -> SpotJob:
        patch = merge_patch(job.status, next_status(job, change, self._clock.now()))
        if not patch:
            return job
        written = await self._kube.write_status(job, patch)
        log.info("%s: %s/%s: %s", job.key, written.status.phase, written.status.reason, written.status.message)
        self._wrote(written)
        if (news := news_of(change, written.status)) is not None:
            await self._kube.record_event(written, news.reason, news.note, news.warning)
        return written

    def _wrote(self, job: SpotJob) -> None:
        """Our own write is the newest version: use it at once, and look again."""
        self._store.put(job)
        self._ledger.job_is(job.key, job)
        self._mirror.add(job.key)
        self._queue.add(job.key)

    async def _release(self, job: SpotJob) -> None:
        released = await self._kube.remove_finalizer(job)
        if released is None:
            self._store.drop(job.key, job.metadata.uid)
            self._queue.add(job.key)
            self._launcher.capacity_freed()
            return
        self._wrote(released)
        self._launcher.capacity_freed()

    def _terminate(self, job: SpotJob, instance_id: str) -> None:
        if self._ledger.needed_by_another(instance_id, job.key):
            log.warning("%s: instance %s is left alone, another job uses it", job.key, instance_id)
            return
        region = next(a.region for a in job.status.attempts if a.instance_id == instance_id)
        self._terminator.add(region, instance_id)

    async def _is_old(self, job: SpotJob) -> bool:
        """Silence is only believed of the newest version: the agent's report may be ahead of our watch."""
        await self._refresh(job.key)
        newest = self._store.get(job.key)
        if newest is not None and newest.metadata.resource_version == job.metadata.resource_version:
            return False
        self._queue.add(job.key)
        return True

    async def _refresh(self, key: str) -> None:
        """Read the job from the API server: the version here is old."""
        namespace, name = key.split("/")
        try:
            self._store.put(await self._kube.get_job(namespace, name))
        except NotFound:
            known = self._store.get(key)
            if known is not None:
                self._store.drop(key, known.metadata.uid)

    async def _look_again(self, key: str) -> None:
        """A write got no answer: only a read shows what became of it."""
        await self._refresh(key)
        self._doubtful.discard(key)


def _rests_on_silence(change: Change | None) -> bool:
    """The agent has said nothing, so the attempt is over, or its result is looked for elsewhere."""
    return isinstance(change, Ended) or (isinstance(change, Waiting) and change.reason is Reason.AWAITING_RESULT)

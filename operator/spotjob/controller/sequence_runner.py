"""Drives one JobSequence: what `core.sequence.advance` says is written to its status, and then done.

The status is the record of the run: nothing is done that does not stand in it before. Whatever is not certain about a
write (409, no answer) is settled by reading the object again; a request to AWS or for a SpotJob is then repeated with
the token that stands in the record, so that it is the same request.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Protocol

from spotjob.aws.last_lines import LastLines
from spotjob.controller.lease import Lease
from spotjob.controller.sequence_store import NotLeading, SequenceApi, SequenceStore
from spotjob.controller.store import Store
from spotjob.core.ports import Clock, Conflict
from spotjob.core.resources import SpotJob
from spotjob.core.sequence import lastlines, standing
from spotjob.core.sequence.advance import advance
from spotjob.core.sequence.checks import Check, problems, results_used
from spotjob.core.sequence.hear import hear
from spotjob.core.sequence.ports import (
    Action,
    CreateJob,
    DeleteJob,
    DescribeTasks,
    FindTasks,
    GetJob,
    JobSeen,
    News,
    RunTask,
    StopTasks,
    Task,
)
from spotjob.core.sequence.resources import SEQUENCE_LABEL, JobSequence, JobSequenceStatus
from spotjob.core.sequence.runs import Run, StepState, new_run
from spotjob.core.sequence.steps import Sequence
from spotjob.kube.child_jobs import Jobs, perform_job

log = logging.getLogger(__name__)


class EcsRegions(Protocol):
    """ECS in all regions."""

    async def log_tail(self, region: str | None, task: Task, container: str, lines: int) -> tuple[str, ...]: ...

    async def perform(self, action: RunTask | FindTasks | DescribeTasks | StopTasks) -> News: ...


class Runner:
    """One pass over one JobSequence without a schedule."""

    def __init__(
        self,
        api: SequenceApi,
        jobs: Jobs,
        ecs: EcsRegions,
        check: Check,
        known: SequenceStore,
        spot_jobs: Store,
        clock: Clock,
        lease: Lease,
        poll: timedelta,
    ) -> None:
        self._api, self._jobs, self._ecs, self._check = api, jobs, ecs, check
        self._known, self._spot_jobs = known, spot_jobs
        self._clock, self._lease, self._poll = clock, lease, poll
        self._last_lines = LastLines(ecs.log_tail, clock)
        self._runs: dict[str, Run] = {}  # by key: the record, and when what runs is looked at next

    def forget(self, key: str) -> None:
        """The run is over, or gone."""
        self._runs.pop(key, None)

    def _remembered(self, held: JobSequence, record: Run) -> Run:
        """The run as it was left, unless somebody else has written to the record since."""
        run = self._runs.get(held.key)
        return run if run is not None and standing.kept(run.record()) == record else record

    async def drive(self, held: JobSequence) -> datetime | None:
        """Do all that can be done now; returns when to look again. Raises NotLeading, and as SequenceApi."""
        # Nothing runs: the verdict is known, or nothing was ever begun.
        if held.over or (held.deleting and held.status.run is None):
            return await self._end(held)
        if not held.guarded and not held.deleting:
            held = self._wrote(await self._api.guard(held))
        if held.status.run is not None:
            return await self._go_on(held, self._remembered(held, held.status.run))
        if held.spec.suspend:
            await self._write(held, standing.before_the_run(held, self._clock.now()))
            return None
        if found := problems(held.spec, self._check):
            return await self._refuse(held, "; ".join(found))
        return await self._go_on(held, new_run(held.spec.sequence(), held.metadata.uid, "", self._clock.now()))

    async def _refuse(self, held: JobSequence, why: str) -> datetime | None:
        written = await self._write(held, standing.invalid(held, why, self._clock.now()))
        await self._api.tell(written, "Invalid", written.status.message, warning=True)
        return await self._end(written)

    async def _end(self, held: JobSequence) -> datetime | None:
        """Let go of it, and delete it when its time has come."""
        self.forget(held.key)
        if held.guarded:
            left = await self._api.release(held)
            if left is None:
                self._known.drop(held)
                return None
            held = self._wrote(left)
        ttl, completed = held.spec.ttl_seconds_after_finished, held.status.completion_time
        if held.deleting or ttl is None or completed is None:
            return None
        due = completed + timedelta(seconds=ttl)
        if self._clock.now() < due:
            return due
        await self._api.delete(held)
        return None

    # ---- the run ----------------------------------------------------------------------------------------------------

    async def _go_on(self, held: JobSequence, run: Run) -> datetime | None:
        sequence = held.spec.sequence()
        used = results_used(sequence)
        news = self._news_of_its_job(held, run)
        record = held.status.run
        while True:
            run = await self._heard(sequence, run, news, used)
            # A suspension or a deletion is heard between two actions; another driver's record ends this one.
            held = self._newest(held)
            if held.status.run != record:
                raise Conflict(409, "somebody else has driven the run")
            turn = advance(
                sequence,
                run,
                None,
                self._clock.now(),
                roll=self._roll(),
                poll=self._poll,
                stop="deleted" if held.deleting else "",
                hold=held.spec.suspend,
            )
            run = standing.kept(turn.run)
            held = await self._write(held, standing.of_run(held, sequence, run, self._clock.now()))
            record = held.status.run
            self._runs[held.key] = run
            if run.state.over:
                return await self._end(held)
            if turn.do is None:
                return turn.wake_at or _time_over_at(sequence, run)
            action = lastlines.asking(turn.do, sequence.steps[run.current or 0].name in used)
            news = await self._perform(held, action)

    def _newest(self, held: JobSequence) -> JobSequence:
        known = self._known.get(held.key)
        return known if known is not None and known.metadata.uid == held.metadata.uid else held

    async def _write(self, held: JobSequence, status: JobSequenceStatus) -> JobSequence:
        """The status, if it says anything new, with the events of what it tells."""
        patch = standing.status_patch(held.status, status)
        if not patch:
            return held
        if not self._lease.leading():
            raise NotLeading
        written = self._wrote(await self._api.write_status(held, patch))
        if status.run is not None:
            for happening in standing.happenings(held.status.run, status.run):
                log.info("%s: %s: %s", held.key, happening.reason, happening.message)
                await self._api.tell(written, happening.reason, happening.message, happening.warning)
        return written

    def _wrote(self, held: JobSequence) -> JobSequence:
        """Our own write is the newest version: use it at once."""
        self._known.put(held)
        return held

    def _roll(self) -> float:
        """Jitter in [0, 1)."""
        return int(self._clock.token()[:6], 16) / 2**24

    # ---- actions ----------------------------------------------------------------------------------------------------

    async def _perform(self, held: JobSequence, action: Action) -> News:
        if not self._lease.leading():
            raise NotLeading
        match action:
            case GetJob(name) if (job := self._watched(held, name)) is not None:
                return JobSeen(job)
            case CreateJob() | GetJob() | DeleteJob():
                labels = {SEQUENCE_LABEL: held.metadata.name}
                return await perform_job(self._jobs, held.metadata.namespace, action, labels, held.as_owner())
            case _:
                return await self._ecs.perform(action)

    def _watched(self, held: JobSequence, name: str) -> SpotJob | None:
        """A job of its own as the watch has shown it. One that it does not show may only be too new for it."""
        job = self._spot_jobs.get(f"{held.metadata.namespace}/{name}")
        return job if job is not None and job.metadata.labels.get(SEQUENCE_LABEL) == held.metadata.name else None

    def _news_of_its_job(self, held: JobSequence, run: Run) -> News:
        """The watch brings the job's news without being asked."""
        if run.current is None:
            return None
        at = run.steps[run.current]
        if at.job is None or at.state not in (StepState.RUNNING, StepState.STOPPING):
            return None
        job = self._watched(held, at.job)
        return None if job is None else JobSeen(job)

    # ---- news -------------------------------------------------------------------------------------------------------

    async def _heard(self, sequence: Sequence, run: Run, news: News, used: frozenset[str]) -> Run:
        place = run.current
        if place is None or news is None:
            return run
        step, before = sequence.steps[place], run.steps[place]
        after = hear(step, before, news, self._clock.now(), self._roll())
        return run.with_step(place, await self._last_lines.added(step, before, after, news, step.name in used))


def _time_over_at(sequence: Sequence, run: Run) -> datetime | None:
    """A run that is held still has an end."""
    limit = sequence.timeout_seconds
    return None if limit is None or run.failed else run.started_at + timedelta(seconds=limit)

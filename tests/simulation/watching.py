"""What must hold at every write of a job and at every call of EC2."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from spotjob.core.reasons import Budget, Outcome, Reason
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import CapacityType, InstanceState
from tests.simulation.faults import Faults
from tests.simulation.world import World
from tests.simulation.writes import kind_of, kinds_beside_the_status, why_needless

REQUESTS_THAT_ARRIVE_LATE = ("api-late-request", "operator-pause")
"""With these a write of a leader of yesterday may come through: two jobs may name one instance, until the claim."""
SILENT = timedelta(minutes=2)
"""An agent that was silent for less is alive: the operator waits for three minutes, and hears of it each minute."""


class Watching:
    """Notes every write and every call of a world from its beginning."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world, self._faults = world, faults
        self.violations: list[str] = []
        self._writes: dict[str, Counter[str]] = defaultdict(Counter)  # by uid: kinds of writes
        self._bound: dict[str, tuple[str, int]] = {}  # instance -> (uid, attempt)
        self._claimed: dict[str, tuple[str, int]] = {}
        self._instances: dict[str, list[str]] = defaultdict(list)  # by uid: every instance it was bound to
        self._outcomes: dict[str, Counter[Budget]] = defaultdict(Counter)  # by uid
        self._noticed_at: dict[tuple[str, int], float] = {}  # by uid and attempt
        self._over_at: dict[tuple[str, int], float] = {}  # the same: when another was bound, or the job over
        self._last: dict[str, SpotJob] = {}  # by uid
        world.cluster.journal.append(self._changed)
        world.network.passing.append(self._called)

    def _violated(self, what: str) -> None:
        if not any(told.endswith(what) for told in self.violations):
            self.violations.append(f"at {self._world.clock.monotonic():.1f} s: {what}")

    # ---- on every write ----

    def _changed(self, before: SpotJob | None, after: SpotJob) -> None:
        uid = after.metadata.uid
        self._last[uid] = after
        if before is None or before.metadata.uid != uid or before.status == after.status:
            for kind in kinds_beside_the_status(before, after) if before is not None else ():
                self._writes[uid][kind] += 1
            return
        self._verdict_stands(before, after)
        self._attempts_stand(before, after)
        self._has_a_reason(after)
        if after.finished and after.current is not None:
            self._over_at.setdefault((uid, after.current.number), self._world.clock.monotonic())
        kind = kind_of(before, after)
        self._writes[uid][kind] += 1
        if why := why_needless(kind, before, after):
            self._violated(f"{after.key}: {why}")

    def _verdict_stands(self, before: SpotJob, after: SpotJob) -> None:
        if not before.finished:
            return
        was, now = before.status, after.status
        assert was.phase is not None
        same = now.phase is not None and now.phase.finished and now.phase.succeeded == was.phase.succeeded
        if not same or (was.reason, was.completion_time) != (now.reason, now.completion_time):
            self._violated(
                f"{after.key}: the verdict changed from {was.phase}/{was.reason} to {now.phase}/{now.reason}"
            )

    def _attempts_stand(self, before: SpotJob, after: SpotJob) -> None:
        known = {a.number: a for a in before.status.attempts}
        for attempt in after.status.attempts:
            old = known.get(attempt.number)
            if old is None:
                self._bind(before, after, attempt)
                continue
            if old.instance_id != attempt.instance_id or (old.claim_hash not in (None, attempt.claim_hash)):
                self._violated(f"{after.key}: attempt {attempt.number} was overwritten")
            if old.claimed_at is None and attempt.claimed_at is not None:
                self._claim(before, attempt)
            if old.outcome is not None and old.outcome is not attempt.outcome:
                self._violated(f"{after.key}: attempt {attempt.number} ended twice: {old.outcome}, {attempt.outcome}")
            if old.outcome is None and attempt.outcome is not None:
                self._end(after, attempt)
            if old.notice_at is None and attempt.notice_at is not None:
                self._noticed_at[after.metadata.uid, attempt.number] = self._world.clock.monotonic()
        newest = after.status.attempts[-1].number if after.status.attempts else 0
        if newest < max(known, default=0):
            self._violated(f"{after.key}: attempt {max(known)} was forgotten")

    def _bind(self, before: SpotJob, after: SpotJob, attempt: Attempt) -> None:
        uid, instance = after.metadata.uid, attempt.instance_id
        self._instances[uid].append(instance)
        self._over_at[uid, attempt.number - 1] = self._world.clock.monotonic()
        if why := _closed(before):
            self._violated(f"{after.key}: bound to an instance when it was {why}")
        if before.running is not None:
            self._violated(f"{after.key}: attempt {attempt.number} was bound while the one before was not over")
        self._bought(before, after, attempt)
        # The world's nature ticks: a container may be seen up to a tick after its instance was terminated.
        last = before.current if self._world.running[uid] > 0 else None
        if last and self._world.ec2.instance(last.instance_id).state is not InstanceState.TERMINATED:
            self._violated(f"{after.key}: attempt {attempt.number} was bound while the last one's container ran")
        if not any(self._faults.injected[kind] for kind in REQUESTS_THAT_ARRIVE_LATE) and instance in self._bound:
            self._violated(f"{after.key}: {instance} was bound twice, first to {self._bound[instance]}")
        self._bound[instance] = (uid, attempt.number)

    def _bought(self, before: SpotJob, after: SpotJob, attempt: Attempt) -> None:
        """On-demand only when the fallback says so, and always then."""
        fallback, bought = after.spec.capacity.fallback, attempt.capacity_type
        limit = fallback.after_interruptions if fallback is not None else None
        due = limit is not None and before.status.counts.interruptions >= limit
        if due and bought is CapacityType.SPOT:
            self._violated(f"{after.key}: attempt {attempt.number} is spot after {limit} interruptions")
        may = due or (fallback is not None and fallback.after_waiting_seconds is not None)
        if bought is CapacityType.ON_DEMAND and not may:
            self._violated(f"{after.key}: attempt {attempt.number} is on-demand, and no fallback was due")

    def _end(self, after: SpotJob, attempt: Attempt) -> None:
        """Each interruption has a cause outside."""
        assert attempt.outcome is not None
        self._outcomes[after.metadata.uid][attempt.outcome.budget] += 1
        faults, instance = self._faults, attempt.instance_id
        caused = {
            Outcome.INTERRUPTED: instance in faults.reclaimed or attempt.drill_at is not None or self._hung(instance),
            Outcome.HOST_REBOOTED: instance in faults.rebooted,
        }
        if not caused.get(attempt.outcome, True):
            self._violated(f"{after.key}: attempt {attempt.number} is {attempt.outcome} without a cause")

    def _hung(self, instance: str) -> bool:
        """Its status checks have failed, and its agent was silent."""
        host = self._world.hosts.get(instance)
        heard = host is not None and self._world.clock.now() - host.heard_at < SILENT
        return self._faults.impaired[instance] > 0 and not heard

    def _claim(self, before: SpotJob, attempt: Attempt) -> None:
        if why := _closed(before):
            self._violated(f"{before.key}: claimed when it was {why}")
        pair = (before.metadata.uid, attempt.number)
        if self._claimed.setdefault(attempt.instance_id, pair) != pair:
            self._violated(f"{before.key}: {attempt.instance_id} claimed a second attempt")

    def _has_a_reason(self, job: SpotJob) -> None:
        status = job.status
        timed = status.reason is not None and (status.reason.is_shortage or status.reason is Reason.BACKING_OFF)
        if status.reason is None or not status.message:
            self._violated(f"{job.key}: {status.phase} without a reason or a message")
        if timed and status.next_attempt_time is None:
            self._violated(f"{job.key}: {status.reason} without a next time")

    # ---- on every call of EC2 ----

    def _called(self, action: str, request: Mapping[str, Any]) -> None:
        """No instance is terminated that a live attempt of an open job names, unless the attempt was given up."""
        if action != "TerminateInstances":
            return
        for key in self._world.cluster.jobs:
            job = self._world.cluster.job(key)
            live = None if job.status.reason is Reason.AWAITING_RESULT else job.running
            if live is not None and not job.finished and live.instance_id in request["InstanceIds"]:
                self._violated(f"{key}: {live.instance_id} is terminated under its live attempt {live.number}")
        self._have_had_their_grace(request["InstanceIds"])

    def _have_had_their_grace(self, instances: Collection[str]) -> None:
        """A container whose job is deleted or suspended in peace is signalled before its instance goes."""
        for (uid, number), story in self._world.stories.items():
            host = self._world.hosts.get(story.instance)
            if uid not in self._faults.calmly_stopped or story.instance not in instances or host is None:
                continue
            heeded = host.agent_dead or host.hung or story.signalled_at is not None or story.ended_at is not None
            job = self._last[uid]
            by_order = job.current is not None and job.current.number == number and job.current.stop_by is not None
            if host.container is not None and by_order and not heeded:
                self._violated(f"{job.key}: {story.instance} is terminated, and its container got no signal")


def _closed(job: SpotJob) -> str | None:
    if job.deleting:
        return "deleted"
    if job.finished:
        return "finished"
    return "suspended" if job.spec.suspend else None

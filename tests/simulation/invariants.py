"""What must hold whatever happens. Each violation is one sentence, with the time at which it was seen."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from spotjob.core.reasons import Budget, Phase, Reason
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import InstanceState
from tests.simulation.faults import Faults
from tests.simulation.verdicts import why_wrong
from tests.simulation.world import World

OUTLIVES = timedelta(seconds=60)
"""In peace an instance is gone, or on its way, so long after its job's verdict."""
WAIT_REFRESH_SECONDS = 300
REQUESTS_THAT_ARRIVE_LATE = ("api-late-request", "operator-pause")
"""With these a write of a leader of yesterday may come through: two jobs may name one instance, until the claim."""


class Invariants:
    """Watches a world from its beginning."""

    def __init__(self, world: World, faults: Faults) -> None:
        self._world, self._faults = world, faults
        self.violations: list[str] = []
        self._writes: dict[str, Counter[str]] = defaultdict(Counter)  # by uid: kinds of writes
        self._bound: dict[str, tuple[str, int]] = {}  # instance -> (uid, attempt)
        self._claimed: dict[str, tuple[str, int]] = {}
        self._instances: dict[str, list[str]] = defaultdict(list)  # by uid: every instance it was bound to
        self._outcomes: dict[str, Counter[Budget]] = defaultdict(Counter)  # by uid
        self._last: dict[str, SpotJob] = {}  # by uid
        world.cluster.journal.append(self._changed)
        world.network.passing.append(self._called)

    @property
    def jobs(self) -> int:
        return len(self._last)

    @property
    def attempts(self) -> int:
        return sum(map(len, self._instances.values()))

    def _violated(self, what: str) -> None:
        if not any(told.endswith(what) for told in self.violations):
            self.violations.append(f"at {self._world.clock.monotonic():.1f} s: {what}")

    # ---- on every write ----

    def _changed(self, before: SpotJob | None, after: SpotJob) -> None:
        uid = after.metadata.uid
        self._last[uid] = after
        if before is None or before.metadata.uid != uid or before.status == after.status:
            if before is not None and before.metadata.finalizers != after.metadata.finalizers:
                self._writes[uid]["guard" if after.guarded else "release"] += 1
            return
        self._verdict_stands(before, after)
        self._attempts_stand(before, after)
        self._has_a_reason(after)
        for kind in kinds_of(before, after):
            self._writes[uid][kind] += 1

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
                self._outcomes[after.metadata.uid][attempt.outcome.budget] += 1
        newest = after.status.attempts[-1].number if after.status.attempts else 0
        if newest < max(known, default=0):
            self._violated(f"{after.key}: attempt {max(known)} was forgotten")

    def _bind(self, before: SpotJob, after: SpotJob, attempt: Attempt) -> None:
        uid, instance = after.metadata.uid, attempt.instance_id
        self._instances[uid].append(instance)
        if why := _closed(before):
            self._violated(f"{after.key}: bound to an instance when it was {why}")
        if before.running is not None:
            self._violated(f"{after.key}: attempt {attempt.number} was bound while the one before was not over")
        # The world's nature ticks: a container may be seen up to a tick after its instance was terminated.
        last = before.current if self._world.running[uid] > 0 else None
        if last and self._world.ec2.instance(last.instance_id).state is not InstanceState.TERMINATED:
            self._violated(f"{after.key}: attempt {attempt.number} was bound while the last one's container ran")
        if not any(self._faults.injected[kind] for kind in REQUESTS_THAT_ARRIVE_LATE) and instance in self._bound:
            self._violated(f"{after.key}: {instance} was bound twice, first to {self._bound[instance]}")
        self._bound[instance] = (uid, attempt.number)

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
        """No instance is terminated that a live attempt of an open job names."""
        if action != "TerminateInstances":
            return
        for key in self._world.cluster.jobs:
            job = self._world.cluster.job(key)
            live = job.running
            if live is not None and not job.finished and live.instance_id in request["InstanceIds"]:
                self._violated(f"{key}: {live.instance_id} is terminated under its live attempt {live.number}")

    # ---- in peace ----

    def everything_is_done(self) -> bool:
        if any(i.alive for i in self._world.ec2.instances()):
            return False
        return all(self._is_done(self._world.cluster.job(key)) for key in self._world.cluster.jobs)

    def _is_done(self, job: SpotJob) -> bool:
        if job.finished:
            return job.status.phase in (Phase.TERMINATED_OK, Phase.TERMINATED_NOK) and not job.guarded
        return job.spec.suspend and job.status.reason is Reason.SUSPENDED and not job.deleting

    def settled(self) -> None:
        """No instance outlives its job's verdict for long."""
        now = self._world.clock.now()
        for uid, job in self._last.items():
            ended = job.status.completion_time
            if ended is None or now - ended < OUTLIVES:
                continue
            for instance in self._instances[uid]:
                if self._bound[instance][0] == uid and self._alive(instance):
                    self._violated(f"{job.key}: {instance} outlives the verdict {job.status.reason}")

    def _alive(self, instance_id: str) -> bool:
        return any(i.id == instance_id and i.alive for i in self._world.ec2.instances())

    # ---- at the end ----

    def at_rest(self) -> None:
        """Everything that must hold when nothing is left to do."""
        for key in sorted(self._world.twice):
            self._violated(f"{key}: two containers ran at the same time")
        for instance in self._world.ec2.instances():
            if instance.alive:
                self._violated(f"{instance.id} lives, and no job needs it")
        for key in self._world.cluster.jobs:
            job = self._world.cluster.job(key)
            if not self._is_done(job):
                self._violated(f"{key}: stuck in {job.status.phase}/{job.status.reason}, guarded: {job.guarded}")
        for number, operator in enumerate(self._world.operators):
            if operator.task.done() and not operator.line.dead:
                self._violated(f"operator {number} died: {operator.task.exception()!r}")
        for uid, job in self._last.items():
            self._budgets_kept(uid, job)
            self._writes_within_budget(uid, job)

    def _budgets_kept(self, uid: str, job: SpotJob) -> None:
        counts, seen = job.status.counts, self._outcomes[uid]
        told = (counts.failures, counts.interruptions, counts.launch_errors)
        if told != (seen[Budget.FAILURES], seen[Budget.INTERRUPTIONS], seen[Budget.LAUNCH_ERRORS]):
            self._violated(f"{job.key}: counts {told}, but its attempts ended as {dict(seen)}")
        if why := why_wrong(job, self._world.stories_of(uid), deleted=uid in self._faults.deleted):
            self._violated(f"{job.key}: {why}")

    def _writes_within_budget(self, uid: str, job: SpotJob) -> None:
        """Seven for an undisturbed job: each kind once; more only for more attempts, and for what was injected."""
        attempts = len(self._instances[uid])
        hours = self._world.clock.monotonic() / WAIT_REFRESH_SECONDS
        disturbances = sum(self._faults.injected.values()) + self._faults.edits[uid]
        once_per_attempt = dict.fromkeys(("bind", "claim", "start", "notice", "end"), attempts)
        allowed = {"guard": 1, "release": 1, "verdict": 1, "terminated": 1, **once_per_attempt}
        allowed["wait"] = 1 + 2 * attempts + disturbances + int(hours)
        for kind, count in self._writes[uid].items():
            if count > allowed.get(kind, 0):
                self._violated(f"{job.key}: {count} writes of the kind {kind}, allowed are {allowed.get(kind, 0)}")


def _closed(job: SpotJob) -> str | None:
    if job.deleting:
        return "deleted"
    if job.finished:
        return "finished"
    return "suspended" if job.spec.suspend else None


def kinds_of(before: SpotJob, after: SpotJob) -> list[str]:
    """What one write did. A write that does two things at once counts as the first of them."""
    old, new = before.current, after.current
    if new is not None and (old is None or new.number > old.number):
        return ["bind"]
    if new is not None and old is not None and new.number == old.number:
        steps = {
            "claim": old.claimed_at is None and new.claimed_at is not None,
            "end": old.outcome is None and new.outcome is not None,
            "start": old.started_at is None and new.started_at is not None,
            "notice": old.notice_at is None and new.notice_at is not None,
        }
        if found := [kind for kind, happened in steps.items() if happened]:
            return found[:1]
    if after.finished and not before.finished:
        return ["verdict"]
    if after.finished and before.status.phase is not after.status.phase:
        return ["terminated"]
    return ["wait" if not after.finished else "nothing"]

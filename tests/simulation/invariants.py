"""What must hold whatever happens. Each violation is one sentence, with the time at which it was seen."""

from __future__ import annotations

from datetime import datetime, timedelta

from spotjob.core.reasons import Budget, Outcome, Phase, Reason
from spotjob.core.resources import DRILL_ANNOTATION, SpotJob
from tests.simulation.verdicts import why_wrong
from tests.simulation.watching import Watching
from tests.simulation.writes import allowed_writes

OUTLIVES = timedelta(seconds=60)
"""In peace an instance is gone, or on its way, so long after its job's verdict."""
UNBOUND = timedelta(seconds=60 + 30)
"""In peace an instance that nobody bound is gone, or on its way, so long after the window: a minute, and a poll."""
WASTE_NOTHING = {
    *("ec2-notice", "ec2-rebalance", "ec2-console-fault", "ec2-late-console", "people-drill", "host-agent-restart"),
    *("table-outage", "queue-late", "queue-loses", "queue-doubles", "queue-broken", "host-reboot"),
}
"""Faults for which EC2 is asked for no instance too many."""


class Invariants(Watching):
    """Watches a world from its beginning, judges it in peace and at its end."""

    @property
    def jobs(self) -> int:
        return len(self._last)

    @property
    def attempts(self) -> int:
        return sum(map(len, self._instances.values()))

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

        self._no_spare_is_left(now)

    def _no_spare_is_left(self, now: datetime) -> None:
        """What nobody binds powers itself off, or is reaped."""
        longest = timedelta(seconds=self._world.window_seconds) + UNBOUND
        for instance in self._world.ec2.instances():
            if instance.alive and instance.id not in self._bound and now - instance.launched > longest:
                self._violated(f"{instance.id} is bound to nobody, and lives for {now - instance.launched}")

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
            if DRILL_ANNOTATION in job.metadata.annotations:
                self._violated(f"{key}: the order to drill is still there")
        for number, operator in enumerate(self._world.operators):
            if operator.task.done() and not operator.line.dead:
                self._violated(f"operator {number} died: {operator.task.exception()!r}")
        self._few_spares()
        for uid, job in self._last.items():
            self._budgets_kept(uid, job)
            self._nothing_lost(uid, job)
            self._writes_within_budget(uid, job)

    def _budgets_kept(self, uid: str, job: SpotJob) -> None:
        counts, seen = job.status.counts, self._outcomes[uid]
        told = (counts.failures, counts.interruptions, counts.launch_errors)
        if told != (seen[Budget.FAILURES], seen[Budget.INTERRUPTIONS], seen[Budget.LAUNCH_ERRORS]):
            self._violated(f"{job.key}: counts {told}, but its attempts ended as {dict(seen)}")
        if why := why_wrong(job, self._world.stories_of(uid), deleted=uid in self._faults.deleted):
            self._violated(f"{job.key}: {why}")

    def _writes_within_budget(self, uid: str, job: SpotJob) -> None:
        faults, seconds = self._faults, self._world.clock.monotonic()
        impairments = sum(faults.impaired[i] for i in self._instances[uid])
        allowed = allowed_writes(
            attempts=len(self._instances[uid]),
            disturbances=sum(faults.injected.values()) + faults.edits[uid],
            seconds=seconds,
            drills=faults.drills[uid],
            impairments=impairments,
            seconds_impaired=seconds if impairments else 0,
        )
        for kind, count in self._writes[uid].items():
            if count > allowed[kind]:
                self._violated(f"{job.key}: {count} writes of the kind {kind}, allowed are {allowed[kind]}")

    def _nothing_lost(self, uid: str, job: SpotJob) -> None:
        """Work that was done, and whose result stood on the console before the instance was down, is not done again."""
        if uid in self._faults.deleted | self._faults.suspended or job.status.reason is Reason.DEADLINE_EXCEEDED:
            return
        outcomes = {a.number: a.outcome for a in job.status.attempts}
        for (of, number), story in self._world.stories.items():
            if of != uid or not story.proven or story.told_at is None or outcomes.get(number) is Outcome.SUCCEEDED:
                continue
            if job.status.attempts[-1].number != number or not job.finished or job.status.phase is Phase.TERMINATED_NOK:
                self._violated(f"{job.key}: attempt {number} succeeded, and was taken for {outcomes.get(number)}")

    def _few_spares(self) -> None:
        """Where nothing else wastes instances, there is one spare for a notice, and one more for each window."""
        if self._faults.injected.keys() - WASTE_NOTHING or self._faults.calmly_stopped:
            return
        window = self._world.window_seconds - 60
        unbound = [i for i in self._world.ec2.instances() if i.id not in self._bound]
        allowed = sum(1 for job in self._last.values() if job.spec.active_deadline_seconds is not None)
        for (uid, number), noticed in self._noticed_at.items():
            over = self._over_at.get((uid, number), self._world.clock.monotonic())
            allowed += 1 + int((over - noticed) / window)
        if len(unbound) > allowed:
            self._violated(f"{len(unbound)} instances were launched for nobody, allowed are {allowed}")

"""What should happen next to one job. Pure: same inputs, same answer.

Each decision is a ladder: special cases first, the normal case last. Nothing here launches, writes or waits; the
controller carries a Decision out, and looks again when anything has changed or `wake_at` has come.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import (
    Bound,
    Decision,
    Ended,
    Instance,
    InstanceState,
    Observed,
    Obstacle,
    Terminated,
    Verdict,
    Waiting,
)

WAIT_REFRESH = timedelta(minutes=5)
"""A wait is written on entry; while it lasts, its next attempt time is refreshed no more often than this."""


def decide(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    """The next step for this job."""
    if job.deleting:
        return _leave(job, observed)
    if job.finished:
        return _after_the_verdict(job, observed, now)

    deadline = _plus(job.status.start_time, job.spec.active_deadline_seconds)
    if deadline is not None and deadline <= now:
        seconds = job.spec.active_deadline_seconds
        verdict = Verdict(Reason.DEADLINE_EXCEEDED, f"activeDeadlineSeconds ({seconds}) have passed")
        return Decision(change=verdict, terminate=_to_terminate(job, observed))

    attempt = job.running
    step = _during(job, attempt, observed, now) if attempt else _between(job, observed, now)
    return _waking(step, deadline)


# ---- towards the end ----------------------------------------------------------------------------------------------


def _leave(job: SpotJob, observed: Observed) -> Decision:
    # Nothing was ever launched, or all of it is gone: the API server removes the object.
    if not job.guarded:
        return Decision()
    # The verdict comes first, so that the instance cannot claim the job while it is being terminated.
    if not job.finished:
        cancelled = Verdict(Reason.CANCELLED, "The SpotJob was deleted")
        return Decision(change=cancelled, terminate=_to_terminate(job, observed))
    return _wind_up(job, observed)


def _after_the_verdict(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    if job.guarded:
        return _wind_up(job, observed)
    expiry = _plus(job.status.completion_time, job.spec.ttl_seconds_after_finished)
    if expiry is None or job.status.phase is None or not job.status.phase.terminated:
        return Decision()
    return Decision(delete=True) if expiry <= now else Decision(wake_at=expiry)


def _wind_up(job: SpotJob, observed: Observed) -> Decision:
    """The verdict is known: see the instance go, show it, let the mirror catch up, let the object go."""
    assert job.status.phase is not None  # noqa: S101 -- a finished job has a phase
    if not _silent(job, observed):
        return Decision(terminate=_to_terminate(job, observed))
    if not job.status.phase.terminated:
        last = observed.instances[-1] if observed.instances else None
        return Decision(change=Terminated(last.spot_instance_request_id if last else ""))
    return Decision(release=observed.mirrored)


# ---- while an attempt runs ----------------------------------------------------------------------------------------


def _during(job: SpotJob, attempt: Attempt, observed: Observed, now: datetime) -> Decision:
    state = observed.state_of(attempt.instance_id)

    # Two jobs name one instance: who claimed it has it. Nothing is terminated, it may be the other's.
    if observed.contested and attempt.claimed_at is None:
        message = f"Instance {attempt.instance_id} serves another job"
        return Decision(change=Ended(Outcome.NEVER_STARTED, message))

    if state.dead:
        return Decision(change=_ended_with_its_instance(attempt, observed.instance(attempt.instance_id), now))

    if job.spec.suspend:
        return _end(attempt, state, Outcome.CANCELLED, "The job was suspended")

    start_by = attempt.bound_at + timedelta(seconds=job.spec.startup_deadline_seconds)
    if attempt.started_at is None:
        if start_by <= now:
            seconds = job.spec.startup_deadline_seconds
            message = f"The container did not start within startupDeadlineSeconds ({seconds})"
            return _end(attempt, state, Outcome.STARTUP_TIMEOUT, message)
        return Decision(wake_at=start_by)

    end_by = _plus(attempt.started_at, job.spec.attempt_deadline_seconds)
    if end_by is not None and end_by <= now:
        message = f"attemptDeadlineSeconds ({job.spec.attempt_deadline_seconds}) have passed"
        return _end(attempt, state, Outcome.ATTEMPT_DEADLINE_EXCEEDED, message)
    return Decision(wake_at=end_by)


def _end(attempt: Attempt, state: InstanceState, outcome: Outcome, message: str) -> Decision:
    terminate = frozenset() if state.ending else frozenset({attempt.instance_id})
    return Decision(change=Ended(outcome, message), terminate=terminate)


def _ended_with_its_instance(attempt: Attempt, instance: Instance | None, now: datetime) -> Ended:
    """The instance died and nobody reported an exit code: silence is never a success."""
    where = f"Instance {attempt.instance_id}"
    if attempt.callback is not None and attempt.callback.ok:
        return Ended(Outcome.SUCCEEDED, f"The container called back ok before its instance died. {where}")
    if attempt.notice_at is not None or (instance is not None and instance.reclaimed):
        return Ended(Outcome.INTERRUPTED, f"EC2 took the instance back. {where}")
    if attempt.power_off_at is not None and attempt.power_off_at <= now:
        return Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED, f"{where} reached the longest time that it may run")
    if attempt.claimed_at is None:
        return Ended(Outcome.STARTUP_TIMEOUT, f"{where} ended before it took the job up")
    return Ended(Outcome.HOST_LOST, f"{where} ended without reporting the container's result")


# ---- between attempts ---------------------------------------------------------------------------------------------


def _between(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    # The last attempt's instance must be seen dead before the next one is bound.
    ending = _to_terminate(job, observed)
    silent = _silent(job, observed)

    if job.spec.suspend:
        suspended = Waiting(Reason.SUSPENDED, "spec.suspend is true")
        return Decision(change=None if job.status.reason is Reason.SUSPENDED else suspended, terminate=ending)

    if job.spec.start_at is not None and job.spec.start_at > now:
        return _wait_for_start(job, job.spec.start_at)

    pause = job.status.next_attempt_time if job.status.reason is Reason.BACKING_OFF else None
    if pause is not None and pause > now:
        return Decision(terminate=ending, wake_at=pause)

    if not silent:
        return Decision(terminate=ending)
    if not job.guarded:
        return Decision(guard=True)
    if observed.offer is not None:
        return Decision(change=Bound(observed.offer))
    if observed.obstacle is not None:
        return _obstructed(job, observed.obstacle, now)
    return Decision(launch=True)


def _wait_for_start(job: SpotJob, start_at: datetime) -> Decision:
    waiting = Waiting(Reason.WAITING_FOR_START_TIME, "startAt is ahead", start_at)
    known = job.status.reason is Reason.WAITING_FOR_START_TIME and job.status.next_attempt_time == start_at.replace(
        microsecond=0
    )
    return Decision(change=None if known else waiting, wake_at=start_at)


def _obstructed(job: SpotJob, obstacle: Obstacle, now: datetime) -> Decision:
    # Waiting does not help.
    if obstacle.retry_at is None:
        return Decision(change=Verdict(obstacle.reason, obstacle.message))

    give_up = _give_up_at(job, obstacle)
    if give_up is not None and give_up <= now:
        seconds = job.spec.capacity_timeout_seconds
        return Decision(
            change=Verdict(Reason.CAPACITY_TIMEOUT, f"No instance within capacityTimeoutSeconds ({seconds})")
        )

    waiting = Waiting(obstacle.reason, obstacle.message, obstacle.retry_at)
    shown = job.status.next_attempt_time
    stale = shown is None or obstacle.retry_at - shown >= WAIT_REFRESH
    changed = waiting if job.status.reason is not obstacle.reason or stale else None
    return _waking(Decision(change=changed, launch=True), give_up)


def _give_up_at(job: SpotJob, obstacle: Obstacle) -> datetime | None:
    """When capacityTimeoutSeconds end; the wait began when it was first shown."""
    if not obstacle.reason.same_wait(job.status.reason):
        return None
    return _plus(job.status.waiting_since, job.spec.capacity_timeout_seconds)


# ---- small questions ----------------------------------------------------------------------------------------------


def _silent(job: SpotJob, observed: Observed) -> bool:
    """Nothing of this job can run. Only the newest attempt matters: it was bound when all others were dead."""
    attempt = job.current
    return attempt is None or attempt.silent(observed.state_of(attempt.instance_id))


def _to_terminate(job: SpotJob, observed: Observed) -> frozenset[str]:
    attempt = job.current
    if attempt is None or attempt.outcome is Outcome.NEVER_STARTED:
        return frozenset()
    if observed.state_of(attempt.instance_id).ending:
        return frozenset()
    return frozenset({attempt.instance_id})


def _plus(start: datetime | None, seconds: int | None) -> datetime | None:
    return None if start is None or seconds is None else start + timedelta(seconds=seconds)


def _waking(decision: Decision, at: datetime | None) -> Decision:
    """The same decision, looking again no later than `at`."""
    if at is None or (decision.wake_at is not None and decision.wake_at <= at):
        return decision
    return replace(decision, wake_at=at)

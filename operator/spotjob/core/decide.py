"""What should happen next to one job. Pure: same inputs, same answer.

Each decision is a ladder: special cases first, the normal case last. Nothing here launches, writes or waits; the
controller carries a Decision out, and looks again when anything has changed or `wake_at` has come.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from spotjob.core.buying import fallback_at
from spotjob.core.conditions import short_since
from spotjob.core.drills import drill
from spotjob.core.during import during, plus, stop, waking
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Decision, Observed, Obstacle, Terminated, Verdict, Waiting

WAIT_REFRESH = timedelta(minutes=5)
"""A wait is written on entry; while it lasts, its next attempt time is refreshed no more often than this."""


def decide(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    """The next step for this job."""
    if (about_the_drill := drill(job, now)) is not None:
        return about_the_drill
    if job.finished:
        return _after_the_verdict(job, observed, now)
    if job.deleting:
        return _leave(job, observed, now)

    deadline = plus(job.status.start_time, job.spec.active_deadline_seconds)
    if deadline is not None and deadline <= now and not _may_have_finished(job, observed):
        seconds = job.spec.active_deadline_seconds
        verdict = Verdict(Reason.DEADLINE_EXCEEDED, f"activeDeadlineSeconds ({seconds}) have passed")
        return Decision(change=verdict, terminate=_to_terminate(job, observed))

    attempt = job.running
    step = during(job, attempt, observed, now) if attempt else _between(job, observed, now)
    return waking(step, deadline, now)


# ---- towards the end ----------------------------------------------------------------------------------------------


def _leave(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    # Nothing was ever launched, or all of it is gone: the API server removes the object.
    if not job.guarded:
        return Decision()

    attempt = job.running
    if attempt is not None and attempt.claimed_at is not None and not observed.state_of(attempt.instance_id).ending:
        stopping = stop(job, attempt, now, "The SpotJob was deleted")
        if stopping is not None:
            return stopping

    # The verdict comes first, so that the instance cannot claim the job while it is being terminated.
    cancelled = Verdict(Reason.CANCELLED, "The SpotJob was deleted")
    return Decision(change=cancelled, terminate=_to_terminate(job, observed))


def _after_the_verdict(job: SpotJob, observed: Observed, now: datetime) -> Decision:
    if job.guarded:
        return _wind_up(job, observed)
    if job.deleting:
        return Decision()
    expiry = plus(job.status.completion_time, job.spec.ttl_seconds_after_finished)
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
        return Decision(terminate=ending, keep_offer=True)
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

    # A quota may follow a shortage: it is one wait for an instance all the same.
    give_up = plus(short_since(job.status), job.spec.capacity_timeout_seconds)
    if give_up is not None and give_up <= now:
        seconds = job.spec.capacity_timeout_seconds
        return Decision(
            change=Verdict(Reason.CAPACITY_TIMEOUT, f"No instance within capacityTimeoutSeconds ({seconds})")
        )

    waiting = Waiting(obstacle.reason, obstacle.message, obstacle.retry_at)
    shown = job.status.next_attempt_time
    stale = shown is None or obstacle.retry_at - shown >= WAIT_REFRESH
    changed = waiting if job.status.reason is not obstacle.reason or stale else None
    step = waking(Decision(change=changed, launch=True), give_up, now)
    return waking(step, fallback_at(job), now)


def _may_have_finished(job: SpotJob, observed: Observed) -> bool:
    """The instance is dead, or given up, and its result is looked for: it may be older than the deadline."""
    attempt = job.running
    if job.status.reason is Reason.AWAITING_RESULT:
        return True
    return attempt is not None and attempt.claimed_at is not None and observed.state_of(attempt.instance_id).dead


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

"""What should happen to a job while its newest attempt is not over. Part of `decide`; pure.

The ladder: the instance is gone; the job is to stop; EC2 said something about the instance; a deadline has passed.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from spotjob.core.reasons import Outcome, Reason
from spotjob.core.reports import judge
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.signs import Signs
from spotjob.core.states import (
    Advised,
    Change,
    Decision,
    Ended,
    Impaired,
    Instance,
    InstanceState,
    Noticed,
    Observed,
    Stopping,
    Waiting,
)

RESULT_WAIT = timedelta(minutes=10)
"""A dead instance's console is asked for the result no longer than this."""
STOP_SLACK = timedelta(seconds=30)
"""For the stop order to reach the agent, and for its last report, beside the container's own grace."""
IMPAIRED_FOR = timedelta(minutes=5)
"""Status checks that have failed so long, while the agent is silent, mean that the host is lost."""
SILENT_FOR = timedelta(minutes=3)
"""An agent that was heard since then lives: six heartbeats have been missed."""
SPARE_AFTER_NOTICE = timedelta(minutes=5)
"""EC2 now and then fails to take an instance back; then no spare is kept for it any longer."""


def during(job: SpotJob, attempt: Attempt, observed: Observed, now: datetime) -> Decision:
    """The next step while this attempt is not over."""
    state = observed.state_of(attempt.instance_id)

    # Two jobs name one instance: who claimed it has it. Nothing is terminated, it may be the other's.
    if observed.contested and attempt.claimed_at is None:
        message = f"Instance {attempt.instance_id} serves another job"
        return Decision(change=Ended(Outcome.NEVER_STARTED, message))

    if state.dead:
        return _after_its_death(job, attempt, observed, now)

    # It was given up: whatever is said now, its instance goes, and its console is asked for the result.
    if job.status.reason is Reason.AWAITING_RESULT:
        return Decision(terminate=_alive(attempt, state), keep_offer=True)

    if job.spec.suspend or attempt.stop_by is not None:
        stopping = stop(job, attempt, now, "The job was suspended") if attempt.claimed_at is not None else None
        return stopping or _give_up(attempt, state, Ended(Outcome.CANCELLED, "The job was suspended"), now)

    spare = _wants_spare(job, attempt, observed, now)
    if (sign := _sign(attempt, observed.signs)) is not None:
        return Decision(change=sign, launch=spare or (isinstance(sign, Noticed) and _may_follow(job)))

    if (overdue := _overdue(job, attempt, now)) is not None:
        return _give_up(attempt, state, overdue, now)
    wait = waking(Decision(launch=spare), _due(job, attempt), now)
    return waking(wait, _lost_at(attempt), now)


# ---- out of time --------------------------------------------------------------------------------------------------


def _due(job: SpotJob, attempt: Attempt) -> datetime | None:
    """When the attempt's next deadline is: that of its start, or that of its end."""
    if attempt.started_at is None:
        return attempt.bound_at + timedelta(seconds=job.spec.startup_deadline_seconds)
    return plus(attempt.started_at, job.spec.attempt_deadline_seconds)


def _overdue(job: SpotJob, attempt: Attempt, at: datetime) -> Ended | None:
    """As what the attempt ends if its time is over by then. Its stored times decide, so it is the same each time."""
    lost_at, due = _lost_at(attempt), _due(job, attempt)
    if lost_at is not None and lost_at <= at:
        message = f"The status checks of instance {attempt.instance_id} fail, and its agent is silent"
        return Ended(Outcome.INTERRUPTED, message)
    if due is None or due > at:
        return None
    if attempt.started_at is None:
        seconds = job.spec.startup_deadline_seconds
        message = f"The container did not start within startupDeadlineSeconds ({seconds})"
        return Ended(Outcome.STARTUP_TIMEOUT, message)
    message = f"attemptDeadlineSeconds ({job.spec.attempt_deadline_seconds}) have passed"
    return Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED, message)


def _give_up(attempt: Attempt, state: InstanceState, ended: Ended, now: datetime) -> Decision:
    """End an attempt that nobody ended: at once if nothing can have come of it, else when its console was asked.

    A claimed attempt may have done its work and not have reached the API: another one must not be bound before that
    is known. What it ends as follows from its times again, once its instance is dead.
    """
    if attempt.called_back_ok:
        ended = Ended(Outcome.SUCCEEDED, f"The container called back ok. {ended.message}")
    elif attempt.claimed_at is not None:
        message = f"{ended.message}: the instance is terminated, and its console is asked for the result"
        waiting = Waiting(Reason.AWAITING_RESULT, message, now + RESULT_WAIT)
        return Decision(change=waiting, terminate=_alive(attempt, state), keep_offer=True)
    return Decision(change=ended, terminate=_alive(attempt, state))


def _alive(attempt: Attempt, state: InstanceState) -> frozenset[str]:
    """What to terminate: the attempt's instance, unless it is on its way already."""
    return frozenset() if state.ending else frozenset({attempt.instance_id})


# ---- stopping by order --------------------------------------------------------------------------------------------


def stop(job: SpotJob, attempt: Attempt, now: datetime, why: str) -> Decision | None:
    """Let the container of a claimed attempt have its grace; None when that is over."""
    if attempt.stop_by is None:
        grace = job.spec.termination_grace_period_seconds
        message = f"{why}; its container has {grace} s to stop"
        return Decision(change=Stopping(now + timedelta(seconds=grace) + STOP_SLACK, message))
    return None if attempt.stop_by <= now else Decision(wake_at=attempt.stop_by)


# ---- what EC2 said ------------------------------------------------------------------------------------------------


def _sign(attempt: Attempt, signs: Signs) -> Change | None:
    """The first sign that the status does not show yet."""
    if signs.reclaim_at is not None and attempt.notice_at is None:
        return Noticed(signs.reclaim_at)
    if signs.advised_at is not None and attempt.advised_at is None:
        return Advised(signs.advised_at)
    if signs.checked and (signs.impaired_since is None) != (attempt.impaired_at is None):
        return Impaired(signs.impaired_since)
    return None


def _wants_spare(job: SpotJob, attempt: Attempt, observed: Observed, now: datetime) -> bool:
    """The instance is taken back soon, and another attempt will be allowed then."""
    if attempt.notice_at is None or now > attempt.notice_at + SPARE_AFTER_NOTICE:
        return False
    return _may_follow(job)


def _may_follow(job: SpotJob) -> bool:
    """One more interruption leaves the job another attempt."""
    limit = job.spec.interruption_limit
    return limit is None or job.status.counts.interruptions < limit


def _lost_at(attempt: Attempt) -> datetime | None:
    """When a host whose status checks fail is given up, unless its agent is heard until then."""
    if attempt.impaired_at is None:
        return None
    lost_at = attempt.impaired_at + IMPAIRED_FOR
    return lost_at if attempt.heard_at is None else max(lost_at, attempt.heard_at + SILENT_FOR)


# ---- after the instance's death -----------------------------------------------------------------------------------


def _after_its_death(job: SpotJob, attempt: Attempt, observed: Observed, now: datetime) -> Decision:
    """Silence is no verdict: the agent may have finished its work and not have reached the API."""
    since = job.status.waiting_since if job.status.reason is Reason.AWAITING_RESULT else None
    inferred = _ended_with_its_instance(job, attempt, observed.instance(attempt.instance_id), since or now)
    if attempt.claimed_at is None or inferred.outcome is Outcome.SUCCEEDED:
        return Decision(change=inferred)
    if observed.last_words is not None:
        report = observed.last_words.report
        return Decision(change=inferred if report is None else judge(job, attempt, report), keep_offer=True)

    if since is None:
        message = f"Instance {attempt.instance_id} is gone and has not reported: its console is asked for the result"
        return Decision(change=Waiting(Reason.AWAITING_RESULT, message, now + RESULT_WAIT), keep_offer=True)
    if since + RESULT_WAIT <= now:
        return Decision(change=inferred, keep_offer=True)
    return Decision(ask_console=True, keep_offer=True, wake_at=since + RESULT_WAIT)


def _ended_with_its_instance(job: SpotJob, attempt: Attempt, instance: Instance | None, at: datetime) -> Ended:
    """The instance was seen dead `at` this time and nobody reported an exit code: silence is never a success."""
    where = f"Instance {attempt.instance_id}"
    if attempt.called_back_ok:
        return Ended(Outcome.SUCCEEDED, f"The container called back ok before its instance died. {where}")
    if attempt.stop_by is not None:
        return Ended(Outcome.CANCELLED, f"The container was stopped by order. {where}")
    if (attempt.notice_at is not None and attempt.drill_at is None) or (instance is not None and instance.reclaimed):
        return Ended(Outcome.INTERRUPTED, f"EC2 took the instance back. {where}")
    if attempt.drill_at is not None:
        return Ended(Outcome.INTERRUPTED, f"A drill ended the attempt as a reclaim would. {where}")
    if (overdue := _overdue(job, attempt, at)) is not None:
        return overdue
    if attempt.power_off_at is not None and attempt.power_off_at <= at:
        return Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED, f"{where} reached the longest time that it may run")
    if attempt.claimed_at is None:
        return Ended(Outcome.STARTUP_TIMEOUT, f"{where} ended before it took the job up")
    return Ended(Outcome.HOST_LOST, f"{where} ended without reporting the container's result")


# ---- small questions ----------------------------------------------------------------------------------------------


def plus(start: datetime | None, seconds: int | None) -> datetime | None:
    """So many seconds later; None when either is missing."""
    return None if start is None or seconds is None else start + timedelta(seconds=seconds)


def waking(decision: Decision, at: datetime | None, now: datetime) -> Decision:
    """The same decision, looking again no later than `at`. A time that has passed is decided: it wakes nobody."""
    if at is None or at <= now or (decision.wake_at is not None and decision.wake_at <= at):
        return decision
    return replace(decision, wake_at=at)

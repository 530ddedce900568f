"""A change, applied to a job's previous status, gives its next status: the one place where status is computed.

The operator and the API both write status; both go through `next_status`, and both write with the resourceVersion
of the job they looked at.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from spotjob.core import budgets, buying
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import Attempt, CallbackResult, Condition, SpotJob, SpotJobStatus
from spotjob.core.states import (
    Advised,
    Bound,
    CalledBack,
    CapacityType,
    Change,
    Claimed,
    Drilled,
    Ended,
    Heard,
    Impaired,
    Instance,
    Noticed,
    Started,
    Stopping,
    Terminated,
    Verdict,
    Waiting,
)

ATTEMPTS_KEPT = 10
MESSAGE_LENGTH = 1024
CAPACITY_AVAILABLE = "CapacityAvailable"
FALLEN_BACK = "FallenBack"
"""The condition of a job that asked for spot and is served on-demand."""


def next_status(job: SpotJob, change: Change, now: datetime) -> SpotJobStatus:
    """The status after `change`. Pure; times are cut to whole seconds, as Kubernetes writes them.

    After the verdict only Terminated changes anything: a verdict never changes.
    """
    now = now.replace(microsecond=0)
    if job.finished and not isinstance(change, Terminated):
        return job.status
    status = _apply(job, change, now).model_copy(update={"observed_generation": job.metadata.generation})
    return status.model_copy(update={"conditions": _conditions(job, status, now)})


def _apply(job: SpotJob, change: Change, now: datetime) -> SpotJobStatus:  # noqa: C901 -- one line per change
    match change:
        case Waiting():
            return _waiting(job, job.status, change, now)
        case Bound():
            return _bound(job.status, change, now)
        case Claimed():
            power_off_at = change.power_off_at and change.power_off_at.replace(microsecond=0)
            claimed = _current(job.status, claimed_at=now, claim_hash=change.claim_hash, power_off_at=power_off_at)
            return _set(claimed, reason=Reason.PULLING_IMAGE, message="The instance prepares the container")
        case Started():
            return _started(job.status, change)
        case Noticed():
            return _noticed(job.status, change)
        case Advised(at=at):
            return _current(job.status, advised_at=at.replace(microsecond=0))
        case Impaired(since=since):
            return _current(job.status, impaired_at=since and since.replace(microsecond=0), heard_at=None)
        case Heard():
            return _current(job.status, heard_at=now)
        case Drilled():
            return _drilled(job.status, change)
        case Stopping():
            stopping = _current(job.status, stop_by=change.stop_by.replace(microsecond=0))
            return _set(stopping, reason=Reason.STOPPING, message=change.message, waiting_since=now)
        case CalledBack():
            return _current(job.status, callback=CallbackResult(ok=change.ok, message=change.message[:MESSAGE_LENGTH]))
        case Ended():
            return _ended(job, change, now)
        case Verdict():
            return _verdict(job.status, change, now)
        case Terminated():
            return _terminated(job.status, change)


def _set(status: SpotJobStatus, *, reason: Reason, message: str, **fields: Any) -> SpotJobStatus:
    shown = {"phase": reason.phase, "reason": reason, "message": message[:MESSAGE_LENGTH], "next_attempt_time": None}
    return status.model_copy(update={**shown, **fields})


def _current(status: SpotJobStatus, **fields: Any) -> SpotJobStatus:
    """The status with some fields of its newest attempt replaced."""
    *earlier, newest = status.attempts
    return status.model_copy(update={"attempts": (*earlier, newest.model_copy(update=fields))})


def _waiting(job: SpotJob, status: SpotJobStatus, change: Waiting, now: datetime) -> SpotJobStatus:
    since = (status.waiting_since if change.reason.same_wait(status.reason) else None) or now
    if change.reason.is_shortage:
        status = status.model_copy(update={"capacity_type": buying.capacity_type(job, now)})
    return _set(
        status,
        reason=change.reason,
        message=change.message,
        next_attempt_time=change.next_attempt_time and change.next_attempt_time.replace(microsecond=0),
        waiting_since=since,
    )


def _bound(status: SpotJobStatus, change: Bound, now: datetime) -> SpotJobStatus:
    instance = change.instance
    attempt = Attempt(
        number=status.attempts[-1].number + 1 if status.attempts else 1,
        instance_id=instance.id,
        region=instance.region,
        spot_instance_request_id=instance.spot_instance_request_id or None,
        instance_type=instance.instance_type or None,
        availability_zone=instance.availability_zone or None,
        capacity_type=instance.capacity_type,
        bound_at=now,
    )
    earlier = tuple(a.model_copy(update={"log_tail": None}) for a in status.attempts[-(ATTEMPTS_KEPT - 1) :])
    return _set(
        status,
        reason=Reason.BOOTING,
        message=f"Instance {_described(instance)} is booting",
        start_time=status.start_time or now,
        waiting_since=None,
        attempt=attempt.number,
        capacity_type=instance.capacity_type,
        instance_id=instance.id,
        spot_instance_request_id=attempt.spot_instance_request_id,
        exit_code=None,
        attempts=(*earlier, attempt),
    )


def _described(instance: Instance) -> str:
    bought = ", on-demand" if instance.capacity_type is CapacityType.ON_DEMAND else ""
    return f"{instance.id} ({instance.instance_type} in {instance.availability_zone}{bought})"


def _started(status: SpotJobStatus, change: Started) -> SpotJobStatus:
    started = _current(status, started_at=change.at.replace(microsecond=0))
    if started.reason in (Reason.STOPPING, Reason.AWAITING_RESULT):
        return started
    if started.attempts[-1].notice_at is not None:
        return _set(started, reason=Reason.INTERRUPTION_NOTICE, message=started.message or "")
    return _set(started, reason=Reason.CONTAINER_RUNNING, message="The container runs")


def _noticed(status: SpotJobStatus, change: Noticed) -> SpotJobStatus:
    at = change.reclaim_at.replace(microsecond=0)
    noticed = _current(status, notice_at=at)
    who = "A drill" if status.attempts[-1].drill_at is not None else "EC2"
    message = f"{who} takes the instance back at about {at.isoformat()}"
    if status.reason is Reason.CONTAINER_RUNNING:
        return _set(noticed, reason=Reason.INTERRUPTION_NOTICE, message=message)
    return noticed.model_copy(update={"message": message})


def _drilled(status: SpotJobStatus, change: Drilled) -> SpotJobStatus:
    at = change.reclaim_at.replace(microsecond=0)
    message = f"A drill is ordered: the agent is to behave as if EC2 took the instance back at {at.isoformat()}"
    return _current(status, drill_at=at).model_copy(update={"message": message})


def _ended(job: SpotJob, change: Ended, now: datetime) -> SpotJobStatus:
    closed = _close_attempt(job.status, change, now)
    counts = budgets.count(job.status.counts, change.outcome.budget)
    closed = closed.model_copy(update={"counts": counts, "exit_code": change.exit_code})
    match budgets.after(job, change, counts, now):
        case Waiting() as waiting:
            return _waiting(job, closed, waiting, now)
        case Verdict() as verdict:
            return _verdict(closed, verdict, now)


def _close_attempt(status: SpotJobStatus, change: Ended, now: datetime) -> SpotJobStatus:
    started_at = status.attempts[-1].started_at or change.started_at
    return _current(
        status,
        started_at=started_at and started_at.replace(microsecond=0),
        ended_at=now,
        outcome=change.outcome,
        exit_code=change.exit_code,
        message=change.message[:MESSAGE_LENGTH] or None,
        log_tail=change.log_tail or None,
    )


def _verdict(status: SpotJobStatus, change: Verdict, now: datetime) -> SpotJobStatus:
    if status.attempts and not status.attempts[-1].over:
        status = _close_attempt(status, Ended(Outcome.CANCELLED, change.message), now)
    return _set(status, reason=change.reason, message=change.message, completion_time=now, waiting_since=None)


def _terminated(status: SpotJobStatus, change: Terminated) -> SpotJobStatus:
    if status.phase is None or not status.phase.finished:
        return status
    status = status.model_copy(update={"phase": status.phase.once_terminated})
    if not status.attempts or not change.spot_instance_request_id:
        return status
    request_id = change.spot_instance_request_id
    return _current(status, spot_instance_request_id=request_id).model_copy(
        update={"spot_instance_request_id": request_id}
    )


# ---- conditions ---------------------------------------------------------------------------------------------------


def _conditions(job: SpotJob, status: SpotJobStatus, now: datetime) -> tuple[Condition, ...]:
    """Conditions follow from the status; one that is not True appears only after it has been True (or false, for
    CapacityAvailable), and its time changes only when its status does."""
    by_type = {condition.type: condition for condition in job.status.conditions}
    for kind, holds, interesting in _facts(job, status):
        old = by_type.get(kind)
        if old is None and not interesting:
            continue
        by_type[kind] = _condition(old, kind, holds, status, now)
    return tuple(by_type.values())


def _facts(job: SpotJob, status: SpotJobStatus) -> list[tuple[str, bool, bool]]:
    """(type, holds, worth showing for the first time) of each condition."""
    phase, attempt = status.phase, status.attempts[-1] if status.attempts else None
    succeeded = phase in (Phase.FINISHED_OK, Phase.TERMINATED_OK)
    failed = phase in (Phase.FINISHED_NOK, Phase.TERMINATED_NOK)
    short = status.reason is not None and status.reason.is_shortage
    interrupted = attempt is not None and (attempt.notice_at is not None or attempt.outcome is Outcome.INTERRUPTED)
    suspended = status.reason is Reason.SUSPENDED
    running = attempt if attempt is not None and not attempt.over else None
    advised = running is not None and running.advised_at is not None
    impaired = running is not None and running.impaired_at is not None
    on_demand = status.capacity_type is CapacityType.ON_DEMAND and job.spec.capacity.type is CapacityType.SPOT
    return [
        ("Suspended", suspended, suspended),
        (CAPACITY_AVAILABLE, not short, short),
        ("Interrupted", interrupted, interrupted),
        ("RebalanceRecommended", advised, advised),
        ("HostImpaired", impaired, impaired),
        (FALLEN_BACK, on_demand, on_demand),
        ("SuccessCriteriaMet", succeeded, succeeded),
        ("FailureTarget", failed, failed),
        ("Complete", phase is Phase.TERMINATED_OK, phase is Phase.TERMINATED_OK),
        ("Failed", phase is Phase.TERMINATED_NOK, phase is Phase.TERMINATED_NOK),
    ]


def _condition(old: Condition | None, kind: str, holds: bool, status: SpotJobStatus, now: datetime) -> Condition:
    word: Literal["True", "False"] = "True" if holds else "False"
    if old is not None and old.status == word:
        return old
    return Condition(
        type=kind,
        status=word,
        reason=status.reason.value if status.reason else "Unknown",
        message=status.message or "",
        last_transition_time=now,
        observed_generation=status.observed_generation,
    )


def short_since(status: SpotJobStatus) -> datetime | None:
    """Since when the job has waited for something outside it, whatever that was in turn; None if it does not."""
    found = (c for c in status.conditions if c.type == CAPACITY_AVAILABLE and c.status == "False")
    return next((condition.last_transition_time for condition in found), None)


# ---- the patch ----------------------------------------------------------------------------------------------------


def merge_patch(old: SpotJobStatus, new: SpotJobStatus) -> dict[str, Any]:
    """The JSON merge patch that turns `old` into `new`; null removes. Empty: no change.

    What differs is sent whole: the stored object may lack values that are only defaults here.
    """
    before, after = old.wire(), new.wire()
    removed = {name: None for name in before if name not in after}
    return removed | {name: value for name, value in after.items() if value != before.get(name)}

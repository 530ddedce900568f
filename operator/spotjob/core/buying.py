"""How a job's next instance is bought: spot, until its fallback says on-demand.

Only the spot market counts: reclaims, and the wait for spot capacity. A quota, throttling or a missing class are no
shortage of spot instances, and on-demand would not mend them.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import CapacityType


def capacity_type(job: SpotJob, now: datetime) -> CapacityType:
    """How the next instance is bought. Pure."""
    fallback = job.spec.capacity.fallback
    if fallback is None:
        return job.spec.capacity.type
    if fallback.after_interruptions is not None and _interruptions(job) >= fallback.after_interruptions:
        return CapacityType.ON_DEMAND
    if _fell_back(job):
        return CapacityType.ON_DEMAND
    due = fallback_at(job)
    return CapacityType.ON_DEMAND if due is not None and due <= now else job.spec.capacity.type


def fallback_at(job: SpotJob) -> datetime | None:
    """When the present wait for spot capacity will have lasted long enough; None when the job does not wait so."""
    fallback = job.spec.capacity.fallback
    seconds = fallback.after_waiting_seconds if fallback is not None else None
    since = job.status.waiting_since
    if seconds is None or since is None or job.status.reason is not Reason.INSUFFICIENT_CAPACITY:
        return None
    return since + timedelta(seconds=seconds)


def _fell_back(job: SpotJob) -> bool:
    """This wait is for on-demand by now. If an on-demand call that EC2 throttles turned it back to spot, it would be
    short of spot at once, due for on-demand again, and the two would be asked for in turns without a pause."""
    status = job.status
    return status.capacity_type is CapacityType.ON_DEMAND and status.reason is not None and status.reason.is_shortage


def _interruptions(job: SpotJob) -> int:
    """With the one that is announced: its spare is bought as the attempt that follows it."""
    return job.status.counts.interruptions + (1 if under_notice(job.running) else 0)


def under_notice(attempt: Attempt | None) -> bool:
    """EC2, or a drill, takes this attempt's instance back soon."""
    return attempt is not None and attempt.notice_at is not None


def taken_back(attempt: Attempt) -> bool:
    """EC2 itself gave notice of this attempt's instance, or took it: its pool will hardly give another one."""
    if attempt.drill_at is not None:
        return False
    return attempt.notice_at is not None or attempt.outcome is Outcome.INTERRUPTED

"""Is a verdict true? Judged by what nature did, not by what the product says about it."""

from __future__ import annotations

from collections.abc import Sequence

from spotjob.core.budgets import LAUNCH_ERROR_LIMIT
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob
from tests.simulation.host import Exit


def why_wrong(job: SpotJob, exits: Sequence[Exit], reclaims: int, deleted: bool) -> str | None:
    """What is wrong with the counts or the verdict of a job; None when all is right.

    `exits`: how its containers ended; `reclaims`: instances of it that EC2 took back.
    """
    counts, spec = job.status.counts, job.spec
    failed = sum(1 for e in exits if e.code != 0 and not e.signalled)
    if counts.failures > failed and spec.attempt_deadline_seconds is None:
        return f"{counts.failures} failures, but only {failed} containers failed"
    if counts.interruptions > reclaims:
        return f"{counts.interruptions} interruptions, but EC2 took only {reclaims} instances back"
    if counts.failures > spec.backoff_limit + 1 or counts.launch_errors > LAUNCH_ERROR_LIMIT + 1:
        return f"a budget is overdrawn: {counts}"
    if spec.interruption_limit is not None and counts.interruptions > spec.interruption_limit + 1:
        return f"interruptionLimit is {spec.interruption_limit}, and there were {counts.interruptions}"
    return _unfounded(job, exits, deleted) if job.finished else None


def _unfounded(job: SpotJob, exits: Sequence[Exit], deleted: bool) -> str | None:
    """A verdict that nothing gave cause for."""
    counts, spec, reason = job.status.counts, job.spec, job.status.reason
    founded = {
        Reason.CONTAINER_SUCCEEDED: any(e.code == 0 and not e.signalled for e in exits),
        Reason.CONTAINER_FAILED: counts.failures > spec.backoff_limit,
        Reason.DEADLINE_EXCEEDED: spec.active_deadline_seconds is not None or counts.failures > spec.backoff_limit,
        Reason.STARTUP_TIMEOUT: counts.launch_errors > LAUNCH_ERROR_LIMIT,
        Reason.RESULT_LOST: counts.launch_errors > LAUNCH_ERROR_LIMIT,
        Reason.INTERRUPTION_LIMIT_EXCEEDED: counts.interruptions > (spec.interruption_limit or 0),
        Reason.CAPACITY_TIMEOUT: spec.capacity_timeout_seconds is not None,
        Reason.CANCELLED: deleted,
    }
    if reason is None or not founded.get(reason, False):
        return f"the verdict {reason} has no cause: {counts}, exits {list(exits)}"
    return None

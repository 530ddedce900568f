"""Is a verdict true? Judged by what nature did, not by what the product says about it."""

from __future__ import annotations

from collections.abc import Sequence

from spotjob.core.budgets import LAUNCH_ERROR_LIMIT
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import Attempt, SpotJob
from tests.simulation.container import Story


def why_wrong(job: SpotJob, stories: Sequence[Story], deleted: bool) -> str | None:
    """What is wrong with the counts or the verdict of a job; None when all is right.

    `stories`: what truly became of its attempts whose container was to be made.
    """
    counts, spec = job.status.counts, job.spec
    failed = sum(map(_failed, stories)) + sum(_overdue(job, attempt) for attempt in job.status.attempts)
    if counts.failures > failed:
        return f"{counts.failures} failures, but only {failed} containers failed"
    if counts.failures > spec.backoff_limit + 1 or counts.launch_errors > LAUNCH_ERROR_LIMIT + 1:
        return f"a budget is overdrawn: {counts}"
    if spec.interruption_limit is not None and counts.interruptions > spec.interruption_limit + 1:
        return f"interruptionLimit is {spec.interruption_limit}, and there were {counts.interruptions}"
    return _unfounded(job, stories, deleted) if job.finished else None


def _overdue(job: SpotJob, attempt: Attempt) -> bool:
    """Its own deadline passed, or the longest time that its class admits."""
    if attempt.outcome is not Outcome.ATTEMPT_DEADLINE_EXCEEDED or attempt.ended_at is None:
        return False
    powered_off = attempt.power_off_at is not None and attempt.power_off_at <= attempt.ended_at
    return powered_off or job.spec.attempt_deadline_seconds is not None


def _failed(story: Story) -> bool:
    if story.behaviour.fails is not None:
        return story.behaviour.fails == "StartFailed"
    if story.exit is None or story.exit.signalled:
        return False
    return story.exit.code != 0 or (story.said and story.behaviour.says == "nok")


def _succeeded(job: SpotJob, story: Story) -> bool:
    if story.said and story.behaviour.says == "ok":
        return True
    if story.exit is None or story.exit.code != 0 or (story.heard and story.behaviour.says == "nok"):
        return False
    return not story.exit.signalled or job.spec.interruption.exit_zero == "Succeeded"


def _unfounded(job: SpotJob, stories: Sequence[Story], deleted: bool) -> str | None:
    """A verdict that nothing gave cause for."""
    counts, spec, reason = job.status.counts, job.spec, job.status.reason
    overdrawn = counts.failures > spec.backoff_limit
    errors = counts.launch_errors > LAUNCH_ERROR_LIMIT
    final = any(s.exit is not None and s.exit.code in spec.retry_on.never for s in stories if _failed(s))
    founded = {
        Reason.CONTAINER_SUCCEEDED: any(_succeeded(job, story) for story in stories),
        Reason.CONTAINER_FAILED: overdrawn or final,
        Reason.DEADLINE_EXCEEDED: spec.active_deadline_seconds is not None or overdrawn,
        Reason.IMAGE_PULL_FAILED: errors or any(s.behaviour.fails == "ImagePullFailed" for s in stories),
        Reason.STARTUP_TIMEOUT: errors,
        Reason.RESULT_LOST: errors,
        Reason.INTERRUPTION_LIMIT_EXCEEDED: counts.interruptions > (spec.interruption_limit or 0),
        Reason.CAPACITY_TIMEOUT: spec.capacity_timeout_seconds is not None,
        Reason.CANCELLED: deleted,
    }
    if reason is None or not founded.get(reason, False):
        return f"the verdict {reason} has no cause: {counts}, {[(s.exit, s.behaviour.says) for s in stories]}"
    return None

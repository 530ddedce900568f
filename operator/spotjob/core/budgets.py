"""What follows from an attempt's end: another attempt, and when, or the verdict.

Three budgets, never mixed: the container's failures (backoffLimit), reclaims by EC2 (interruptionLimit) and faults
of hosts and registries (a fixed limit). A reclaim is not a failure.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from spotjob.core.reasons import Budget, Outcome, Reason
from spotjob.core.resources import Counts, SpotJob
from spotjob.core.spec import RetryOn
from spotjob.core.states import Ended, Verdict, Waiting

LAUNCH_ERROR_LIMIT = 5
"""Faults of hosts and registries that are retried."""

FIRST_DELAY_SECONDS = 10
LONGEST_DELAY_SECONDS = 360
"""Ten seconds, doubled each time, at most six minutes: as the Job controller does it."""


def count(counts: Counts, budget: Budget) -> Counts:
    """The counts with one more drawn from this budget."""
    match budget:
        case Budget.NONE:
            return counts
        case Budget.FAILURES:
            return counts.model_copy(update={"failures": counts.failures + 1})
        case Budget.INTERRUPTIONS:
            return counts.model_copy(update={"interruptions": counts.interruptions + 1})
        case Budget.LAUNCH_ERRORS:
            return counts.model_copy(update={"launch_errors": counts.launch_errors + 1})


def after(job: SpotJob, ended: Ended, counts: Counts, now: datetime) -> Waiting | Verdict:
    """What follows. `counts` already hold this end. Pure: same inputs, same answer."""
    # Nothing is left to try.
    if ended.outcome in (Outcome.SUCCEEDED, Outcome.IMAGE_PULL_FAILED):
        return _verdict(ended)

    # Whatever would follow: nobody wants it any more.
    if job.deleting:
        return Verdict(Reason.CANCELLED, f"The SpotJob was deleted; {ended.message}")

    if ended.outcome is Outcome.CANCELLED:
        return Waiting(Reason.SUSPENDED, "The job is suspended")

    # Another job has this instance: no attempt was made.
    if ended.outcome is Outcome.NEVER_STARTED:
        return Waiting(Reason.LAUNCHING, ended.message)

    match ended.outcome.budget:
        case Budget.FAILURES:
            return _after_a_failure(job, ended, counts.failures, now)
        case Budget.INTERRUPTIONS:
            return _after_an_interruption(job, ended, counts.interruptions)
        case Budget.LAUNCH_ERRORS | Budget.NONE:
            return _after_a_launch_error(job, ended, counts.launch_errors, now)


def _after_a_failure(job: SpotJob, ended: Ended, failures: int, now: datetime) -> Waiting | Verdict:
    if not retryable(job.spec.retry_on, ended.exit_code):
        return Verdict(ended.outcome.final_reason, f"{ended.message}; retryOn does not retry this exit code")
    if failures > job.spec.backoff_limit:
        return _verdict(ended)
    when = now + delay(job.metadata.uid, failures)
    return Waiting(Reason.BACKING_OFF, f"{ended.message}; retry {failures} of {job.spec.backoff_limit}", when)


def _after_an_interruption(job: SpotJob, ended: Ended, interruptions: int) -> Waiting | Verdict:
    limit = job.spec.interruption_limit
    if limit is not None and interruptions > limit:
        return Verdict(Reason.INTERRUPTION_LIMIT_EXCEEDED, f"{ended.message}; interruptionLimit is {limit}")
    return Waiting(Reason.INTERRUPTED, f"{ended.message}; the next attempt follows")


def _after_a_launch_error(job: SpotJob, ended: Ended, errors: int, now: datetime) -> Waiting | Verdict:
    if errors > LAUNCH_ERROR_LIMIT:
        return Verdict(ended.outcome.final_reason, f"{ended.message}; {LAUNCH_ERROR_LIMIT} retries are used up")
    when = now + delay(job.metadata.uid, errors)
    return Waiting(Reason.BACKING_OFF, f"{ended.message}; retry {errors} of {LAUNCH_ERROR_LIMIT}", when)


def _verdict(ended: Ended) -> Verdict:
    return Verdict(ended.outcome.final_reason, ended.message)


def retryable(retry_on: RetryOn, exit_code: int | None) -> bool:
    """Whether retryOn lets a container with this exit code be tried again."""
    if exit_code is None:
        return True
    if exit_code in retry_on.never:
        return False
    return not retry_on.exit_codes or exit_code in retry_on.exit_codes


def delay(uid: str, nth: int) -> timedelta:
    """How long to wait before the nth retry. The jitter (75 to 100 %) comes from the job's uid, so it is stable."""
    full = min(FIRST_DELAY_SECONDS * 2 ** (max(nth, 1) - 1), LONGEST_DELAY_SECONDS)
    chance = int.from_bytes(hashlib.sha256(f"{uid}/{nth}".encode()).digest()[:4], "big") / 2**32
    return timedelta(seconds=full * (0.75 + 0.25 * chance))

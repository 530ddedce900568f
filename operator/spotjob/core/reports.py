"""What the agent and the container say, judged: a report becomes a change of status, or nothing new.

A verdict is proven, never inferred from silence: an exit code counts only if nobody signalled the container, and a
missing exit code is never 0.
"""

from __future__ import annotations

from datetime import datetime

from spotjob.core.claims import closed
from spotjob.core.contract import Callback, Report
from spotjob.core.reasons import Outcome
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import Advised, CalledBack, Change, Ended, Noticed, Started

KILLED_OR_TERMINATED = (137, 143)
"""128 + SIGKILL, 128 + SIGTERM: what a host that shuts down does to its containers."""


def change_for(job: SpotJob, report: Report, now: datetime) -> Change | None:
    """The change that a report about the current attempt makes; None when it says nothing new. Pure."""
    attempt = job.running
    # The attempt is over, so this is a repetition or comes too late.
    if attempt is None or job.finished:
        return None

    if report.kind == "started":
        return None if attempt.started_at else Started(at=min(report.at, now))
    if report.kind == "rebalance":
        return None if attempt.advised_at else Advised(at=report.at)
    if report.kind == "notice":
        return None if attempt.notice_at else Noticed(reclaim_at=report.at)
    return judge(job, attempt, report)


def callback_change(job: SpotJob, callback: Callback) -> Change | None:
    """What the container's own word changes now; it becomes the verdict when the container exits."""
    attempt = job.running
    if attempt is None or job.finished or attempt.callback is not None:
        return None
    return CalledBack(ok=callback.status == "ok", message=callback.message)


def judge(job: SpotJob, attempt: Attempt, report: Report) -> Ended:
    """How the attempt ended, from the agent's final report. Pure."""
    outcome = _outcome(job, attempt, report)
    return Ended(
        outcome=outcome,
        message=_message(outcome, attempt, report),
        exit_code=report.exit_code,
        log_tail=report.log_tail,
        started_at=report.started_at,
    )


def _outcome(job: SpotJob, attempt: Attempt, report: Report) -> Outcome:  # noqa: C901 -- a ladder
    match report.finished_as:
        case "ImagePullFailed":
            return Outcome.IMAGE_PULL_FAILED
        case "RegistryUnavailable":
            return Outcome.REGISTRY_UNAVAILABLE
        case "StartFailed":
            return Outcome.START_FAILED
        case "HostRebooted":
            return Outcome.SUCCEEDED if attempt.called_back_ok else Outcome.HOST_REBOOTED
        case "Exited" | None:
            pass

    # The container ended and nobody knows how: the host's fault, never a success unless it had said so itself.
    if report.exit_code is None:
        return Outcome.SUCCEEDED if attempt.called_back_ok else Outcome.HOST_LOST

    # Our signal ended it, or the host's shutdown did: its exit code says nothing about its work.
    if report.signalled or (attempt.notice_at and report.exit_code in KILLED_OR_TERMINATED):
        return _after_our_signal(job, attempt, report.exit_code)

    if report.out_of_memory:
        return Outcome.OUT_OF_MEMORY
    if report.exit_code != 0:
        return Outcome.CONTAINER_FAILED
    # It exited with 0, but had said itself that it failed.
    if attempt.callback is not None and not attempt.callback.ok:
        return Outcome.CONTAINER_FAILED
    return Outcome.SUCCEEDED


def _after_our_signal(job: SpotJob, attempt: Attempt, exit_code: int) -> Outcome:
    if attempt.called_back_ok:
        return Outcome.SUCCEEDED
    # The signal was an order: the job is being suspended or deleted. Without an order it was a notice, also when
    # that is not known here: the notice's own report may not have reached the API.
    if attempt.stop_by is not None or closed(job) is not None:
        return Outcome.CANCELLED
    said_nok = attempt.callback is not None and not attempt.callback.ok
    if exit_code == 0 and job.spec.interruption.exit_zero == "Succeeded" and not said_nok:
        return Outcome.SUCCEEDED
    return Outcome.INTERRUPTED


SAYINGS = {
    Outcome.OUT_OF_MEMORY: "The container ran out of memory",
    Outcome.INTERRUPTED: "EC2 took the instance back",
    Outcome.IMAGE_PULL_FAILED: "The image cannot be pulled",
    Outcome.REGISTRY_UNAVAILABLE: "The image registry does not serve the image",
    Outcome.START_FAILED: "The container could not be started",
    Outcome.HOST_REBOOTED: "The host rebooted under the container",
    Outcome.HOST_LOST: "The container is gone and its exit code is not known",
    Outcome.CANCELLED: "The container was stopped by order",
}


def _message(outcome: Outcome, attempt: Attempt, report: Report) -> str:
    if outcome is Outcome.INTERRUPTED and attempt.drill_at is not None:
        return "A drill ended the attempt as a reclaim would"
    unknown = "The container called back ok, and its exit code is not known"
    exited = unknown if report.exit_code is None else f"The container exited with code {report.exit_code}"
    said = SAYINGS.get(outcome, exited)
    return f"{said}: {report.message}" if report.message else said

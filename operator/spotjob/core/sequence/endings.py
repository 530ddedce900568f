"""How a step ended, from what ECS or the SpotJob says in the end. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto

from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.ports import Container, Task
from spotjob.core.sequence.runs import ContainerEnd
from spotjob.core.sequence.steps import Step


class End(Enum):
    """What an ending means for the step."""

    GOOD = auto()
    FAILED = auto()
    """By its own fault: `retries` may try again."""
    INTERRUPTED = auto()
    """It lost its host, or Fargate Spot took it: tried again, and no retry is used up."""
    CAPACITY = auto()
    """It never started for want of capacity: asked for again later."""
    FINAL = auto()
    """Failed, and not tried again: a person stopped it, or nobody knows how it ended."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How one try of a step ended."""

    end: End
    reason: str = ""
    """One word, such as TaskFailedToStart."""
    message: str = ""
    containers: tuple[ContainerEnd, ...] = ()


# ---- of ECS tasks ---------------------------------------------------------------------------------------------------

NEVER_STARTED, BY_A_PERSON = "TaskFailedToStart", "UserInitiated"
FROM_OUTSIDE = frozenset({"SpotInterruption", "TerminationNotice", "InfrastructureHealth", "ServiceSchedulerInitiated"})
"""Stop codes of a task that AWS took away."""
SIGNALLED = frozenset({137, 143})
"""SIGKILL and SIGTERM: the codes of a container that was stopped."""
HOST_GONE = re.compile(r"Host EC2 \(instance .+?\) (terminated|stopped)|performing maintenance on the underlying")
"""In stoppedReason, with various stop codes: the container instance went, or AWS retired the host on Fargate."""
NO_ROOM = re.compile(
    r"Capacity is unavailable|RESOURCE:|reached the limit on the number of|provisioning capacity limit"
)
ERROR_NAME = re.compile(r"\b[A-Z][A-Za-z]+Error\b")
"""What ECS begins its reasons with: CannotPullContainerError, ResourceInitializationError and so on."""
LONGEST_TEXT = 1024
LONGEST_REASON = 300
"""Characters of one text of ECS within a message, so that there is room for the others."""


def of_tasks(
    step: Step, tasks: tuple[Task, ...], lost: frozenset[str], essential: Mapping[str, frozenset[str]]
) -> Ending:
    """The ending of a try whose tasks have all stopped, but for the `lost` ones, which ECS no longer knows.

    `essential` holds the names of the essential containers by task definition. The worst task decides, in the order
    FINAL, FAILED, INTERRUPTED, CAPACITY, GOOD, because another try runs all tasks of the step again:

    - FINAL before all: a lost task may have done its work or may still run, and a person who stops one task does not
      want it back.
    - FAILED before INTERRUPTED: a try that costs no retry must not hide a failure.
    - INTERRUPTED before GOOD, although the good ones then run twice: a task that bears being cut off at any moment
      bears being repeated, and all tasks of a step are the same request.
    - CAPACITY beside a task that did run says nothing of the kind. To ask again would repeat that task without
      leave, so it counts as FAILED, and `retries` is the leave.
    """
    missing = step.count - len(tasks) - len(lost)
    verdicts = [_of_task(step, task, _deciding(step, task, essential)) for task in tasks]
    verdicts += [_Verdict(End.FINAL, "ResultLost", f"ECS no longer knows task {_id(arn)}") for arn in sorted(lost)]
    if missing > 0:
        verdicts.append(_Verdict(End.FAILED, "NotAllPlaced", f"{missing} of {step.count} tasks were never placed"))
    worst = _worst(verdicts)
    bad = sum(verdict.end is not End.GOOD for verdict in verdicts)
    of_several = f"{bad} of {step.count} tasks did not end well; " if step.count > 1 and bad else ""
    message = (of_several + worst.message)[:LONGEST_TEXT]
    return Ending(worst.end, worst.reason, message, tuple(end for task in tasks for end in _ends(task)))


@dataclass(frozen=True, slots=True)
class _Verdict:
    end: End
    reason: str = ""
    message: str = ""


def _worst(verdicts: list[_Verdict]) -> _Verdict:
    order = (End.FINAL, End.FAILED, End.INTERRUPTED, End.CAPACITY, End.GOOD)
    worst = min(verdicts, key=lambda verdict: order.index(verdict.end))
    if worst.end is End.CAPACITY and any(verdict.end is End.GOOD for verdict in verdicts):
        return replace(worst, end=End.FAILED)
    return worst


def _of_task(step: Step, task: Task, deciding: tuple[Container, ...]) -> _Verdict:
    """How one stopped task ended, by the containers that decide. An unknown stop code is like none."""
    end, reason = _judged(step, task, deciding)
    return _Verdict(end, reason, "" if end is End.GOOD else _sentence(task, _culprit(step, deciding)))


def _judged(step: Step, task: Task, deciding: tuple[Container, ...]) -> tuple[End, str]:
    taken = task.stop_code in FROM_OUTSIDE or HOST_GONE.search(task.stopped_reason) is not None

    # All had done their work by themselves, whatever came then. Under somebody's stop, a signal's code is no such
    # thing, even if it is one of the good ones.
    stopped = taken or task.stop_code == BY_A_PERSON
    if task.stop_code != NEVER_STARTED and deciding and all(_good(step, each, stopped) for each in deciding):
        return End.GOOD, ""

    # A person wants it to be over.
    if task.stop_code == BY_A_PERSON:
        return End.FINAL, "StoppedByUser"

    # Its own fault, whatever came then.
    if any("OutOfMemory" in each.reason for each in deciding):
        return End.FAILED, "OutOfMemory"

    # AWS took it, or its host.
    if taken:
        return End.INTERRUPTED, task.stop_code if task.stop_code in FROM_OUTSIDE else "HostTerminated"

    # Nothing of it ever ran.
    texts = (*(each.reason for each in task.containers), task.stopped_reason)
    ran = any(each.exit_code is not None for each in task.containers)
    if not ran and any(NO_ROOM.search(text) for text in texts):
        return End.CAPACITY, "CapacityUnavailable"
    if task.stop_code == NEVER_STARTED:
        return End.FAILED, _error_name(texts) or NEVER_STARTED

    # An exit code that is not there is never 0: whoever took it for that has called tasks good that never started.
    if not deciding:
        return End.FAILED, "NoContainers"
    if any(each.exit_code is not None and not _good(step, each, stopped) for each in deciding):
        return End.FAILED, "ContainerFailed"
    return End.FAILED, _error_name(each.reason for each in deciding) or "NoExitCode"


def _deciding(step: Step, task: Task, essential: Mapping[str, frozenset[str]]) -> tuple[Container, ...]:
    """The containers whose exit codes count; one that should be there and is not has none."""
    names = essential.get(task.task_definition) if step.essential_only else None
    if not names:
        return task.containers
    shown = {container.name: container for container in task.containers}
    return tuple(shown.get(name, Container(name)) for name in sorted(names))


def _good(step: Step, container: Container, stopped: bool) -> bool:
    """`stopped`: somebody ended its task."""
    if stopped and container.exit_code in SIGNALLED:
        return False
    return container.exit_code is not None and container.exit_code in step.success_exit_codes


def _error_name(texts: Iterable[str]) -> str:
    found = (ERROR_NAME.search(text) for text in texts)
    return next((match.group() for match in found if match), "")[:128]


# ---- in words -------------------------------------------------------------------------------------------------------


def _culprit(step: Step, deciding: tuple[Container, ...]) -> Container | None:
    """The container that explains the most: out of memory, else a bad exit code, else none with a reason, else none."""

    def little(container: Container) -> int:
        bad = container.exit_code is not None and container.exit_code not in step.success_exit_codes
        rungs = ("OutOfMemory" in container.reason, bad, container.exit_code is None and bool(container.reason))
        return next((rung for rung, here in enumerate(rungs) if here), 3 + (container.exit_code is not None))

    return min(deciding, key=little, default=None)


def _sentence(task: Task, container: Container | None) -> str:
    return f"task {_id(task.arn)}: {_of_container(container)}; {_of_stop(task)}"


def _of_container(container: Container | None) -> str:
    if container is None:
        return "it shows no containers"
    code = "has no exit code" if container.exit_code is None else f"exited with {container.exit_code}"
    because = f" ({container.reason[:LONGEST_REASON]})" if container.reason else ""
    return f"container {container.name[:128]} {code}{because}"


def _of_stop(task: Task) -> str:
    told = [text for text in (task.stop_code, task.stopped_reason[:LONGEST_REASON]) if text]
    return f"it was stopped: {': '.join(told)}" if told else "ECS does not say why it stopped"


def _id(arn: str) -> str:
    """The last part of its ARN, by which the console finds it."""
    return arn.rpartition("/")[2]


def _ends(task: Task) -> list[ContainerEnd]:
    return [
        ContainerEnd(task=task.arn, name=c.name, arn=c.arn, exit_code=c.exit_code, reason=c.reason[:LONGEST_TEXT])
        for c in task.containers
    ]


# ---- of a SpotJob ---------------------------------------------------------------------------------------------------


def of_job(job: SpotJob) -> Ending:
    """The ending of a SpotJob that has finished.

    It has had budgets of its own for interruptions, capacity and lost hosts, so none of these is waited for again.
    """
    status = job.status
    reason = str(status.reason or status.phase)
    last = ContainerEnd(name="spotjob", exit_code=status.exit_code, reason=reason)
    if (end := _end_of_job(job)) is End.GOOD:
        return Ending(end, containers=(last,))
    return Ending(end, reason, f"SpotJob {job.metadata.name}: {status.message or reason}"[:LONGEST_TEXT], (last,))


def _end_of_job(job: SpotJob) -> End:
    if job.status.phase is not None and job.status.phase.succeeded:
        return End.GOOD
    # A person deleted it, or nobody knows how it ended: it may have done its work.
    if job.status.reason in (Reason.CANCELLED, Reason.RESULT_LOST):
        return End.FINAL
    return End.FAILED

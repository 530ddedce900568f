"""What the containers of a step logged last: its result, or what explains its failure. Pure.

A step says its result as one JSON object on one line of its log. It is read when the step has come to its end and
before anything else happens, so that it stands in the record with the end of the step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from spotjob.core.sequence.hear import as_result
from spotjob.core.sequence.ports import Action, DescribeTasks, Looked, Task
from spotjob.core.sequence.runs import StepRun, StepState
from spotjob.core.sequence.steps import Step

LINES = 20
"""So many last lines are read."""
LONGEST_RESULT = 8192
"""Characters: what a later step can be given, since ECS limits all overrides of a RunTask to that."""
LONGEST_MESSAGE = 1024
LONGEST_LINE = 160


def asking(action: Action, used: bool) -> Action:
    """Which containers are essential has to be known where the result is `used`: it is what the first of them says."""
    return replace(action, essential=True) if used and isinstance(action, DescribeTasks) else action


def tried(before: StepRun, after: StepRun) -> bool:
    """Whether a look has shown the end of a try."""
    looking = (StepState.RUNNING, StepState.STOPPING)
    return before.state in looking and after.state not in looking


def speaker(step: Step, after: StepRun, looked: Looked) -> tuple[Task, str] | None:
    """(task, name of the container) whose log is to be read: the first of a good step, the failed one of another."""
    if after.state is StepState.SUCCEEDED:
        return next(_essential(looked), None)
    return next(_failed(step, looked), None) or next(_essential(looked), None)


def _essential(looked: Looked) -> Iterator[tuple[Task, str]]:
    for task in looked.tasks:
        names = looked.essential.get(task.task_definition)
        for container in task.containers:
            if names is None or container.name in names:
                yield task, container.name


def _failed(step: Step, looked: Looked) -> Iterator[tuple[Task, str]]:
    for task in looked.tasks:
        for container in task.containers:
            if container.exit_code is not None and container.exit_code not in step.success_exit_codes:
                yield task, container.name


def with_result(at: StepRun, lines: Iterable[str]) -> StepRun:
    """The step with the last line that is a JSON object as its result; None when no line is."""
    results = (as_result(line) for line in reversed(tuple(lines)) if len(line) <= LONGEST_RESULT)
    return at.model_copy(update={"result": next((result for result in results if result is not None), None)})


def with_last_words(at: StepRun, container: str, lines: Iterable[str]) -> StepRun:
    """The step whose message ends with what its container logged last, as many whole lines as there is room for."""
    message = f"{at.message}\nlast lines of {container}:"
    kept: list[str] = []
    room = LONGEST_MESSAGE - len(message)
    for line in reversed(tuple(_printable(line)[:LONGEST_LINE] for line in lines)):
        room -= len(line) + 1
        if room < 0:
            break
        kept.insert(0, line)
    return at.model_copy(update={"message": "\n".join((message, *kept))}) if kept else at


def _printable(line: str) -> str:
    """A container's words go to terminals and logs: what steers them is shown and not done."""
    return "".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line)

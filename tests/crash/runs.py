"""The lives of runs of a sequence in which the command line is killed, and what each must have come to.

Each step has a task definition of its own name, so that the effects of RunTask tell by themselves whose they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spotjob.core.sequence.runs import StepState

TABLE, FILE = "table", "file"
"""Where a run is recorded."""

FIVE = """\
- extract:
    type: ecs_task
    parameters: {task_definition: extract}
- load:
    type: ecs_task
    parameters: {task_definition: load, count: 3}
- check:
    type: ecs_task
    retries: 1
    retry_delay_seconds: 1
    parameters: {task_definition: check}
- linger:
    type: ecs_task
    timeout_seconds: 1
    ignore_failure: true
    parameters: {task_definition: linger}
- clean:
    type: ecs_task
    always: true
    parameters: {task_definition: clean}
"""
TWO = """\
- extract:
    type: ecs_task
    parameters: {task_definition: extract}
- check:
    type: ecs_task
    parameters: {task_definition: check}
"""
FAMILIES = ("extract", "load", "check", "linger", "clean")

CHECK_FAILS_ONCE = {"family": "check", "exitCode": 3, "times": 1}
LINGER_NEVER_ENDS = {"family": "linger", "seconds": None}

GOOD, BAD = StepState.SUCCEEDED, StepState.FAILED


@dataclass(frozen=True, slots=True)
class Expected:
    """How a run ends, whoever is killed meanwhile."""

    effects: tuple[tuple[str, int], ...]
    """Of RunTask, in order: the step, and its tasks."""
    states: Mapping[str, StepState] | None
    """None: the record goes with the run."""


@dataclass(frozen=True, slots=True)
class RunScenario:
    """One life. It goes on with --resume until the command line exits with 0."""

    key: str
    title: str
    record: str
    document: str
    expected: Expected
    orders: tuple[Mapping[str, Any], ...] = field(default=())
    """Bodies of the lever ecs-rule."""
    failing: int = 0
    """So many processes exit with 1 by themselves; what they do is no point."""


_FIVE = Expected(
    effects=(("extract", 1), ("load", 3), ("check", 1), ("check", 1), ("linger", 1), ("clean", 1)),
    states={"extract": GOOD, "load": GOOD, "check": GOOD, "linger": BAD, "clean": GOOD},
)
_ORDERS = (CHECK_FAILS_ONCE, LINGER_NEVER_ENDS)

RUNS = (
    RunScenario("seq-table", "a run of five steps, recorded in DynamoDB", TABLE, FIVE, _FIVE, _ORDERS),
    RunScenario("seq-file", "a run of five steps, recorded in a file", FILE, FIVE, _FIVE, _ORDERS),
    RunScenario(
        "seq-again",
        "a run that failed and is resumed",
        TABLE,
        TWO,
        Expected((("extract", 1), ("check", 1), ("check", 1)), {"extract": GOOD, "check": GOOD}),
        (CHECK_FAILS_ONCE,),
        failing=1,
    ),
)

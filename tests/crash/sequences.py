"""The lives of JobSequences in which the operator is killed: an ECS step of two tasks, then a SpotJob."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.crash.points import OPERATOR, Kind
from tests.crash.runs import GOOD, Expected

LOAD, TRAIN = "load", "train"
ABOUT = ("sequence ", "RunTask", "StopTask", "create spotjob", "event Step", "event Completed")
"""What the names of its own writes begin with. Those about its SpotJob are points of that one's scenarios."""


@dataclass(frozen=True, slots=True)
class SequenceScenario:
    """One life."""

    key: str
    title: str
    load: Mapping[str, Any]
    """What a container of the first step does: fields of the lever ecs-rule."""
    expected: Expected
    deleted: bool = False
    """By a person, while the first step runs; what is written before that is no point."""


SEQUENCES = (
    SequenceScenario(
        "js",
        "a JobSequence that completes",
        {"exitCode": 0, "seconds": 0.3},
        Expected(((LOAD, 2),), {LOAD: GOOD, TRAIN: GOOD}),
    ),
    SequenceScenario(
        "js-deleted",
        "a JobSequence that is deleted while its ECS step runs",
        {"seconds": None},
        Expected(((LOAD, 2),), None),
        deleted=True,
    ),
)


def own(kind: Kind) -> bool:
    """A write of the operator about a JobSequence."""
    return kind.process == OPERATOR and kind.what.startswith(ABOUT)

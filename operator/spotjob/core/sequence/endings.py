"""How a step ended, from what ECS or the SpotJob says in the end. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from spotjob.core.resources import SpotJob
from spotjob.core.sequence.ports import Task
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


def of_tasks(
    step: Step, tasks: tuple[Task, ...], lost: frozenset[str], essential: Mapping[str, frozenset[str]]
) -> Ending:
    """The ending of a try whose tasks have all stopped, but for the `lost` ones, which ECS no longer knows."""
    raise NotImplementedError


def of_job(job: SpotJob) -> Ending:
    """The ending of a SpotJob that has finished."""
    raise NotImplementedError

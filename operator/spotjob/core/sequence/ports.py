"""What a run asks of the outside, the news that come back, and the record of it, as a Protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from spotjob.core.resources import SpotJob
from spotjob.core.sequence.runs import Run

# ---- tasks --------------------------------------------------------------------------------------------------------

STOPPED = ("STOPPED", "DELETED")
"""lastStatus of a task that has come to its end."""


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a task, as DescribeTasks shows it."""

    name: str
    exit_code: int | None = None
    """None when the key is absent: the container never ran, or nobody knows how it ended."""
    reason: str = ""
    arn: str = ""
    runtime_id: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """One ECS task, as DescribeTasks shows it."""

    arn: str
    last_status: str
    desired_status: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    task_definition: str = ""
    containers: tuple[Container, ...] = ()

    @property
    def stopped(self) -> bool:
        return self.last_status in STOPPED


@dataclass(frozen=True, slots=True)
class Failure:
    """One entry of RunTask's `failures`: a task that was not placed, in an answer with status 200."""

    reason: str
    detail: str = ""
    arn: str = ""


class Refusal(Enum):
    """What a refused RunTask means for its repetition."""

    CAPACITY = auto()
    """There is no room now: ask again later, with a new token."""
    THROTTLED = auto()
    """Nothing was done: ask again, with the same token."""
    FINAL = auto()
    """It will be refused again."""


# ---- news ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Launched:
    """RunTask answered, or ConflictException named the tasks that hold its token."""

    arns: tuple[str, ...]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """The call was refused and had no effect."""

    kind: Refusal
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """The call got no answer or a 5xx: it may have had its effect. Also a look that did not come about."""

    message: str


@dataclass(frozen=True, slots=True)
class Found:
    """What ListTasks shows for a try, running and stopped: ARNs."""

    arns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Looked:
    """What DescribeTasks shows; `missing` are those ARNs that ECS does not know."""

    tasks: tuple[Task, ...]
    missing: frozenset[str] = frozenset()
    essential: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By task definition, its essential containers; only when a step asks for them."""


@dataclass(frozen=True, slots=True)
class JobSeen:
    """The SpotJob of the step; None when the API server does not have it."""

    job: SpotJob | None


News = Launched | Refused | Unknown | Found | Looked | JobSeen | None
"""What came of the last action. None: time has passed."""


# ---- what is to be done -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RunTask:
    """Ask ECS for the tasks of a step. `request` is the whole RunTask request, in snake_case."""

    region: str | None
    request: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FindTasks:
    """ListTasks: what a request came to whose token may be forgotten."""

    region: str | None
    cluster: str
    started_by: str


@dataclass(frozen=True, slots=True)
class DescribeTasks:
    """Look at all tasks of a step with one call per hundred."""

    region: str | None
    cluster: str
    arns: tuple[str, ...]
    essential: bool = False
    """Which containers are essential is needed too."""


@dataclass(frozen=True, slots=True)
class StopTasks:
    """StopTask for each; those that have stopped are fine. Then look at them."""

    region: str | None
    cluster: str
    arns: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create a SpotJob; one of this name that is there is this one. Then look at it."""

    name: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class GetJob:
    """Look at a SpotJob."""

    name: str


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete a SpotJob; one that is gone is fine. Then look at it."""

    name: str


Action = RunTask | FindTasks | DescribeTasks | StopTasks | CreateJob | GetJob | DeleteJob


# ---- the record of a run --------------------------------------------------------------------------------------------


class RecordChanged(Exception):
    """Somebody else has written this run: two processes must never drive one."""


class RecordUnreachable(Exception):
    """The record cannot be read or written now; the text says why."""


RECORD_FORMAT = 1
"""Of the records that this version writes. It rises when an older version would misread or lose what a newer wrote."""


def check_format(found: int, where: str) -> None:
    """Raises RecordUnreachable for a record of a newer version."""
    if found > RECORD_FORMAT:
        raise RecordUnreachable(
            f"{where} was written by a newer sequencer (format {found}, this one reads up to {RECORD_FORMAT}): "
            "take the run up with that one"
        )


class Records(Protocol):
    """Where runs are kept: a file, or the DynamoDB table SequenceRuns."""

    async def load(self, run_id: str) -> tuple[Run, int] | None:
        """The run and its version; None when there is none. Raises RecordUnreachable."""

    async def save(self, run: Run, version: int) -> int:
        """Write it over `version` (0: it must not be there yet); the new version.

        Raises RecordChanged, RecordUnreachable.
        """

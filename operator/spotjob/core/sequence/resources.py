"""The kind JobSequence: a sequence that the operator runs, once or by a schedule.

`steps[].parameters` are as in the file of the command line: RunTask's in snake_case, or the spec of a SpotJob.
The names of the schedule's fields, and what they mean, are those of batch/v1 CronJob.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from spotjob.core.resources import Condition
from spotjob.core.sequence.runs import Run
from spotjob.core.sequence.steps import MOST_STEPS, Region, Sequence, Step, StepName, When
from spotjob.core.wire import API_VERSION, GROUP, Metadata, Seconds, ShortText, Wire, atomic, cel, list_map, rules

KIND = "JobSequence"
SEQUENCE_FINALIZER = f"{GROUP}/sequence"
SEQUENCE_LABEL = f"{GROUP}/sequence"
"""On a SpotJob: the JobSequence whose step it is."""
SCHEDULE_LABEL = f"{GROUP}/schedule"
"""On a JobSequence: the scheduled one that created it."""
SCHEDULED_AT = f"{GROUP}/scheduled-at"
"""Annotation of the same: the time that it was due."""

MOST_ON_FAILURE = 50
SCHEDULED_NAME_LIMIT = 52
"""Longest name with a schedule: what it creates is called after it and the minute."""
SUCCESSFUL_KEPT, FAILED_KEPT = 3, 1

_OF_SCHEDULES = (
    "timeZone",
    "startingDeadlineSeconds",
    "concurrencyPolicy",
    "successfulJobsHistoryLimit",
    "failedJobsHistoryLimit",
)


class Concurrency(StrEnum):
    """What happens when a run is due while an earlier one goes on."""

    ALLOW = "Allow"
    FORBID = "Forbid"
    """It waits for the earlier one's end, until its starting deadline."""
    REPLACE = "Replace"
    """The earlier one is deleted; once it is gone, the new one begins."""


def _fixed(field: str) -> dict[str, str]:
    """Without a schedule the field stays as it was born: a run is under way."""
    same = f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})"
    message = f"{field} cannot be changed without a schedule; delete the JobSequence and create another"
    return cel(f"has(self.schedule) || ({same})", message, f".{field}", "FieldValueForbidden")


class JobSequenceSpec(Wire):
    """Which steps, in which order, and when."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.schedule) == has(oldSelf.schedule)",
                "schedule can be changed, but neither added nor taken away",
                ".schedule",
                "FieldValueForbidden",
            ),
            *(_fixed(field) for field in ("steps", "onFailure", "region")),
            *(cel(f"has(self.schedule) || !has(self.{f})", f"{f} needs a schedule", f".{f}") for f in _OF_SCHEDULES),
        )
    )
    steps: Annotated[
        tuple[Step, ...],
        Field(min_length=1, max_length=MOST_STEPS - MOST_ON_FAILURE, json_schema_extra=atomic()),
    ]
    """One after the other; the first failure ends the run."""
    on_failure: Annotated[tuple[Step, ...], Field(max_length=MOST_ON_FAILURE, json_schema_extra=atomic())] = ()
    """Steps that run only after a failure."""
    active_deadline_seconds: Seconds | None = None
    """The whole run, from its start; then the running step is stopped and the run fails. Clean-up steps still run."""
    region: Region | None = None
    """The AWS region of ecs_task steps that name none; absent means that of the operator."""
    suspend: bool = False
    """While true no further step is begun, and no run by the schedule. The step that runs goes on."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Delete the object, and its SpotJobs with it, this long after it has finished; absent means keep it."""
    schedule: Annotated[str, Field(max_length=128, pattern=r"^\S+( +\S+){4}$")] | None = None
    """Five fields, as cron(8) takes them. Each time a JobSequence with these steps is created."""
    time_zone: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$")] | None = None
    """Of the schedule, by its IANA name, such as Europe/Berlin; absent means UTC."""
    starting_deadline_seconds: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """A run that could not be begun for so long is left out; absent means that it is begun however late."""
    concurrency_policy: Concurrency | None = None
    """When an earlier run goes on: Allow, Forbid or Replace; absent means Allow."""
    successful_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many succeeded runs are kept; absent means 3."""
    failed_jobs_history_limit: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many failed runs are kept; absent means 1."""

    def sequence(self) -> Sequence:
        """What is to be run."""
        steps = (*self.steps, *(step.model_copy(update={"when": When.FAILURE}) for step in self.on_failure))
        if self.region is not None:
            steps = tuple(step.model_copy(update={"region": step.region or self.region}) for step in steps)
        return Sequence(steps=steps, timeout_seconds=self.active_deadline_seconds)


class SequencePhase(StrEnum):
    """Where a JobSequence stands. The last three are final."""

    SCHEDULED = "Scheduled"
    """It creates runs by its schedule."""
    SUSPENDED = "Suspended"
    """No further step, or no further run, is begun."""
    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    """A person ended it before its time."""

    @property
    def over(self) -> bool:
        return self in (SequencePhase.SUCCEEDED, SequencePhase.FAILED, SequencePhase.STOPPED)


class JobSequenceStatus(Wire):
    """What has become of it."""

    phase: SequencePhase | None = None
    progress: Annotated[str, Field(max_length=16)] | None = None
    """Steps that have ended, of all that will be run, such as 2/5."""
    step: StepName | None = None
    """The step whose turn it is; at the end, the one that failed."""
    message: ShortText = ""
    """What it waits for, or why it failed."""
    observed_generation: int | None = None
    start_time: datetime | None = None
    completion_time: datetime | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
    """What `kubectl wait` waits for: Complete, Failed, Suspended."""
    run: Run | None = None
    """The steps with their tries, tasks and ends."""
    active: Annotated[tuple[str, ...], Field(max_length=100, json_schema_extra=atomic())] = ()
    """Of a schedule: the runs that go on, by name; the first hundred."""
    last_schedule_time: datetime | None = None
    """When a run was last due and begun."""
    last_successful_time: datetime | None = None
    """When a run last succeeded."""


class JobSequence(Wire):
    """Steps that run one after the other: ECS tasks and SpotJobs."""

    metadata: Metadata
    spec: JobSequenceSpec
    status: JobSequenceStatus = JobSequenceStatus()

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def guarded(self) -> bool:
        """The finalizer is on."""
        return SEQUENCE_FINALIZER in self.metadata.finalizers

    @property
    def over(self) -> bool:
        return self.status.phase is not None and self.status.phase.over

    def as_owner(self) -> dict[str, Any]:
        """The ownerReference of what it creates: that goes with it."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.metadata.name,
            "uid": self.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

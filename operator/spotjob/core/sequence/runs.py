"""Where one run of a sequence stands. It is written before and after every call that has an effect, so that a run
can be taken up again at any point: by the token of a request, ECS tells what came of it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from spotjob.core.sequence.steps import Sequence, StepName
from spotjob.core.wire import ShortText, Wire


class StepState(StrEnum):
    """The life of a step. The first five are open, the others are final."""

    PENDING = "Pending"
    """Its turn has not come."""
    WAITING = "Waiting"
    """Until `next_at`: for capacity, or before the next try."""
    REQUESTING = "Requesting"
    """RunTask (or the SpotJob) is being asked for, and may have had its effect."""
    RUNNING = "Running"
    """All its tasks, or its SpotJob, are known by name."""
    STOPPING = "Stopping"
    """Its tasks were told to stop; what it then is, its `verdict` says."""
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"
    """By a person: the run was told to end."""
    SKIPPED = "Skipped"
    """It is not active, or an earlier step failed."""

    @property
    def over(self) -> bool:
        return self in (StepState.SUCCEEDED, StepState.FAILED, StepState.STOPPED, StepState.SKIPPED)


class RunState(StrEnum):
    """The life of a run."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    STOPPED = "Stopped"

    @property
    def over(self) -> bool:
        return self is not RunState.RUNNING


class ContainerEnd(Wire):
    """How one container of a step ended."""

    task: str = ""
    """ARN of its task; empty for a SpotJob."""
    name: str
    arn: str = ""
    exit_code: int | None = None
    reason: ShortText = ""


class EndedTask(Wire):
    """A task that was seen stopped while others of its step run on: ECS forgets it an hour later."""

    arn: str
    stop_code: str = ""
    stopped_reason: ShortText = ""
    task_definition: str = ""
    containers: tuple[ContainerEnd, ...] = ()


class StepRun(Wire):
    """One step of a run."""

    name: StepName
    state: StepState = StepState.PENDING
    tries: int = 0
    """Of RunTask or a SpotJob, from 1. A request that was refused for want of capacity is not a try."""
    failures: int = 0
    """Tries that failed by their own fault, since the run was last started or resumed: `retries` bounds them."""
    interruptions: int = 0
    """Tries that lost their host."""
    requests: int = 0
    """RunTask requests of this try, from 1: each has a token of its own."""
    started_at: datetime | None = None
    """When its first request was about to be sent."""
    requested_at: datetime | None = None
    """When the newest request was first about to be sent."""
    asked: bool = False
    """A request is under way: whoever finds this in a record does not know what came of it."""
    doubt: bool = False
    """An earlier sending of this request got no answer: whatever a later one is told, it may have had its effect."""
    waiting_since: datetime | None = None
    """Since when there has been no answer."""
    short_since: datetime | None = None
    """Since when there has been no capacity; until one of its tasks is seen running."""
    next_at: datetime | None = None
    """When it is asked for next."""
    missing_since: datetime | None = None
    """Since when ECS has not known one of its tasks."""
    stopping_since: datetime | None = None
    stop_asked_at: datetime | None = None
    """When its tasks were last told to stop."""
    ended_at: datetime | None = None
    tasks: tuple[str, ...] = ()
    """ARNs of the tasks of this try."""
    ended: tuple[EndedTask, ...] = ()
    """Those of them that have stopped, while others have not."""
    job: str | None = None
    """The SpotJob of this try."""
    status: str = ""
    """What ECS or the SpotJob last said: PROVISIONING, RUNNING, Requested/Booting and so on."""
    verdict: StepState | None = None
    """What a step that is being stopped will be; Pending in a run that was resumed: it begins anew."""
    containers: tuple[ContainerEnd, ...] = ()
    reason: Annotated[str, Field(max_length=128)] = ""
    """One word, such as OutOfMemory or CapacityUnavailable."""
    message: ShortText = ""
    result: dict[str, Any] | None = None
    """What the step itself said: a JSON object."""


class Run(Wire):
    """One run of a sequence."""

    id: str
    digest: str = ""
    """Of the document, so that a run is never taken up with another one."""
    state: RunState = RunState.RUNNING
    started_at: datetime
    ended_at: datetime | None = None
    steps: tuple[StepRun, ...] = ()
    failed: bool = False
    """A step failed and its failure counts, or the run's time was over."""
    stopping: bool = False
    """A person told the run to end."""
    message: ShortText = ""
    """Why it failed or was stopped."""

    @property
    def current(self) -> int | None:
        """The place of the step whose turn it is, from 0; None when all are over.

        One that is under way comes first, wherever it stands: in a run that was resumed, it may be a later one.
        """
        places = [place for place, step in enumerate(self.steps) if not step.state.over]
        begun = (place for place in places if self.steps[place].state is not StepState.PENDING)
        return next(begun, places[0] if places else None)

    def record(self) -> Run:
        """What is worth a write: when a step is looked at next is not."""
        looks = (StepState.RUNNING, StepState.STOPPING)
        steps = (s.model_copy(update={"next_at": None}) if s.state in looks else s for s in self.steps)
        return self.model_copy(update={"steps": tuple(steps)})

    def with_step(self, place: int, step: StepRun) -> Run:
        steps = (*self.steps[:place], step, *self.steps[place + 1 :])
        return self.model_copy(update={"steps": steps})


def new_run(sequence: Sequence, run_id: str, digest: str, now: datetime) -> Run:
    return Run(
        id=run_id, digest=digest, started_at=now, steps=tuple(StepRun(name=step.name) for step in sequence.steps)
    )


def started_by(run_id: str, place: int, tries: int) -> str:
    """RunTask's startedBy: at most 128 characters of letters, digits, - / _ ."""
    return f"sequencer/{run_id}/{place + 1}/{tries}"


def client_token(run_id: str, place: int, tries: int, requests: int) -> str:
    """RunTask's clientToken: at most 64 characters. The same request has the same token in every life of a run."""
    return hashlib.sha256(f"{run_id}/{place + 1}/{tries}/{requests}".encode()).hexdigest()


def job_name(run_id: str, place: int, tries: int) -> str:
    """The SpotJob of one try: its name is its token, since the API server admits it once. At most 63 characters."""
    return f"{run_id.lower()[:48].rstrip('-')}-{place + 1}-{tries}"

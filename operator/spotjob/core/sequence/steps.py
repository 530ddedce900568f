"""What a sequence asks for: an ordered list of steps, each one ECS RunTask request or one SpotJob.

The same models serve the YAML file of the command line (snake_case) and `.spec` of a JobSequence (camelCase).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from spotjob.core.wire import Seconds, Wire, atomic

MOST_STEPS = 500

StepName = Annotated[str, Field(min_length=1, max_length=128)]
"""Names need not be unique: a step is told apart by its place in the list."""
Region = Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", max_length=32)]
"""Of AWS, such as eu-central-1."""


class When(StrEnum):
    """In which course of the run a step's turn comes."""

    SUCCESS = "success"
    """Only while nothing has failed: an ordinary step."""
    ALWAYS = "always"
    """Whatever has happened: clean-up. `always: true` in the file."""
    FAILURE = "failure"
    """Only after a failure: the steps of `on_failure`, which stand at the end of the list."""


class Step(Wire):
    """One ECS task (or `count` of them), or one SpotJob."""

    name: StepName
    type: Literal["ecs_task", "spot_job"]
    parameters: Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] = {}
    """Of ecs_task: the RunTask request in snake_case. Of spot_job: the spec of a SpotJob."""
    active: bool = True
    """False: the step is skipped."""
    ignore_failure: bool = False
    """The run goes on, and is good, although this step failed."""
    always: bool = False
    """The step runs even after a failure."""
    timeout_seconds: Seconds | None = None
    """From the step's first request to its end, tries and waits included; then its tasks are stopped and it fails."""
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    """How often a failed step is tried again. An interruption of its host or by Fargate Spot does not count."""
    retry_delay_seconds: Annotated[int, Field(ge=0, le=86_400)] = 10
    """Before the first retry; it doubles each time, up to an hour."""
    region: Region | None = None
    """The AWS region of an ecs_task; absent means that of the Sequencer."""
    success_exit_codes: Annotated[
        tuple[Annotated[int, Field(ge=0, le=255)], ...], Field(min_length=1, max_length=64, json_schema_extra=atomic())
    ] = (0,)
    """The exit codes of a container that are good."""
    essential_only: bool = False
    """Only the essential containers of an ecs_task decide; otherwise all of them do."""
    when: Annotated[SkipJsonSchema[When], Field(exclude=True)] = When.SUCCESS
    """Set by the list that the step stands in; not a field of the file."""

    @property
    def count(self) -> int:
        """How many tasks an ecs_task asks for."""
        return int(self.parameters.get("count") or 1)

    @property
    def cluster(self) -> str:
        """The ECS cluster as the file names it; `default` is what ECS takes when none is named."""
        return str(self.parameters.get("cluster") or "default")

    @property
    def turn(self) -> When:
        return When.ALWAYS if self.always else self.when


class Sequence(Wire):
    """The whole list, steps of `on_failure` last."""

    steps: Annotated[tuple[Step, ...], Field(max_length=MOST_STEPS)] = ()
    timeout_seconds: Seconds | None = None
    """The whole run, from its start; then the running step is stopped and the run fails. Clean-up steps still run."""

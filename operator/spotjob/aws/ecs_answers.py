"""What ECS answers, as news for a run, and its refusals, sorted by what helps against them. Pure.

    a call failed
    |- it had no effect: Refused
    |  |- CAPACITY   no room, or a quota of running tasks is used up: told by the text, whatever the code is
    |  |- THROTTLED  by ECS, or by EC2 behind it, which ECS then calls an InvalidParameterException
    |  `- FINAL      anything else with a 4xx, and what fails before anything is sent: no credentials, no region
    |- it had its effect before: ConflictException names the tasks that hold the token: Launched
    `- nobody knows: a 5xx, no answer, half an answer, credentials that could not be fetched just now: Unknown

Sources: ECS API reference, RunTask and "Ensuring idempotency"; messages as people report them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConfigNotFound,
    ConfigParseError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
from botocore.parsers import ResponseParserError

from spotjob.aws.errors import LONGEST_TEXT, SERVER, THROTTLE
from spotjob.core.sequence.endings import NO_ROOM
from spotjob.core.sequence.ports import Container, Failure, Launched, Looked, Refusal, Refused, Task, Unknown

Raw = Mapping[str, Any]

CALL_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
"""Whatever botocore raises for a call."""
UNSENT = (
    ConfigNotFound,
    ConfigParseError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    NoRegionError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
)
"""Raised before anything is sent, and again each time."""
CONFLICT = "ConflictException"
UNANSWERED = SERVER | {"ServerException", "RequestTimeout", "RequestTimeoutException"}
TOO_MANY_CALLS = re.compile(r"Rate exceeded|Request ?limit ?exceeded", re.IGNORECASE)
NO_SUCH_TASK = re.compile(r"task was not found", re.IGNORECASE)


# ---- refusals -------------------------------------------------------------------------------------------------------


def trouble(operation: str, error: Exception) -> Refused | Unknown:
    """A call that failed, as news."""
    if isinstance(error, ClientError):
        return _told(operation, error)
    if isinstance(error, ParamValidationError):  # its text shows values, and those may be secrets
        return Refused(Refusal.FINAL, "ParamValidation", f"{operation}: botocore refuses the parameters")
    if isinstance(error, UNSENT):
        return Refused(Refusal.FINAL, type(error).__name__.removesuffix("Error"), f"{operation}: {error}")
    return Unknown(_short(f"{operation}: {error}"))


def _told(operation: str, error: ClientError) -> Refused | Unknown:
    said = error.response.get("Error", {})
    code, text = str(said.get("Code", "")), f"{operation}: {said.get('Message', '')}"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    # Also a ThrottlingException may say that a quota of running tasks is used up.
    if status < 500 and NO_ROOM.search(text):
        return Refused(Refusal.CAPACITY, code, _short(text))
    if code in THROTTLE or (status < 500 and TOO_MANY_CALLS.search(text)):
        return Refused(Refusal.THROTTLED, code, _short(text))
    if status >= 500 or code in UNANSWERED:
        return Unknown(_short(f"{code}: {text}"))
    return Refused(Refusal.FINAL, code, _short(text))


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."


def launched_before(error: Exception) -> Launched | None:
    """The tasks that an earlier request with the same token came to, though its parameters were others."""
    if not isinstance(error, ClientError) or error.response.get("Error", {}).get("Code") != CONFLICT:
        return None
    response: Raw = error.response
    arns = tuple(response.get("resourceIds") or ())
    return Launched(arns) if arns else None


def no_such_task(news: Refused) -> bool:
    """StopTask for a task that ECS has forgotten; a cluster that is not there is another matter."""
    return news.kind is Refusal.FINAL and NO_SUCH_TASK.search(news.message) is not None


# ---- answers --------------------------------------------------------------------------------------------------------


def launched(answer: Raw) -> Launched:
    """RunTask with status 200: some tasks may be placed and others refused."""
    arns = tuple(task["taskArn"] for task in answer.get("tasks", []))
    return Launched(arns, tuple(_failure(raw) for raw in answer.get("failures", [])))


def _failure(raw: Raw) -> Failure:
    return Failure(raw.get("reason") or "", raw.get("detail") or "", raw.get("arn") or "")


def looked(arns: Sequence[str], answers: Sequence[Raw]) -> Looked | Refused:
    """DescribeTasks, in the order of `arns`. What ECS does not show is missing; a failure with another reason says
    nothing about its task, so it is a look that did not come about."""
    failures = [_failure(raw) for answer in answers for raw in answer.get("failures", [])]
    if other := next((failure for failure in failures if failure.reason != "MISSING"), None):
        return Refused(Refusal.FINAL, other.reason, _short(f"DescribeTasks: {other.arn} {other.detail}".strip()))
    shown = {raw["taskArn"]: task_from(raw) for answer in answers for raw in answer.get("tasks", [])}
    tasks = tuple(shown[arn] for arn in arns if arn in shown)
    return Looked(tasks, missing=frozenset(arns).difference(shown))


def task_from(raw: Raw) -> Task:
    return Task(
        arn=raw["taskArn"],
        last_status=raw.get("lastStatus") or "",
        desired_status=raw.get("desiredStatus") or "",
        stop_code=raw.get("stopCode") or "",
        stopped_reason=raw.get("stoppedReason") or "",
        task_definition=raw.get("taskDefinitionArn") or "",
        containers=tuple(_container(each) for each in raw.get("containers", [])),
    )


def _container(raw: Raw) -> Container:
    return Container(
        name=raw.get("name") or "",
        exit_code=raw.get("exitCode"),
        reason=raw.get("reason") or "",
        arn=raw.get("containerArn") or "",
        runtime_id=raw.get("runtimeId") or "",
    )


# ---- task definitions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Definition:
    """What of a task definition is needed: it never changes under its ARN."""

    essential: frozenset[str]
    """Names of its essential containers; ECS takes a container for essential unless told otherwise."""
    logs: Mapping[str, Raw]
    """By container, the options of its awslogs driver; no entry for any other driver."""


def definition_from(answer: Raw) -> Definition:
    containers = answer["taskDefinition"].get("containerDefinitions", [])
    drivers = {raw["name"]: raw.get("logConfiguration", {}) for raw in containers}
    return Definition(
        frozenset(raw["name"] for raw in containers if raw.get("essential", True)),
        {name: raw.get("options", {}) for name, raw in drivers.items() if raw.get("logDriver") == "awslogs"},
    )


def log_stream(options: Raw, task: Task, container: str) -> str | None:
    """`prefix/container/task id`, or without a prefix (on EC2) the id that Docker gave the container."""
    if prefix := options.get("awslogs-stream-prefix"):
        return f"{prefix}/{container}/{task.arn.rpartition('/')[2]}"
    return next((each.runtime_id for each in task.containers if each.name == container and each.runtime_id), None)

"""Builders for the ECS simulator's tests: each states only what matters to the test."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.validate import ParamValidator

from spotjob.local.ecs import EcsSimulator, Timing
from spotjob.local.ecs.requests import service

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
TO_RUN = 0.2
"""Seconds from RunTask to RUNNING."""
TO_STOP = 0.15
"""Seconds from the end of the decisive container to STOPPED."""


def a_simulator(*containers: dict[str, Any], seed: int = 1, real: bool = False, **timing: Any) -> EcsSimulator:
    """A region with one task definition, `job`."""
    ecs = EcsSimulator(START, seed, timing=Timing(**timing), real=real)
    definition = {"family": "job", "containerDefinitions": list(containers) or [a_container()]}
    call(ecs, "RegisterTaskDefinition", **definition)
    return ecs


def a_container(name: str = "main", **more: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox"} | more


def call(ecs: EcsSimulator, action: str, **request: Any) -> dict[str, Any]:
    """One call, whose answer must be one that botocore's model of ECS knows."""
    answer = ecs.call(action, request)
    report = ParamValidator().validate(answer, service().operation_model(action).output_shape)
    assert not report.has_errors(), report.generate_report()
    return answer


def run(ecs: EcsSimulator, **request: Any) -> str:
    """Run one task; its ARN."""
    (task,) = call(ecs, "RunTask", **{"taskDefinition": "job"} | request)["tasks"]
    return str(task["taskArn"])


def look(ecs: EcsSimulator, arn: str, **request: Any) -> dict[str, Any]:
    (task,) = call(ecs, "DescribeTasks", tasks=[arn], **request)["tasks"]
    return dict(task)


def missing(ecs: EcsSimulator, arn: str) -> bool:
    return call(ecs, "DescribeTasks", tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}]


def listed(ecs: EcsSimulator, **request: Any) -> list[str]:
    return list(call(ecs, "ListTasks", **request)["taskArns"])


def exit_codes(task: dict[str, Any]) -> dict[str, Any]:
    """By container; `absent` where the answer has no such key."""
    return {one["name"]: one.get("exitCode", "absent") for one in task["containers"]}


def ending(task: dict[str, Any]) -> tuple[str, str, str]:
    return task["lastStatus"], task["stopCode"], task["stoppedReason"]


def wait(ecs: EcsSimulator, seconds: float) -> None:
    ecs.advance(ecs.now + timedelta(seconds=seconds))

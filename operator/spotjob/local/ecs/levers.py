"""The control endpoints of ECS, /_spotjob/ecs-...: what a user of real ECS cannot do.

GET  ecs-tasks: {"effects": how many RunTask calls have started tasks, "tasks": all tasks, forgotten ones too}
POST ecs-rule {family="*", container="*", exitCode=0|null, seconds=0.2|null, reason="", stopCode="", stoppedReason="",
         sigtermExitCode=143|null, log=[], times=null}: how containers of new tasks end (see rules.Script and Rule),
     ecs-failures {reason, detail="", times=1, placed=0}: the next RunTask calls place no more than so many tasks,
     ecs-missing {seconds}: new tasks are unknown for so long,
     ecs-timing {pendingSeconds, vanishSeconds, ...}: every delay of world.Timing,
     ecs-forget {arn}, ecs-interrupt {arn}, ecs-host-lost {arn, instanceId="i-0123456789abcdef0"}
DELETE ecs-orders: no rules and no failures any more
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from spotjob.local.ecs.records import Task
from spotjob.local.ecs.rules import Refusal, Rule, Script
from spotjob.local.ecs.service import EcsService

Seconds = Annotated[float, Field(ge=0, le=86400)]
Route = Callable[[Mapping[str, Any]], Any]


class _Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class _Script(_Order):
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = 0
    seconds: Seconds | None = 0.2
    reason: str = ""
    stop_code: str = ""
    stopped_reason: str = ""
    sigterm_exit_code: Annotated[int, Field(ge=0, le=255)] | None = 143
    log: list[str] = []


class _Rule(_Script):
    family: str = "*"
    container: str = "*"
    times: int | None = Field(default=None, ge=1)


class _Refusal(_Order):
    reason: str
    detail: str = ""
    times: int = Field(default=1, ge=1)
    placed: int = Field(default=0, ge=0)


class _Missing(_Order):
    seconds: Seconds


class _Timing(_Order):
    provisioning_seconds: Seconds | None = None
    pending_seconds: Seconds | None = None
    activating_seconds: Seconds | None = None
    deactivating_seconds: Seconds | None = None
    stopping_seconds: Seconds | None = None
    deprovisioning_seconds: Seconds | None = None
    missing_seconds: Seconds | None = None
    vanish_seconds: Seconds | None = None


class _Named(_Order):
    arn: str


class _LostHost(_Named):
    instance_id: str = "i-0123456789abcdef0"


class EcsLevers:
    """Handles the control endpoints. Raises ValidationError for an order without sense, EcsError for an unknown ARN."""

    def __init__(self, service: EcsService) -> None:
        self._service = service
        self.routes: Mapping[tuple[str, str], Route] = {
            ("GET", "ecs-tasks"): lambda _: self._tasks(),
            ("POST", "ecs-rule"): self._rule,
            ("POST", "ecs-failures"): self._failures,
            ("POST", "ecs-missing"): self._missing,
            ("POST", "ecs-timing"): self._timing,
            ("POST", "ecs-forget"): self._forget,
            ("POST", "ecs-interrupt"): self._interrupt,
            ("POST", "ecs-host-lost"): self._host_lost,
            ("DELETE", "ecs-orders"): lambda _: self._clear(),
        }

    def _tasks(self) -> dict[str, Any]:
        with self._service.open() as ecs:
            return {"effects": ecs.effects, "tasks": [_shown(task) for task in ecs.tasks()]}

    def _rule(self, body: Mapping[str, Any]) -> None:
        order = _Rule.model_validate(body)
        script = Script(**order.model_dump(include=set(_Script.model_fields)))
        with self._service.open() as ecs:
            ecs.order(Rule(script, order.family, order.container, order.times))

    def _failures(self, body: Mapping[str, Any]) -> None:
        order = _Refusal.model_validate(body)
        with self._service.open() as ecs:
            ecs.refuse(Refusal(**order.model_dump()))

    def _missing(self, body: Mapping[str, Any]) -> None:
        order = _Missing.model_validate(body)
        with self._service.open() as ecs:
            ecs.timing.missing_seconds = order.seconds

    def _timing(self, body: Mapping[str, Any]) -> None:
        order = _Timing.model_validate(body)
        with self._service.open() as ecs:
            for name, seconds in order.model_dump(exclude_none=True).items():
                setattr(ecs.timing, name, seconds)

    def _forget(self, body: Mapping[str, Any]) -> None:
        order = _Named.model_validate(body)
        with self._service.open() as ecs:
            ecs.forget(order.arn)

    def _interrupt(self, body: Mapping[str, Any]) -> None:
        order = _Named.model_validate(body)
        with self._service.open() as ecs:
            ecs.interrupt(order.arn)

    def _host_lost(self, body: Mapping[str, Any]) -> None:
        order = _LostHost.model_validate(body)
        with self._service.open() as ecs:
            ecs.lose_host(order.arn, order.instance_id)

    def _clear(self) -> None:
        with self._service.open() as ecs:
            ecs.clear_orders()


def _shown(task: Task) -> dict[str, Any]:
    return {
        "arn": task.arn,
        "run": task.run,
        "cluster": task.cluster.name,
        "taskDefinition": f"{task.definition.family}:{task.definition.revision}",
        "clientToken": task.token,
        "startedBy": task.started_by,
        "lastStatus": str(task.last_status),
        "desiredStatus": task.desired_status,
        "stopCode": task.cause.stop_code if task.cause else "",
        "stoppedReason": task.cause.stopped_reason if task.cause else "",
        "exitCodes": {container.name: container.exit_code for container in task.containers},
        "createdAt": task.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "forgotten": task.forgotten,
    }

"""What the simulator remembers: clusters, task definitions, tasks and their containers, and how ECS shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from spotjob.local.ecs.rules import Script

Shown = dict[str, Any]


class TaskStatus(StrEnum):
    """lastStatus of a task, in the order of its life (ECS Developer Guide, task lifecycle)."""

    PROVISIONING = "PROVISIONING"
    PENDING = "PENDING"
    ACTIVATING = "ACTIVATING"
    RUNNING = "RUNNING"
    DEACTIVATING = "DEACTIVATING"
    STOPPING = "STOPPING"
    DEPROVISIONING = "DEPROVISIONING"
    STOPPED = "STOPPED"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where tasks run. Its capacity has no end; what it refuses is ordered (see rules.Refusal)."""

    arn: str
    name: str
    tags: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Definition:
    """One revision of a task definition."""

    arn: str
    family: str
    revision: int
    data: Mapping[str, Any]
    """The RegisterTaskDefinition request, defaults filled in."""
    registered: datetime

    @property
    def containers(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self.data["containerDefinitions"]
        return found

    def describe(self) -> Shown:
        shown = {name: value for name, value in self.data.items() if name != "tags"}
        own = {"taskDefinitionArn": self.arn, "revision": self.revision, "status": "ACTIVE"}
        return shown | own | {"registeredAt": self.registered}


@dataclass(slots=True)
class Container:
    """One container of a task."""

    arn: str
    definition: Mapping[str, Any]
    script: Script | None
    """What it does; None: something real runs, and says how it ended."""
    last_status: str = "PENDING"
    exit_code: int | None = None
    reason: str = ""
    runtime_id: str = ""

    @property
    def name(self) -> str:
        return str(self.definition["name"])

    @property
    def essential(self) -> bool:
        return bool(self.definition["essential"])

    @property
    def ended(self) -> bool:
        return self.last_status == "STOPPED"

    @property
    def stop_timeout(self) -> float:
        """Seconds from SIGTERM to SIGKILL; 30 is the default of the ECS agent."""
        return float(self.definition.get("stopTimeout", 30))

    def describe(self, task_arn: str) -> Shown:
        shown = {
            "containerArn": self.arn,
            "taskArn": task_arn,
            "name": self.name,
            "image": self.definition["image"],
            "lastStatus": self.last_status,
            "healthStatus": "UNKNOWN",
            "networkBindings": [],
            "networkInterfaces": [],
            "cpu": str(self.definition["cpu"]),
        }
        # Absent, not null or 0, as long as ECS does not know it.
        known = {"exitCode": self.exit_code, "reason": self.reason or None, "runtimeId": self.runtime_id or None}
        return shown | {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a task ends."""

    stop_code: str
    stopped_reason: str


@dataclass(slots=True)
class Task:
    """One task."""

    serial: int
    run: int
    """Which effect of a RunTask call it came from, from 1 on."""
    arn: str
    cluster: Cluster
    definition: Definition
    request: Mapping[str, Any]
    """The RunTask request."""
    containers: Sequence[Container]
    created: datetime
    visible_at: datetime
    """Until then DescribeTasks, ListTasks and StopTask do not know it."""
    tags: Sequence[Mapping[str, str]] = ()
    last_status: TaskStatus = TaskStatus.PROVISIONING
    cause: Cause | None = None
    started: datetime | None = None
    stopping: datetime | None = None
    wind_up_from: datetime | None = None
    """STOPPING lasts until then, at least."""
    stopped: datetime | None = None
    forgotten: bool = False
    version: int = 1

    @property
    def id(self) -> str:
        return self.arn.rpartition("/")[2]

    @property
    def token(self) -> str:
        return str(self.request.get("clientToken", ""))

    @property
    def started_by(self) -> str:
        return str(self.request.get("startedBy", ""))

    @property
    def launch_type(self) -> str:
        """FARGATE also for its capacity providers."""
        providers = [one["capacityProvider"] for one in self.request.get("capacityProviderStrategy", ())]
        if providers:
            return "FARGATE" if providers[0].startswith("FARGATE") else "EC2"
        return str(self.request.get("launchType", "EC2"))

    @property
    def desired_status(self) -> str:
        return "STOPPED" if self.cause else "RUNNING"

    @property
    def over(self) -> bool:
        return self.last_status is TaskStatus.STOPPED

    def container(self, name: str) -> Container:
        return next(one for one in self.containers if one.name == name)

    def enter(self, status: TaskStatus) -> None:
        self.last_status = status
        self.version += 1

    def brief(self) -> Shown:
        """All that a repeated RunTask shows of a task that has stopped (ECS Developer Guide, ECS_Idempotency)."""
        status = {"lastStatus": str(self.last_status), "desiredStatus": self.desired_status}
        return {"taskArn": self.arn} | status

    def describe(self, *, tags: bool = False) -> Shown:
        shown = self.brief() | {
            "clusterArn": self.cluster.arn,
            "taskDefinitionArn": self.definition.arn,
            "containers": [one.describe(self.arn) for one in self.containers],
            "overrides": dict(self.request.get("overrides", {})) or {"containerOverrides": []},
            "group": self.request.get("group", f"family:{self.definition.family}"),
            "createdAt": self.created,
            "attachments": [],
            "attributes": [],
            "healthStatus": "UNKNOWN",
            "connectivity": "CONNECTED",
            "enableExecuteCommand": False,
            "version": self.version,
            "tags": list(self.tags) if tags else [],
        }
        return shown | self._sizes() | self._where() | self._when_and_why()

    def _sizes(self) -> Shown:
        overrides = self.request.get("overrides", {})
        sizes = {name: overrides.get(name, self.definition.data.get(name)) for name in ("cpu", "memory")}
        return {name: value for name, value in sizes.items() if value is not None}

    def _where(self) -> Shown:
        providers = self.request.get("capacityProviderStrategy")
        where = {"launchType": self.launch_type}
        if providers:
            where |= {"capacityProviderName": providers[0]["capacityProvider"]}
        if self.launch_type == "FARGATE":
            where |= {"platformVersion": "1.4.0", "platformFamily": "Linux"}
        return where

    def _when_and_why(self) -> Shown:
        facts: Shown = {
            "startedBy": self.started_by or None,
            "startedAt": self.started,
            "stoppingAt": self.stopping,
            "stoppedAt": self.stopped,
            "stopCode": self.cause.stop_code if self.cause else None,
            "stoppedReason": self.cause.stopped_reason if self.cause else None,
        }
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(slots=True)
class Remembered:
    """What a client token has led to."""

    request: str
    """The request that it came with, frozen."""
    tasks: Sequence[Task]
    failures: Sequence[Mapping[str, str]]
    at: datetime = field(kw_only=True)

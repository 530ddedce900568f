"""The state of ECS in one region, its clock, and its chance.

Nothing here waits or reads a clock: `advance` moves time, and everything that falls due on the way happens in
order, at its own time. Two worlds with one seed and one history are equal, ids included.
"""

from __future__ import annotations

import random
import uuid
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from spotjob.local.ec2 import ACCOUNT
from spotjob.local.ecs.errors import no_such_cluster
from spotjob.local.ecs.logs import Logs
from spotjob.local.ecs.records import Cluster, Definition, Remembered, Task
from spotjob.local.ecs.rules import Refusal, Rules
from spotjob.local.timeline import Timeline

_MOST_HISTORY = 20_000


@dataclass(slots=True)
class Timing:
    """How long things take, in seconds. May be changed at any time and counts from the next event on."""

    provisioning_seconds: float = 0.05
    pending_seconds: float = 0.1
    """A scripted container starts after this time; a real one when it does."""
    activating_seconds: float = 0.05
    deactivating_seconds: float = 0.05
    stopping_seconds: float = 0.05
    """At least: from the first SIGTERM on, until the last container has ended."""
    deprovisioning_seconds: float = 0.05
    missing_seconds: float = 0.0
    """A new task is unknown to DescribeTasks, ListTasks and StopTask for this long (ECS is eventually consistent)."""
    vanish_seconds: float = 3600.0
    """STOPPED to forgotten; a client token is kept this much longer than its tasks live."""


@dataclass(frozen=True, slots=True)
class Order:
    """What something real has to do for a container."""

    what: Literal["start", "stop"]
    """start, or stop: SIGTERM, the grace, SIGKILL."""
    task: Task
    container: str
    grace_seconds: float = 0.0


@dataclass
class World(Timeline):
    """Everything that the simulator remembers."""

    seed: int
    region: str
    timing: Timing
    real: bool = False
    """Containers without a rule are real ones: the simulator orders them, and is told how they end."""
    clusters: dict[str, Cluster] = field(default_factory=dict)
    """By name."""
    definitions: dict[str, list[Definition]] = field(default_factory=dict)
    """By family; the newest revision is the last."""
    tasks: dict[str, Task] = field(default_factory=dict)
    """By ARN, in the order of their creation, until they are forgotten."""
    tokens: dict[tuple[str, str], Remembered] = field(default_factory=dict)
    """By cluster and token."""
    rules: Rules = field(default_factory=Rules)
    refusals: list[Refusal] = field(default_factory=list)
    logs: Logs = field(default_factory=Logs)
    orders: list[Order] = field(default_factory=list)
    history: deque[Task] = field(default_factory=lambda: deque(maxlen=_MOST_HISTORY))
    """The forgotten tasks too."""
    effects: int = 0
    """How many RunTask calls have started something."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chance = random.Random(self.seed)  # noqa: S311 -- ids of a simulation, to be repeatable

    # ---- names

    def arn(self, kind: str, rest: str) -> str:
        return f"arn:aws:ecs:{self.region}:{ACCOUNT}:{kind}/{rest}"

    def new_id(self) -> str:
        """32 hex digits, as the ids of tasks are."""
        return f"{self._chance.getrandbits(128):032x}"

    def new_uuid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    # ---- finding

    def cluster(self, name: str | None) -> Cluster:
        """By name or ARN; the default one without either. Raises ClusterNotFoundException."""
        found = self.clusters.get((name or "default").rpartition("/")[2])
        if found is None or (name and ":" in name and name != found.arn):
            raise no_such_cluster()
        return found

    def listed(self, cluster: Cluster) -> list[Task]:
        """The cluster's tasks that the API shows, oldest first."""
        return [task for task in self.tasks.values() if task.cluster is cluster and self.visible(task)]

    def find(self, cluster: Cluster, task: str) -> Task | None:
        """A task by id or ARN, if the API shows it in this cluster."""
        found = self.tasks.get(self.task_arn(cluster, task))
        return found if found and found.cluster is cluster and self.visible(found) else None

    def task_arn(self, cluster: Cluster, task: str) -> str:
        return task if task.startswith("arn:") else self.arn("task", f"{cluster.name}/{task}")

    def visible(self, task: Task) -> bool:
        return self.now >= task.visible_at

    def later(self, seconds: float) -> datetime:
        return self.now + timedelta(seconds=seconds)

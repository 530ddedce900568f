"""ECS in one region, as a pure model: no I/O, no clock, no threads, equal results for equal seeds and calls.

Requests and answers are dicts as boto3 takes and gives them. Use it in process with a clock of your own
(`advance`), or through spotjob.local.aws_server over HTTP.

    ecs = EcsSimulator(datetime(2026, 1, 1, tzinfo=UTC), seed=1)
    ecs.call("RegisterTaskDefinition", {"family": "report", "containerDefinitions": [...]})
    ecs.order(Rule(Script(exit_code=1), family="report", times=1))
    ecs.call("RunTask", {"taskDefinition": "report"})
    ecs.advance(ecs.now + timedelta(seconds=1))

It has the account's state and its answers, not its quotas, throttles or IAM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from spotjob.local.ecs import definitions, lifecycle, queries, run_task
from spotjob.local.ecs.errors import EcsError, not_simulated
from spotjob.local.ecs.records import Container, Task
from spotjob.local.ecs.requests import Request, check
from spotjob.local.ecs.rules import Refusal, Rule
from spotjob.local.ecs.world import Order, Timing, World

Answer = dict[str, Any]

_ACTIONS: Mapping[str, Callable[[World, Request], Answer]] = {
    "CreateCluster": definitions.create_cluster,
    "DescribeClusters": definitions.describe_clusters,
    "RegisterTaskDefinition": definitions.register,
    "DescribeTaskDefinition": definitions.describe_definition,
    "RunTask": run_task.run_task,
    "DescribeTasks": queries.describe_tasks,
    "ListTasks": queries.list_tasks,
    "StopTask": queries.stop_task,
}
ACTIONS = frozenset(_ACTIONS)


class EcsSimulator:
    """The calls, and the levers that real ECS does not have. There is a cluster `default` from the start."""

    def __init__(
        self, start: datetime, seed: int, *, region: str = "us-east-1", timing: Timing | None = None, real: bool = False
    ) -> None:
        """`real`: containers that no rule speaks for are started and stopped by whoever takes the orders."""
        self._world = World(start, seed, region, timing or Timing(), real)
        self.call("CreateCluster", {})

    # ---- time

    @property
    def now(self) -> datetime:
        return self._world.now

    def advance(self, now: datetime) -> None:
        """Let time pass until `now`; what falls due happens on the way."""
        self._world.advance(now)

    @property
    def next_event_at(self) -> datetime | None:
        """When something will happen by itself."""
        return self._world.next_event_at

    @property
    def timing(self) -> Timing:
        return self._world.timing

    # ---- the API

    def call(self, action: str, request: Request) -> Answer:
        """One ECS call. Raises EcsError."""
        if action not in _ACTIONS:
            raise not_simulated(action)
        check(action, request)
        return _ACTIONS[action](self._world, request)

    def log_events(self, request: Request) -> Answer | None:
        """CloudWatch Logs' GetLogEvents; None for a group that no container has written to. Raises EcsError."""
        return self._world.logs.events(request)

    # ---- levers

    def order(self, rule: Rule) -> None:
        """From now on, the containers of new tasks follow this rule."""
        self._world.rules.order(rule)

    def refuse(self, refusal: Refusal) -> None:
        """The next RunTask calls do not place all tasks."""
        self._world.refusals.append(refusal)

    def clear_orders(self) -> None:
        """No rules and no refusals any more."""
        self._world.rules.clear()
        self._world.refusals.clear()

    # Each of these raises EcsError for an unknown ARN.

    def interrupt(self, arn: str) -> None:
        """A Fargate Spot interruption."""
        lifecycle.interrupt(self._world, self.task(arn))

    def lose_host(self, arn: str, instance_id: str) -> None:
        """The EC2 instance under the task is terminated."""
        lifecycle.lose_host(self._world, self.task(arn), instance_id)

    def forget(self, arn: str) -> None:
        """ECS no longer knows the task, as an hour after its stop."""
        lifecycle.forget(self._world, self.task(arn))

    # ---- what real containers do

    def started(self, arn: str, container: str, runtime_id: str) -> None:
        task, found = self._container(arn, container)
        lifecycle.started(self._world, task, found, runtime_id)

    def cannot_start(self, arn: str, container: str, reason: str) -> None:
        task, found = self._container(arn, container)
        lifecycle.cannot_start(self._world, task, found, reason)

    def ended(self, arn: str, container: str, exit_code: int | None, reason: str = "") -> None:
        task, found = self._container(arn, container)
        lifecycle.ended(self._world, task, found, exit_code, reason)

    def wrote(self, arn: str, container: str, lines: Sequence[str]) -> None:
        """All that the container has written so far."""
        task, found = self._container(arn, container)
        self._world.logs.replace(task, found, lines, self.now)

    def take_orders(self) -> list[Order]:
        """What real containers are to do since the last time, oldest first."""
        orders, self._world.orders = self._world.orders, []
        return orders

    # ---- what can be seen from the other side

    @property
    def effects(self) -> int:
        """How many RunTask calls have started tasks."""
        return self._world.effects

    def task(self, arn: str) -> Task:
        """One task, also while the API does not show it yet."""
        found = self._world.tasks.get(arn)
        if found is None:
            raise EcsError("TaskNotFound", f"There is no task {arn}")
        return found

    def tasks(self) -> Sequence[Task]:
        """All tasks that ever were, up to a bound; the forgotten ones too."""
        return tuple(self._world.history)

    def _container(self, arn: str, name: str) -> tuple[Task, Container]:
        task = next(task for task in reversed(self._world.history) if task.arn == arn)
        return task, task.container(name)

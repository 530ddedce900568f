"""DescribeTasks, ListTasks and StopTask."""

from __future__ import annotations

from typing import Any

from spotjob.local.ecs import lifecycle
from spotjob.local.ecs.errors import invalid, not_simulated
from spotjob.local.ecs.records import Cause, Task
from spotjob.local.ecs.requests import Request, page
from spotjob.local.ecs.world import World

_MOST_DESCRIBED = 100
_OF_SERVICES = ("containerInstance", "serviceName", "daemonName")


def describe_tasks(world: World, request: Request) -> dict[str, Any]:
    """DescribeTasks. A task that is not, or not yet, or no longer known is a failure `MISSING` within the answer."""
    cluster = world.cluster(request.get("cluster"))
    if not 1 <= len(request["tasks"]) <= _MOST_DESCRIBED:
        raise invalid(f"tasks must name 1 to {_MOST_DESCRIBED} tasks")
    tags = "TAGS" in request.get("include", ())
    shown, failures = [], []
    for name in request["tasks"]:
        task = world.find(cluster, name)
        if task is None:
            failures.append({"arn": world.task_arn(cluster, name), "reason": "MISSING"})
        else:
            shown.append(task.describe(tags=tags))
    return {"tasks": shown, "failures": failures}


def list_tasks(world: World, request: Request) -> dict[str, Any]:
    """ListTasks: those whose desired status is RUNNING, unless the request says STOPPED."""
    cluster = world.cluster(request.get("cluster"))
    for name in _OF_SERVICES:
        if name in request:
            raise not_simulated(f"ListTasks.{name}")
    if "startedBy" in request and "family" in request:
        raise invalid("startedBy must be the only filter")
    found = {task.serial: task.arn for task in world.listed(cluster) if _wanted(task, request)}
    cut, token = page(request, sorted(found))
    answer: dict[str, Any] = {"taskArns": [found[serial] for serial in cut]}
    return answer | ({"nextToken": token} if token else {})


def _wanted(task: Task, request: Request) -> bool:
    return (
        task.desired_status == request.get("desiredStatus", "RUNNING")
        and request.get("startedBy") in (None, task.started_by)
        and request.get("family") in (None, task.definition.family)
        and request.get("launchType") in (None, task.launch_type)
    )


def stop_task(world: World, request: Request) -> dict[str, Any]:
    """StopTask. One that has stopped, or is about to, is answered as it is."""
    cluster = world.cluster(request.get("cluster"))
    task = world.find(cluster, request["task"])
    if task is None:
        raise invalid("The referenced task was not found.")
    lifecycle.stop(world, task, Cause("UserInitiated", request.get("reason") or "Task stopped by user"))
    return {"task": task.describe(tags=True)}

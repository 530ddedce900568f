"""RunTask: once for each client token, with tasks that find no place among its answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from spotjob.local.ecs import definitions, lifecycle
from spotjob.local.ecs.errors import EcsError, invalid, refused
from spotjob.local.ecs.records import Cluster, Container, Definition, Remembered, Task
from spotjob.local.ecs.requests import Request, check_run_task
from spotjob.local.ecs.rules import Script
from spotjob.local.ecs.world import World

_TOKEN_HOURS = 24


def run_task(world: World, request: Request) -> dict[str, Any]:
    check_run_task(request)
    cluster = world.cluster(request.get("cluster"))
    known = _remembered(world, cluster, request)
    if known is not None:
        return _again(known)
    definition = _definition(world, request)
    tasks, failures = _place(world, cluster, definition, request)
    _remember(world, cluster, request, tasks, failures)
    return {"tasks": [task.describe(tags=True) for task in tasks], "failures": list(failures)}


# ---- once for each token


def _remembered(world: World, cluster: Cluster, request: Request) -> Remembered | None:
    """What the token has led to before. Raises ConflictException when that was with other parameters."""
    _drop_old_tokens(world)
    known = world.tokens.get((cluster.name, request.get("clientToken", "")))
    if known is not None and known.request != _frozen(request):
        message = "The client token was used before with other parameters."
        raise EcsError("ConflictException", message, [task.arn for task in known.tasks])
    return known


def _drop_old_tokens(world: World) -> None:
    """A token lives for 24 h, or for an hour after its tasks, whatever is less (ECS_Idempotency)."""
    world.tokens = {key: known for key, known in world.tokens.items() if _lives(world, known)}


def _lives(world: World, known: Remembered) -> bool:
    if world.now >= known.at + timedelta(hours=_TOKEN_HOURS):
        return False
    if not known.tasks:
        return world.now < known.at + timedelta(seconds=world.timing.vanish_seconds)
    return not all(task.forgotten for task in known.tasks)


def _again(known: Remembered) -> dict[str, Any]:
    shown = [task.brief() if task.over else task.describe(tags=True) for task in known.tasks]
    return {"tasks": shown, "failures": list(known.failures)}


def _remember(
    world: World, cluster: Cluster, request: Request, tasks: Sequence[Task], failures: Sequence[Mapping[str, str]]
) -> None:
    token = request.get("clientToken")
    if token:
        world.tokens[cluster.name, token] = Remembered(_frozen(request), tasks, failures, at=world.now)


def _frozen(request: Request) -> str:
    """Name and ARN of a cluster are one; it is part of the token's scope."""
    return json.dumps({key: value for key, value in request.items() if key != "cluster"}, sort_keys=True)


# ---- what is to run


def _definition(world: World, request: Request) -> Definition:
    """The definition, if the request fits it. Raises ClientException or InvalidParameterException."""
    found = definitions.find(world, request["taskDefinition"])
    if found is None:
        raise refused("TaskDefinition not found.")
    names = {one["name"] for one in found.containers}
    for override in request.get("overrides", {}).get("containerOverrides", ()):
        if override.get("name") not in names:
            raise invalid(
                f"Override for container named {override.get('name')} is not a container in the TaskDefinition."
            )
    # Fargate wants this of every task; here only those definitions are held to it that say awsvpc themselves.
    if found.data.get("networkMode") == "awsvpc" and "networkConfiguration" not in request:
        raise invalid("Network Configuration must be provided when networkMode 'awsvpc' is specified.")
    return found


# ---- places


def _place(
    world: World, cluster: Cluster, definition: Definition, request: Request
) -> tuple[list[Task], list[dict[str, str]]]:
    count = request.get("count", 1)
    refusal = world.refusals[0] if world.refusals else None
    if refusal is None:
        return _launch(world, cluster, definition, request, count), []
    refusal.times -= 1
    if refusal.times <= 0:
        world.refusals.remove(refusal)
    placed = min(refusal.placed, count)
    failure = {"reason": refusal.reason} | ({"detail": refusal.detail} if refusal.detail else {})
    return _launch(world, cluster, definition, request, placed), [dict(failure) for _ in range(count - placed)]


def _launch(world: World, cluster: Cluster, definition: Definition, request: Request, count: int) -> list[Task]:
    if count:
        world.effects += 1
    tasks = [_new_task(world, cluster, definition, request) for _ in range(count)]
    for task in tasks:
        lifecycle.launch(world, task)
    return tasks


def _new_task(world: World, cluster: Cluster, definition: Definition, request: Request) -> Task:
    arn = world.arn("task", f"{cluster.name}/{world.new_id()}")
    return Task(
        serial=world.serial(),
        run=world.effects,
        arn=arn,
        cluster=cluster,
        definition=definition,
        request=request,
        containers=_containers(world, definition, arn),
        created=world.now,
        visible_at=world.later(world.timing.missing_seconds),
        tags=_tags(definition, request),
    )


def _containers(world: World, definition: Definition, task_arn: str) -> list[Container]:
    scripts = world.rules.take(definition.family, [one["name"] for one in definition.containers])
    otherwise = None if world.real else Script()
    path = task_arn.partition(":task/")[2]
    return [
        Container(world.arn("container", f"{path}/{world.new_uuid()}"), one, scripts.get(one["name"], otherwise))
        for one in definition.containers
    ]


def _tags(definition: Definition, request: Request) -> list[Mapping[str, str]]:
    """The request's tags, and those of the definition if they are to be handed down; the request's win."""
    inherited = definition.data.get("tags", ()) if request.get("propagateTags") == "TASK_DEFINITION" else ()
    merged = {tag["key"]: tag for tag in (*inherited, *request.get("tags", ()))}
    return list(merged.values())

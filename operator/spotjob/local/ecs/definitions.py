"""Clusters and task definitions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from spotjob.local.ecs.errors import invalid, refused
from spotjob.local.ecs.records import Cluster, Definition, Task, TaskStatus
from spotjob.local.ecs.requests import Request
from spotjob.local.ecs.world import World

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_CONTAINER_DEFAULTS: Mapping[str, Any] = {
    "cpu": 0,
    "essential": True,
    "environment": [],
    "mountPoints": [],
    "volumesFrom": [],
    "portMappings": [],
}


def create_cluster(world: World, request: Request) -> dict[str, Any]:
    """CreateCluster. One that is there is left as it is."""
    name = request.get("clusterName", "default")
    if not _NAME.fullmatch(name):
        raise invalid("Invalid identifier: a cluster's name has 1 to 255 letters, digits, - and _")
    if name not in world.clusters:
        world.clusters[name] = Cluster(world.arn("cluster", name), name, tuple(request.get("tags", ())))
    return {"cluster": _shown(world, world.clusters[name], tags=True)}


def describe_clusters(world: World, request: Request) -> dict[str, Any]:
    """DescribeClusters. A cluster that is not there is a failure within the answer."""
    found, failures = [], []
    for name in request.get("clusters") or ["default"]:
        cluster = world.clusters.get(name.rpartition("/")[2])
        if cluster is None:
            arn = name if ":" in name else world.arn("cluster", name)
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append(_shown(world, cluster, tags="TAGS" in request.get("include", ())))
    return {"clusters": found, "failures": failures}


def _shown(world: World, cluster: Cluster, *, tags: bool) -> dict[str, Any]:
    tasks = [task for task in world.tasks.values() if task.cluster is cluster]
    return {
        "clusterArn": cluster.arn,
        "clusterName": cluster.name,
        "status": "ACTIVE",
        "registeredContainerInstancesCount": 0,
        "runningTasksCount": sum(task.last_status is TaskStatus.RUNNING for task in tasks),
        "pendingTasksCount": sum(_on_its_way(task) for task in tasks),
        "activeServicesCount": 0,
        "statistics": [],
        "tags": list(cluster.tags) if tags else [],
        "settings": [],
        "capacityProviders": ["FARGATE", "FARGATE_SPOT"],
        "defaultCapacityProviderStrategy": [],
    }


def _on_its_way(task: Task) -> bool:
    return task.last_status in (TaskStatus.PROVISIONING, TaskStatus.PENDING, TaskStatus.ACTIVATING)


def register(world: World, request: Request) -> dict[str, Any]:
    """RegisterTaskDefinition."""
    family = request["family"]
    if not _NAME.fullmatch(family):
        raise refused("Invalid family: it has 1 to 255 letters, digits, - and _")
    containers = [{**_CONTAINER_DEFAULTS, **one} for one in request["containerDefinitions"]]
    _check_containers(containers)
    revisions = world.definitions.setdefault(family, [])
    number = len(revisions) + 1
    arn = world.arn("task-definition", f"{family}:{number}")
    data = {"volumes": [], "placementConstraints": [], **request, "containerDefinitions": containers}
    revisions.append(Definition(arn, family, number, data, world.now))
    return {"taskDefinition": revisions[-1].describe(), "tags": list(request.get("tags", ()))}


def _check_containers(containers: Sequence[Mapping[str, Any]]) -> None:
    if not containers:
        raise refused("Container list cannot be empty.")
    names = [one.get("name") for one in containers]
    if not all(names) or len(set(names)) < len(names):
        raise refused("Every container needs a name of its own.")
    if not all(one.get("image") for one in containers):
        raise refused("Container.image should not be null or empty.")
    if not any(one["essential"] for one in containers):
        raise refused("At least one container must be essential.")
    if not all(0 <= one.get("stopTimeout", 0) <= 120 for one in containers):
        raise refused("stopTimeout must be between 0 and 120 seconds.")


def describe_definition(world: World, request: Request) -> dict[str, Any]:
    """DescribeTaskDefinition."""
    found = find(world, request["taskDefinition"])
    if found is None:
        raise refused("Unable to describe task definition.")
    tags = list(found.data.get("tags", ())) if "TAGS" in request.get("include", ()) else []
    return {"taskDefinition": found.describe(), "tags": tags}


def find(world: World, name: str) -> Definition | None:
    """By `family` (its newest revision), `family:revision` or ARN."""
    family, _, revision = name.rpartition("/")[2].partition(":")
    known = world.definitions.get(family, [])
    if name.startswith("arn:"):
        return next((one for one in known if one.arn == name), None)
    if not revision:
        return known[-1] if known else None
    return next((one for one in known if str(one.revision) == revision), None)

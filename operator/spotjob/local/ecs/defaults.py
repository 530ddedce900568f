"""What the account has from the start: the clusters and task definitions that the examples name."""

from __future__ import annotations

from spotjob.local.ecs.simulator import EcsSimulator

_CLUSTERS = ("yourcluster", "yourcluster2")
_FAMILY, _REVISIONS = "test-task-def", 2
IMAGE = "spotjob-test:1"
LOG_GROUP = "/ecs/test-task-def"


def fill(ecs: EcsSimulator, image: str) -> None:
    """Clusters yourcluster and yourcluster2, and test-task-def:1 and :2, which say hello and exit with 0."""
    for name in _CLUSTERS:
        ecs.call("CreateCluster", {"clusterName": name})
    container = {
        "name": "main",
        "image": image,
        "command": ["/bin/sh", "-c", "echo hello"],
        "logConfiguration": {
            "logDriver": "awslogs",
            "options": {"awslogs-group": LOG_GROUP, "awslogs-region": "us-east-1", "awslogs-stream-prefix": "ecs"},
        },
    }
    for _ in range(_REVISIONS):
        sizes = {"cpu": "256", "memory": "512"}
        ecs.call("RegisterTaskDefinition", {"family": _FAMILY, "containerDefinitions": [container], **sizes})

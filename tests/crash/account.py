"""The simulated account past the product: its clients, and a task definition for each step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import boto3
from botocore.config import Config

from spotjob.local.layout import REGION
from tests.crash.runs import FAMILIES

_KEYS: dict[str, Any] = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}


@contextlib.contextmanager
def client(url: str, service: str) -> Iterator[Any]:
    """A client of boto3 that tries once."""
    config = Config(retries={"total_max_attempts": 1})
    made: Any = boto3.client(service, region_name=REGION, endpoint_url=url, config=config, **_KEYS)
    with contextlib.closing(made):
        yield made


def register(url: str) -> None:
    """The task definitions. What their containers do is ordered by the lever ecs-rule."""
    with client(url, "ecs") as ecs:
        for family in FAMILIES:
            ecs.register_task_definition(family=family, containerDefinitions=[_container(family)])


def _container(family: str) -> dict[str, Any]:
    options = {"awslogs-group": family, "awslogs-region": REGION, "awslogs-stream-prefix": "ecs"}
    return {"name": "main", "image": "none", "logConfiguration": {"logDriver": "awslogs", "options": options}}

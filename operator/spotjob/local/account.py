"""Asks the simulated AWS account what is in it, and lets it take an instance back."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from typing import Any

from spotjob.local import probes
from spotjob.local.errors import LocalError

_DEAD = "terminated"
_ANSWER_SECONDS = 30.0  # the server loads moto when the first question needs it


class AwsServerRefused(LocalError):
    """The AWS server does not answer, or not as it should."""


def network(aws_url: str) -> Mapping[str, Any]:
    """{"subnets": [{"id", "availabilityZone"}], "securityGroup": "sg-..."} of the account's default VPC."""
    answer: Mapping[str, Any] = _call("GET", f"{aws_url}/_spotjob/network")
    return answer


def instances_alive(aws_url: str) -> Sequence[Mapping[str, Any]]:
    """Every instance that is not terminated: id, state, type, zone and more."""
    return [instance for instance in _call("GET", f"{aws_url}/_spotjob/instances") if instance["state"] != _DEAD]


def items(aws_url: str) -> Sequence[Mapping[str, Any]]:
    """The items of table Jobs as plain JSON."""
    answer: Sequence[Mapping[str, Any]] = _call("GET", f"{aws_url}/_spotjob/items")
    return answer


def ecs_tasks(aws_url: str) -> Sequence[Mapping[str, Any]]:
    """Every ECS task that ever was, oldest first; what each one has: see ecs/levers.py."""
    tasks: Sequence[Mapping[str, Any]] = _call("GET", f"{aws_url}/_spotjob/ecs-tasks")["tasks"]
    return tasks


def interrupt(aws_url: str, instance_id: str, warning_seconds: int) -> None:
    """EC2 gives notice, and takes the instance back when the warning is over."""
    _call("POST", f"{aws_url}/_spotjob/interrupt", {"instanceId": instance_id, "warningSeconds": warning_seconds})


def reclaim(aws_url: str, instance_id: str) -> None:
    """EC2 takes the instance back at once, without notice."""
    _call("POST", f"{aws_url}/_spotjob/reclaim", {"instanceId": instance_id})


def rebalance(aws_url: str, instance_id: str) -> None:
    """EC2 recommends to leave the instance, and leaves it running."""
    _call("POST", f"{aws_url}/_spotjob/rebalance", {"instanceId": instance_id})


def _call(method: str, url: str, body: Mapping[str, Any] | None = None) -> Any:
    try:
        status, answer = probes.send(method, url, body, timeout_seconds=_ANSWER_SECONDS)
    except (OSError, http.client.HTTPException) as error:
        raise AwsServerRefused(f"the AWS server does not answer ({error}): spotjob local status") from error
    if status in (400, 404):  # an order that makes no sense now, such as a reclaim of an on-demand instance
        raise AwsServerRefused(f"the simulated EC2 refuses: {json.loads(answer)['error']}")
    if status >= 300:
        raise AwsServerRefused(f"{method} {url} was answered with {status}: {answer.decode(errors='replace')[:500]}")
    return json.loads(answer) if answer else None

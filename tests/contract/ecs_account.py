"""A simulated account for tests of ECS: its server, its levers, and the waits that a test needs."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Timing
from spotjob.local.ecs import defaults
from spotjob.local.machines import Machines, NoMachines

REGION = "us-east-1"


@contextmanager
def ecs_account(
    machines: Callable[[str], Machines] = lambda _: NoMachines(), image: str = defaults.IMAGE
) -> Iterator[AwsServer]:
    """A server whose ECS tasks follow scripts, unless `machines` can run containers."""
    timing = Timing(boot_seconds=0, shutdown_seconds=0)
    server = AwsServer(machines, region=REGION, timing=timing, image=image)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def lever(server: AwsServer, method: str, name: str, **order: Any) -> Any:
    """The answer of one control endpoint; it must be a good one."""
    status, answer = pull(server, method, name, **order)
    assert status == 200, answer
    return answer


def pull(server: AwsServer, method: str, name: str, **order: Any) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(server.url).port, timeout=60)
    try:
        connection.request(method, f"/_spotjob/{name}", json.dumps(order))
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def until_stopped(ecs: Any, arn: str, cluster: str = "default", seconds: float = 60) -> dict[str, Any]:
    """The task as DescribeTasks shows it at its end."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (task,) = ecs.describe_tasks(cluster=cluster, tasks=[arn])["tasks"]
        if task["lastStatus"] == "STOPPED":
            return dict(task)
        time.sleep(0.05)
    raise TimeoutError(f"{arn} is {task['lastStatus']}")

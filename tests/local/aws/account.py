"""What the tests of the local AWS server share: recorded machines, and the calls that a test makes beside boto3's."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2.records import Ec2Instance
from tests.local.ec2.builders import a_fleet, ids

USER_DATA = "#!/bin/sh\necho ü\n"


class RecordedMachines:
    """Machines that do nothing by themselves: the test halts and powers them off."""

    def __init__(self) -> None:
        self.booted: dict[str, tuple[str, str]] = {}
        self.power_off: dict[str, Callable[[], None]] = {}
        self.halting: dict[str, Callable[[], None]] = {}
        self.holds_on = False
        """Machines do not halt until the test says so."""

    def boot(self, instance_id: str, user_data: str, imds_endpoint: str, power_off: Callable[[], None]) -> None:
        self.booted[instance_id] = (user_data, imds_endpoint)
        self.power_off[instance_id] = power_off

    def halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        self.halting[instance_id] = halted
        if not self.holds_on:
            halted()

    def console(self, instance_id: str) -> str:
        return f"console of {instance_id}\n"

    def containers(self) -> None:
        """None: ECS tasks follow scripts."""


def send(server: AwsServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(server.url).port, timeout=60)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), names)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def pull(server: AwsServer, lever: str, **order: Any) -> None:
    status, answer = send(server, "POST", f"/_spotjob/{lever}", order)
    assert status == 200, answer


def shown(server: AwsServer, what: str) -> Any:
    status, body = send(server, "GET", f"/_spotjob/{what}")
    assert status == 200, body
    return json.loads(body)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def launch(server: AwsServer, boto: Any) -> str:
    subnet = shown(server, "network")["subnets"][0]
    request = a_fleet(zones=("us-east-1a",), SubnetId=subnet["id"])
    (instance_id,) = ids(boto.create_fleet(**request))
    return instance_id


def instance(server: AwsServer, instance_id: str) -> Ec2Instance:
    with server.centre.open() as ec2:
        return ec2.instance(instance_id)


def launch_and_boot(server: AwsServer, boto: Any, machines: RecordedMachines) -> str:
    instance_id = launch(server, boto)
    until(lambda: instance_id in machines.booted)
    return instance_id


def metadata(server: AwsServer, instance_id: str, item: str, token: str | None = None) -> tuple[int, str]:
    """One item, with a fresh token unless one is given."""
    if token is None:
        _, fresh = send(
            server, "PUT", f"/_imds/{instance_id}/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60"
        )
        token = fresh.decode()
    status, body = send(server, "GET", f"/_imds/{instance_id}/latest/{item}", X_aws_ec2_metadata_token=token)
    return status, body.decode()

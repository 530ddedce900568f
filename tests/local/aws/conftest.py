"""One simulated account on loopback for the tests of this folder."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Timing
from tests.contract.ec2_clients import an_image, over_http
from tests.local.aws.account import USER_DATA, RecordedMachines
from tests.local.ec2.builders import a_template


@pytest.fixture(name="machines", scope="package")
def _machines() -> RecordedMachines:
    return RecordedMachines()


@pytest.fixture(name="server", scope="package")
def _server(machines: RecordedMachines) -> Iterator[AwsServer]:
    server = AwsServer(lambda _: machines, region="us-east-1", timing=Timing(boot_seconds=0, shutdown_seconds=0))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="boto", scope="package")
def _boto(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "ec2") as client:
        image = an_image(server.url)
        user_data = base64.b64encode(USER_DATA.encode()).decode()
        profile = {"IamInstanceProfile": {"Name": "worker"}}
        client.create_launch_template(**a_template("jobs", ImageId=image, UserData=user_data, **profile))
        yield client

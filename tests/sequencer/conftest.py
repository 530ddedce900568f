"""One local AWS server for all tests here; each finds it without orders, and counts from there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Timing
from spotjob.local.machines import NoMachines
from tests.sequencer.account import Account, Put


@pytest.fixture(scope="package")
def aws_server() -> Iterator[AwsServer]:
    server = AwsServer(lambda _: NoMachines(), region="us-east-1", timing=Timing())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def account(aws_server: AwsServer, tmp_path: Path) -> Iterator[Account]:
    account = Account(aws_server, tmp_path)
    yield account
    account.close()
    account.lever("DELETE", "ecs-orders")
    account.lever("POST", "ecs-timing", missingSeconds=0)
    with aws_server.centre.open() as ec2:
        ec2.faults.clear()


def client(server: AwsServer, service: str) -> Any:
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.client(service, region_name="us-east-1", endpoint_url=server.url, **keys)


@pytest.fixture
def put(aws_server: AwsServer) -> Iterator[Put]:
    """Puts text into a bucket, which is made; the version of the object."""
    s3 = client(aws_server, "s3")

    def into(bucket: str, key: str, text: str, versions: bool = False) -> str:
        s3.create_bucket(Bucket=bucket)
        if versions:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return str(s3.put_object(Bucket=bucket, Key=key, Body=text.encode()).get("VersionId", ""))

    yield into
    s3.close()


@pytest.fixture
def two_containers(aws_server: AwsServer) -> str:
    """A task definition with the essential container main, and sidecar, which is not."""
    ecs = client(aws_server, "ecs")
    containers = [{"name": name, "image": "busybox:1", "essential": name == "main"} for name in ("main", "sidecar")]
    made = ecs.register_task_definition(family="two-containers", containerDefinitions=containers)
    ecs.close()
    return str(made["taskDefinition"]["taskDefinitionArn"])

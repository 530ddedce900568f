"""The metadata service, IMDSv2."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spotjob.local.aws_server import AwsServer
from tests.local.aws.account import (
    USER_DATA,
    instance,
    launch,
    metadata,
    send,
)


def test_the_metadata_service_knows_its_instance(server: AwsServer, boto: Any) -> None:
    instance_id = launch(server, boto)
    for item, value in {
        "meta-data/instance-id": instance_id,
        "meta-data/instance-type": "m6i.large",
        "meta-data/placement/availability-zone": "us-east-1a",
        "meta-data/placement/region": "us-east-1",
        "meta-data/instance-life-cycle": "spot",
        "meta-data/ami-id": instance(server, instance_id).data["ImageId"],
        "meta-data/iam/security-credentials/": "worker",
        "user-data": USER_DATA,
    }.items():
        assert metadata(server, instance_id, item) == (200, value), item
    status, credentials = metadata(server, instance_id, "meta-data/iam/security-credentials/worker")
    assert (status, json.loads(credentials)["Code"]) == (200, "Success")


@pytest.mark.parametrize("item", ["meta-data/spot/instance-action", "meta-data/unknown", "instance-id", ""])
def test_what_the_metadata_service_does_not_have_is_404(server: AwsServer, boto: Any, item: str) -> None:
    assert metadata(server, launch(server, boto), item) == (404, "")


@pytest.mark.parametrize("token", ["", "made-up", "9999999999.made-up"])
def test_metadata_needs_a_token(server: AwsServer, boto: Any, token: str) -> None:
    assert metadata(server, launch(server, boto), "meta-data/instance-id", token)[0] == 401


def test_a_token_is_good_for_its_own_instance_only(server: AwsServer, boto: Any) -> None:
    one, other = launch(server, boto), launch(server, boto)
    path = f"/_imds/{one}/latest/api/token"
    _, token = send(server, "PUT", path, X_aws_ec2_metadata_token_ttl_seconds="60")
    assert metadata(server, one, "meta-data/instance-id", token.decode())[0] == 200
    assert metadata(server, other, "meta-data/instance-id", token.decode())[0] == 401


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"X_aws_ec2_metadata_token_ttl_seconds": "60"}, 405),
        ("PUT", {}, 400),
        ("PUT", {"X_aws_ec2_metadata_token_ttl_seconds": "21601"}, 400),
        ("PUT", {"X_aws_ec2_metadata_token_ttl_seconds": "60", "X_Forwarded_For": "10.0.0.1"}, 403),
    ],
)
def test_a_token_is_given_only_to_a_proper_request(
    server: AwsServer, boto: Any, method: str, headers: dict[str, str], status: int
) -> None:
    path = f"/_imds/{launch(server, boto)}/latest/api/token"
    assert send(server, method, path, **headers) == (status, b"")


def test_the_metadata_of_no_instance_is_404(server: AwsServer) -> None:
    assert metadata(server, "i-unknown", "meta-data/instance-id", "") == (404, "")

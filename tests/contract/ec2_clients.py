"""boto3 clients for the EC2 contract tests: one whose transport is the simulator itself, one over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

import boto3
from botocore.awsrequest import AWSResponse
from botocore.config import Config

from spotjob.local import ec2_wire
from spotjob.local.ec2 import ApiError, Simulator

KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local"}


class _Raw:
    """What botocore reads a body from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self._body


@contextmanager
def in_process(ec2: Simulator) -> Iterator[Any]:
    """A boto3 EC2 client that sends nothing: the wire's two halves and the simulator answer within the call."""
    with over_http("http://127.0.0.1:9", "ec2") as client:
        client.meta.events.register("before-send.ec2", lambda request, **_: _answer(ec2, request))
        yield client


def _answer(ec2: Simulator, request: Any) -> AWSResponse:
    body = request.body if isinstance(request.body, str) else request.body.decode()
    action, parameters = ec2_wire.parse(dict(parse_qsl(body, keep_blank_values=True)))
    try:
        status, document = 200, ec2_wire.serialize(action, ec2.call(action, parameters))
    except ApiError as error:
        status, document = error.status, ec2_wire.serialize_error(error)
    return AWSResponse(request.url, status, {}, _Raw(document))


def an_image(url: str) -> str:
    """An AMI that the account at `url` knows."""
    with over_http(url, "ssm") as client:
        name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
        return str(client.get_parameter(Name=name)["Parameter"]["Value"])


@contextmanager
def over_http(url: str, service: str, attempts: int = 1, region: str = "us-east-1") -> Iterator[Any]:
    """A boto3 client of the server at `url` that tries each call this often."""
    config = Config(retries={"total_max_attempts": attempts, "mode": "standard"}, max_pool_connections=16)
    client = boto3.client(service, region_name=region, endpoint_url=url, config=config, **KEYS)
    try:
        yield client
    finally:
        client.close()

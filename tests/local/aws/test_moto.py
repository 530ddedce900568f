"""moto behind its locks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotjob.local.aws_server import AwsServer
from tests.contract.ec2_clients import over_http
from tests.local.aws.account import (
    pull,
    shown,
)


@pytest.fixture(name="dynamodb", scope="module")
def _dynamodb(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "dynamodb") as client:
        assert shown(server, "items") == []
        client.create_table(
            TableName="Jobs",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def claimed(dynamodb: Any, number: int) -> bool:
    """Whether this call got the number.

    By the error's code: botocore makes the classes of `client.exceptions` at the first error without a lock, so that
    threads which meet it together have classes of the same name that do not catch each other.
    """
    try:
        dynamodb.update_item(
            TableName="Jobs",
            Key={"id": {"S": f"claim-{number}"}},
            UpdateExpression="SET claimed = :yes",
            ConditionExpression="attribute_not_exists(claimed)",
            ExpressionAttributeValues={":yes": {"BOOL": True}},
        )
    except ClientError as error:
        if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
            raise
        return False
    return True


def test_writes_of_many_threads_lose_nothing(dynamodb: Any) -> None:
    key = {"id": {"S": "counter"}}
    dynamodb.put_item(TableName="Jobs", Item=key | {"count": {"N": "0"}})

    def count_and_claim(number: int) -> bool:
        """Raise the counter; claim a number that 16 threads want. True for the one that got it."""
        dynamodb.update_item(
            TableName="Jobs",
            Key=key,
            UpdateExpression="SET #count = #count + :one",
            ExpressionAttributeNames={"#count": "count"},
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        return claimed(dynamodb, number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)  # widens the windows in which moto without a lock loses writes
    try:
        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(count_and_claim, [number for number in range(20) for _ in range(16)]))
    finally:
        sys.setswitchinterval(interval)
    assert sum(won) == 20
    assert dynamodb.get_item(TableName="Jobs", Key=key)["Item"]["count"]["N"] == "320"


def test_items_are_shown_as_plain_json(server: AwsServer, dynamodb: Any) -> None:
    item = {
        "id": {"S": "one"},
        "exitCode": {"N": "7"},
        "price": {"N": "0.5"},
        "none": {"NULL": True},
        "env": {"L": [{"M": {"name": {"S": "A"}, "set": {"BOOL": False}}}]},
    }
    dynamodb.put_item(TableName="Jobs", Item=item)
    (found,) = [one for one in shown(server, "items") if one["id"] == "one"]
    plain = {"id": "one", "exitCode": 7, "price": 0.5, "none": None, "env": [{"name": "A", "set": False}]}
    assert found == plain


def test_faults_strike_the_other_services_too(server: AwsServer, dynamodb: Any) -> None:
    pull(server, "fault", action="PutItem", code="InternalServerError", httpStatus=500, when="after")
    with pytest.raises(ClientError, match="InternalServerError"):
        dynamodb.put_item(TableName="Jobs", Item={"id": {"S": "hidden"}})
    assert "hidden" in [one["id"] for one in shown(server, "items")]


def test_objects_of_moto_are_not_kept(server: AwsServer, dynamodb: Any) -> None:
    from moto.dynamodb.models.dynamo_type import Item

    dynamodb.put_item(TableName="Jobs", Item={"id": {"S": "kept?"}})
    assert not getattr(Item, "instances_tracked", [])


@pytest.mark.parametrize(
    ("service", "call", "key"),
    [
        ("sts", "get_caller_identity", "Account"),
        ("sqs", "list_queues", "ResponseMetadata"),
        ("s3", "list_buckets", "Buckets"),
        ("ssm", "describe_parameters", "Parameters"),
    ],
)
def test_the_other_services_answer(server: AwsServer, service: str, call: str, key: str) -> None:
    with over_http(server.url, service) as client:
        assert key in getattr(client, call)()


def test_a_long_poll_does_not_hold_up_its_service(server: AwsServer) -> None:
    with over_http(server.url, "sqs") as client, ThreadPoolExecutor(1) as threads:
        url = client.create_queue(QueueName="events")["QueueUrl"]
        poll = threads.submit(client.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        client.send_message(QueueUrl=url, MessageBody="woken")
        assert poll.result(timeout=60)["Messages"][0]["Body"] == "woken"

"""The port Queue on SQS, and the stack that fills the queue, against the local AWS server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cfnlint.api import lint_file

from spotjob.aws.clients import Session
from spotjob.aws.interruptions import HIDDEN_SECONDS, Queues, SqsQueue, entries, receive_request
from spotjob.core.ec2_events import Event, parse
from spotjob.core.ports import Message, QueueError
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Fault, Simulator

TEMPLATE = Path(__file__).parents[2] / "deploy" / "aws" / "interruptions.yaml"
REGION = "us-east-1"
ID = "i-0123456789abcdef0"

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS..SQS..QueuePolicy")
"""moto leaves the queue's policy out of the stack, and says so. cfn-lint reads it."""


@pytest.fixture(scope="module")
def sqs(session: Session) -> Iterator[Any]:
    client = session.client("sqs", REGION, 1)
    yield client
    client.close()


@pytest.fixture
def name(sqs: Any) -> Iterator[str]:
    """A queue of its own."""
    name = f"queue-{uuid.uuid4().hex}"
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    yield name
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def queue(session: Session, name: str, simulator: Simulator) -> Iterator[SqsQueue]:
    queues = Queues(session, name, wait_seconds=1)
    queue = queues.open(REGION)
    assert isinstance(queue, SqsQueue)
    yield queue
    queues.close()


def test_the_requests_are_whole() -> None:
    assert receive_request(20) == {
        "MaxNumberOfMessages": 10,
        "WaitTimeSeconds": 20,
        "VisibilityTimeout": HIDDEN_SECONDS,
    }
    assert entries([Message("a", "r1"), Message("b", "r2")]) == [
        {"Id": "0", "ReceiptHandle": "r1"},
        {"Id": "1", "ReceiptHandle": "r2"},
    ]


async def test_messages_come_at_most_ten_at_a_time_and_deleted_ones_never_again(
    queue: SqsQueue, server: AwsServer, name: str
) -> None:
    server.moto.send(name, [f"body {number}" for number in range(12)])
    first = await queue.receive()
    assert len(first) == 10
    await queue.delete(first)
    second = await queue.receive()
    assert {message.body for message in [*first, *second]} == {f"body {number}" for number in range(12)}
    await queue.delete(second)
    assert await queue.receive() == []


async def test_a_message_that_sqs_keeps_although_it_answers_well_is_an_error(queue: SqsQueue) -> None:
    with pytest.raises(QueueError, match="did not delete 1 of 1 messages: ReceiptHandleIsInvalid"):
        await queue.delete([Message("", "no such receipt")])


async def test_a_queue_that_is_made_later_is_found(session: Session, sqs: Any) -> None:
    name = f"later-{uuid.uuid4().hex}"
    queues = Queues(session, name, wait_seconds=1)
    with pytest.raises(QueueError, match=f"no SQS queue {name} in {REGION}"):
        await queues.open(REGION).receive()
    url = sqs.create_queue(QueueName=name)["QueueUrl"]
    assert await queues.open(REGION).receive() == []
    sqs.delete_queue(QueueUrl=url)
    with pytest.raises(QueueError, match=f"no SQS queue {name} in {REGION}"):
        await queues.open(REGION).receive()
    queues.close()


async def test_a_refusal_and_a_lost_answer_are_queue_errors_and_the_call_is_not_repeated(
    queue: SqsQueue, simulator: Simulator
) -> None:
    assert await queue.receive() == []
    simulator.calls.clear()
    simulator.faults.order(Fault("ReceiveMessage", code="AccessDenied", status=403))
    simulator.faults.order(Fault("ReceiveMessage", lost=True))
    with pytest.raises(QueueError, match="receive_message: AccessDenied"):
        await queue.receive()
    with pytest.raises(QueueError, match="receive_message: "):
        await queue.receive()
    assert simulator.calls["ReceiveMessage"] == 2


# ---- the stack ----------------------------------------------------------------------------------------------------


def test_the_template_has_nothing_that_cloudformation_would_refuse() -> None:
    assert lint_file(TEMPLATE, config={"regions": [REGION]}) == []


@pytest.fixture(scope="module")
def stack(session: Session) -> Iterator[str]:
    """The name of the queue that the stack made."""
    client, name = session.client("cloudformation", REGION, 1), f"stack-{uuid.uuid4().hex}"
    parameters = [{"ParameterKey": "QueueName", "ParameterValue": name}]
    client.create_stack(StackName=name, TemplateBody=TEMPLATE.read_text(), Parameters=parameters)
    yield name
    client.delete_stack(StackName=name)
    client.close()


def spoken(kind: str, source: str = "aws.ec2", **detail: Any) -> dict[str, str]:
    return {"Source": source, "DetailType": kind, "Detail": json.dumps(detail)}


async def test_what_the_rules_let_through_is_what_the_operator_understands(session: Session, stack: str) -> None:
    one = {"instance-id": ID}
    health = {"service": "EC2", "eventTypeCategory": "scheduledChange", "affectedEntities": [{"entityValue": ID}]}
    wanted = [
        spoken("EC2 Spot Instance Interruption Warning", **one),
        spoken("EC2 Capacity Reservation Instance Interruption Warning", **one),
        spoken("EC2 Instance Rebalance Recommendation", **one),
        spoken("EC2 Instance State-change Notification", **one, state="shutting-down"),
        spoken("AWS Health Event", "aws.health", **health),
    ]
    unwanted = [
        spoken("EC2 Instance State-change Notification", **one, state="running"),
        spoken("EC2 Fleet State Change", **one),
        spoken("AWS Health Event", "aws.health", **health | {"service": "RDS"}),
    ]
    events = session.client("events", REGION, 1)
    events.put_events(Entries=[*unwanted, *wanted])
    events.close()
    queues = Queues(session, stack, wait_seconds=1)
    heard = [parse(message.body) for message in await queues.open(REGION).receive()]
    queues.close()
    assert sorted(str(event.kind) for event in heard if isinstance(event, Event)) == [
        "interruption",
        "maintenance",
        "rebalance",
        "reservation",
        "state-change",
    ]
    assert len(heard) == len(wanted)


def test_the_stacks_queue_forgets_after_five_minutes_and_is_encrypted(sqs: Any, stack: str) -> None:
    url = sqs.get_queue_url(QueueName=stack)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert (attributes["MessageRetentionPeriod"], attributes["SqsManagedSseEnabled"]) == ("300", "true")

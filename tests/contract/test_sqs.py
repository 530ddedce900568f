"""The queue of EC2's events on moto's SQS, over HTTP: as EventBridge fills it, as the leader drains it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator, Sequence
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from spotjob.aws.interruptions import HIDDEN_SECONDS, MOST_MESSAGES, Queues, make_queues
from spotjob.clock import RealClock
from spotjob.controller.listener import BROKEN, FOREIGN, OTHER, RECEIVERS, Listener
from spotjob.core.ledger import Ledger
from spotjob.core.ports import QueueError
from spotjob.core.signs import SignBook
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Timing
from spotjob.local.eventbus import QUEUE
from spotjob.local.machines import NoMachines
from tests.builders import NOW, SECOND, an_instance
from tests.contract.ec2_clients import KEYS

REGION = "us-east-1"
AT_ONCE = 20


def sqs() -> Any:
    """moto's part of SQS. It has one account per process: other servers' queues and messages may be there."""
    from moto.sqs.models import sqs_backends

    from spotjob.local.ec2 import ACCOUNT

    return sqs_backends[ACCOUNT][REGION]


@pytest.fixture(scope="module")
def server() -> Iterator[AwsServer]:
    server = AwsServer(lambda _: NoMachines(), region=REGION, timing=Timing())
    server.start()
    sqs().queues.clear()
    yield server
    server.stop()


@pytest.fixture
def queues(server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Queues]:
    for name, value in {**KEYS, "endpoint_url": server.url}.items():
        monkeypatch.setenv(name.upper() if name.startswith("aws") else "AWS_ENDPOINT_URL", value)
    queues = Queues(make_queues(QUEUE)._session, QUEUE, wait_seconds=1)
    yield queues
    queues.close()


def told(kind: str, instance_id: str) -> str:
    event = {"source": "aws.ec2", "detail-type": kind, "time": NOW.isoformat(), "detail": {"instance-id": instance_id}}
    return json.dumps(event)


class Leader:
    """A listener at the real queue; what it tells is kept."""

    def __init__(self, queues: Queues, ours: Sequence[str]) -> None:
        self.changed: list[str] = []
        self.signs, ledger = SignBook(), Ledger(window=300 * SECOND)
        for instance_id in ours:
            ledger.saw(an_instance(instance_id))
        parts: Any = {
            "store": SimpleNamespace(regions=lambda: {REGION}),
            "clock": RealClock(),
            "lease": SimpleNamespace(leading=lambda: True),
        }
        self.listener = Listener(
            queues.open, self.signs, ledger, changed=self.changed.append, look=lambda *_: None, **parts
        )

    async def drain(self, server: AwsServer, bodies: Sequence[str], seconds: float) -> None:
        """Everything, while it comes: moto looks at all that lies in a queue at each call, so little may lie there."""
        running = asyncio.create_task(self.listener.run())
        try:
            async with asyncio.timeout(seconds):
                for start in range(0, len(bodies), AT_ONCE):
                    await asyncio.to_thread(server.moto.send, QUEUE, bodies[start : start + AT_ONCE])
                    await no_more_than(AT_ONCE)
                await no_more_than(0)
        finally:
            running.cancel()
            await asyncio.wait({running})


async def no_more_than(messages: int) -> None:
    while len(sqs().queues[QUEUE]._messages) > messages:  # noqa: ASYNC110 -- SQS tells nobody
        await asyncio.sleep(0.005)


async def test_a_missing_queue_is_named_with_what_to_do(queues: Queues) -> None:
    missing = Queues(queues._session, "no-such-queue", wait_seconds=1).open(REGION)
    with pytest.raises(QueueError, match="no SQS queue no-such-queue in us-east-1: create it with deploy/aws"):
        await missing.receive()


async def test_a_warm_account_has_the_queue_before_anything_has_happened(server: AwsServer, queues: Queues) -> None:
    server.warm()
    assert await queues.open(REGION).receive() == []


async def test_ten_thousand_messages_are_drained_and_the_hundred_that_matter_are_heard(
    server: AwsServer, queues: Queues, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = [f"i-{number:017x}" for number in range(100)]
    bodies = [told("EC2 Spot Instance Interruption Warning", instance_id) for instance_id in ours]
    bodies += [told("EC2 Spot Instance Interruption Warning", f"i-f{number:016x}") for number in range(3300)]
    bodies += [told("EC2 Fleet State Change", "i-0") for _ in range(3300)]
    bodies += ["}" if number % 2 else '{"detail": [' * 20 for number in range(3300)]
    Random(1).shuffle(bodies)
    caplog.set_level(logging.WARNING)
    leader, began = Leader(queues, ours), time.monotonic()
    await leader.drain(server, bodies, seconds=900)
    took = time.monotonic() - began
    counts = dict(leader.listener.counts)
    with capsys.disabled():
        print(f"\n  10,000 messages drained in {took:.1f} s: {counts}; {len(caplog.records)} log lines")
    wanted = {"interruption": 100, FOREIGN: 3300, OTHER: 3300, BROKEN: 3300}
    assert counts.keys() == wanted.keys()
    # SQS never hands a message out less than once, and again when it was not deleted in time: on a machine that
    # stands still those are the messages that the receivers have in hand.
    again = sum(counts.values()) - len(bodies)
    assert all(wanted[result] <= counts[result] for result in wanted), counts
    assert again <= RECEIVERS * MOST_MESSAGES * (1 + took / HIDDEN_SECONDS), counts
    assert sorted(leader.changed) == ours
    assert len(caplog.records) <= 3 + took / 60  # one a minute for each of three kinds

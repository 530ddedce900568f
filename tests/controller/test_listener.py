"""What the leader does with the messages of one queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from spotjob.controller.listener import BROKEN, FAILED, FOREIGN, OTHER, Listener
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Message, QueueError
from spotjob.core.signs import SignBook
from tests.builders import NOW, SECOND, an_instance

OURS, ALSO_OURS = "i-0123456789abcdef0", "i-0123456789abcdef1"
THEIRS = "i-ffffffffffffffff0"
WARNING = "EC2 Spot Instance Interruption Warning"
REBALANCE = "EC2 Instance Rebalance Recommendation"
STATE = "EC2 Instance State-change Notification"


def told(kind: str, instance_id: str, **detail: str) -> str:
    document = {"source": "aws.ec2", "detail-type": kind, "time": NOW.isoformat()}
    return json.dumps({**document, "detail": {"instance-id": instance_id, **detail}})


class Inbox:
    """A queue in memory: what is not deleted stays. `troubles` are raised first, one per call."""

    def __init__(self, *bodies: str) -> None:
        self.messages = [Message(body, str(number)) for number, body in enumerate(bodies)]
        self.troubles: list[QueueError] = []
        self.empty = asyncio.Event()

    async def receive(self) -> Sequence[Message]:
        await asyncio.sleep(0)
        if self.troubles:
            raise self.troubles.pop()
        if not self.messages:
            self.empty.set()
            await asyncio.sleep(3600)
        return self.messages[:10]

    async def delete(self, messages: Sequence[Message]) -> None:
        gone = {message.receipt for message in messages}
        self.messages = [message for message in self.messages if message.receipt not in gone]


class Clock:
    """Sleeps for no time and notes for how long it should have slept; a long sleep is for ever."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return 0.0

    def token(self) -> str:
        return "f" * 32

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await asyncio.sleep(3600 if seconds == 10.0 else 0)


class Leader:
    """A listener and everything that it tells."""

    def __init__(self, *bodies: str, leading: bool = True) -> None:
        self.inbox, self.clock, self.signs = Inbox(*bodies), Clock(), SignBook()
        self.changed: list[str] = []
        self.looked: list[tuple[str, set[str]]] = []
        ledger = Ledger(window=300 * SECOND)
        for instance_id in (OURS, ALSO_OURS):
            ledger.saw(an_instance(instance_id))
        parts: Any = {
            "store": SimpleNamespace(regions=lambda: {"us-east-1"}),
            "clock": self.clock,
            "lease": SimpleNamespace(leading=lambda: leading),
        }
        self.listener = Listener(
            lambda _: self.inbox,
            self.signs,
            ledger,
            changed=self.changed.append,
            look=lambda region, ids: self.looked.append((region, set(ids))),
            **parts,
        )

    async def listen(self, seconds: float = 60) -> Leader:
        running = asyncio.create_task(self.listener.run())
        try:
            async with asyncio.timeout(seconds):
                await self.inbox.empty.wait()
        finally:
            running.cancel()
            await asyncio.wait({running})
        return self


async def test_a_warning_is_told_once_however_often_it_comes() -> None:
    leader = await Leader(told(WARNING, OURS), told(WARNING, OURS)).listen()
    assert leader.changed == [OURS]
    assert leader.signs.of(OURS).reclaim_at == NOW + 120 * SECOND
    assert leader.listener.counts == {"interruption": 2}
    assert leader.inbox.messages == []


async def test_advice_is_a_sign_of_its_own() -> None:
    leader = await Leader(told(REBALANCE, OURS)).listen()
    assert (leader.signs.of(OURS).advised_at, leader.signs.of(OURS).reclaim_at) == (NOW, None)


async def test_changes_of_state_that_are_news_are_looked_at_together() -> None:
    bodies = [told(STATE, OURS, state="shutting-down"), told(STATE, ALSO_OURS, state="terminated")]
    leader = await Leader(*bodies, told(STATE, OURS, state="running")).listen()
    assert leader.looked == [("us-east-1", {OURS, ALSO_OURS})]
    assert leader.changed == []


async def test_foreign_and_broken_messages_are_dropped_and_counted() -> None:
    leader = await Leader(
        told(WARNING, THEIRS), "}", told("EC2 Fleet State Change", OURS), told(WARNING, OURS)
    ).listen()
    assert leader.listener.counts == {FOREIGN: 1, BROKEN: 1, OTHER: 1, "interruption": 1}
    assert leader.inbox.messages == []


async def test_a_poisoned_message_does_not_block(monkeypatch: pytest.MonkeyPatch) -> None:
    leader = Leader(told(REBALANCE, OURS), told(WARNING, ALSO_OURS))

    def fail(*_: object) -> bool:
        raise RuntimeError("a bug")

    monkeypatch.setattr(leader.signs, "advise", fail)
    await leader.listen()
    assert leader.listener.counts == {FAILED: 1, "interruption": 1}
    assert leader.changed == [ALSO_OURS]
    assert leader.inbox.messages == []


async def test_who_does_not_lead_any_more_leaves_the_messages_to_who_does() -> None:
    leader = Leader(told(WARNING, OURS), leading=False)
    with pytest.raises(TimeoutError):
        await leader.listen(seconds=0.2)
    assert (len(leader.inbox.messages), leader.changed) == (1, [])


async def test_a_queue_in_trouble_is_asked_with_growing_pauses_and_then_heard_again() -> None:
    leader = Leader(told(WARNING, OURS))
    leader.inbox.troubles = [QueueError("there is no such queue")] * 40
    await leader.listen()
    pauses = [pause for pause in leader.clock.pauses if pause != 10.0]
    assert len(pauses) == 40
    assert max(pauses) == 60.0
    assert sorted(pauses)[:4] == [1.0, 1.0, 1.0, 1.0]  # one of each receiver
    assert leader.changed == [OURS]


async def test_a_thousand_broken_messages_make_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    leader = await Leader(*["no JSON"] * 1000).listen()
    assert leader.listener.counts == {BROKEN: 1000}
    assert len(caplog.records) == 1


async def test_without_a_queue_nothing_is_listened_to() -> None:
    leader = Leader()
    leader.listener = Listener(None, *[None] * 7)  # type: ignore[arg-type]
    await leader.listener.run()

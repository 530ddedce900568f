"""The queue of EC2's events, in memory: at least once, in no order, and spoilt at will. Implements ports.Queue."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from contextvars import copy_context
from random import Random
from typing import Any

from spotjob.core.ports import Message, QueueError

WAIT_SECONDS = 20.0
INVISIBLE_SECONDS = 30.0
"""What is not deleted by then comes again."""


class MemoryQueue:
    """Filled by the simulator's outbox."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._outside = copy_context()
        self._bodies: dict[str, str] = {}  # by receipt
        self._free_at: dict[str, float] = {}  # the same: from when on it may be received
        self._receipts = itertools.count(1)
        self._more = asyncio.Event()
        self.loses, self.late_seconds = 0.0, 0.0
        """The share of events that never come; how much later than at once they come."""
        self.doubles = self.broken = False

    def mend(self) -> None:
        self.loses, self.late_seconds, self.doubles, self.broken = 0.0, 0.0, False, False

    def fill(self, events: Sequence[Mapping[str, Any]]) -> None:
        for event in events:
            for _ in range(2 if self.doubles else 1):
                if self._chance.random() >= self.loses:
                    seconds = self.late_seconds * self._chance.random()
                    loop = asyncio.get_running_loop()
                    loop.call_later(seconds, self._arrive, json.dumps(event), context=self._outside)

    def _arrive(self, body: str) -> None:
        receipt = f"receipt-{next(self._receipts)}"
        self._bodies[receipt], self._free_at[receipt] = body, 0.0
        self._more.set()

    async def receive(self) -> Sequence[Message]:
        if self.broken:
            raise QueueError("the queue is broken")
        found = self._free()
        if not found:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await self._more.wait()
            except TimeoutError:
                pass
            found = self._free()
        self._more.clear()
        return found

    def _free(self) -> Sequence[Message]:
        now = asyncio.get_running_loop().time()
        free = [receipt for receipt, at in self._free_at.items() if at <= now][:10]
        self._free_at |= dict.fromkeys(free, now + INVISIBLE_SECONDS)
        return [Message(self._bodies[receipt], receipt) for receipt in free]

    async def delete(self, messages: Sequence[Message]) -> None:
        if self.broken:
            raise QueueError("the queue is broken")
        for message in messages:
            self._bodies.pop(message.receipt, None)
            self._free_at.pop(message.receipt, None)

"""Lets each write of a process pass, counts it, and kills the process at the armed point."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable

from tests.crash.points import Kind, Moment, Point, Write

AFTER_REPLY_SECONDS = 0.05
"""How long a process may work with a reply, at most, before it dies; its next write ends that time."""


class Died(Exception):
    """The process that asked is dead: there is nobody to answer."""


class Gate:
    """Between the processes and their servers. `crash` kills a process and starts it again."""

    def __init__(self, crash: Callable[[str], Awaitable[None]]) -> None:
        self._crash = crash
        self._armed: Point | None = None
        self._counts: Counter[Kind] = Counter()
        self._open = False
        self._stopped: str | None = None
        self._next_write = asyncio.Event()
        self.seen: list[Kind] = []
        """Every write since `begin`, while the window was open."""
        self.fired = False
        """The armed point was reached."""

    def begin(self, armed: Point | None) -> None:
        """A new job: nothing is counted until the window is opened."""
        self._armed, self.fired, self._open = armed, False, False
        self._counts.clear()
        self.seen = []

    def open(self) -> None:
        """From here on, writes count."""
        self._open = True

    def close(self) -> None:
        self._open = False

    async def write(self, kind: Kind, call: Callable[[], Awaitable[None]], send: Callable[[], Awaitable[None]]) -> None:
        """One write: `call` asks the server, `send` answers the process. Raises Died instead of answering."""
        await self._held(kind.process)
        moment = self._count(kind)
        if moment is Moment.BEFORE:
            await self._kill(kind.process)
        await call()
        if moment is Moment.CALLED:
            await self._kill(kind.process)
        if moment is Moment.REPLIED:
            self._next_write.clear()
            self._stopped = kind.process
        await send()
        if moment is Moment.REPLIED:
            await self._until_next_write()
            await self._kill(kind.process)

    def _count(self, kind: Kind) -> Moment | None:
        """When to kill, if this write is the armed one."""
        if not self._open:
            return None
        self._counts[kind] += 1
        self.seen.append(kind)
        armed = self._armed
        if armed is None or self.fired or armed.write != Write(kind, self._counts[kind]):
            return None
        self.fired = True
        return armed.moment

    async def _held(self, process: str) -> None:
        """After the reply of the armed write nothing more gets through."""
        if self._stopped == process:
            self._next_write.set()
            raise Died

    async def _until_next_write(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._next_write.wait(), AFTER_REPLY_SECONDS)

    async def _kill(self, process: str) -> None:
        try:
            await self._crash(process)
        finally:
            self._stopped = None
        raise Died

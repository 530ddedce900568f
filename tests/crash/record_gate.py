"""The harness's end of held_records.py: writes of a record's file pass through the gate, like calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.crash.gate import Died, Gate
from tests.crash.points import Kind


class RecordGate:
    """An async context manager; `port` is where the process asks."""

    def __init__(self, process: str, gate: Gate, name: Callable[[bytes], str]) -> None:
        self._process, self._gate, self._name = process, gate, name
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._hold, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _hold(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def go_on() -> None:
            writer.write(b"go on\n")
            await writer.drain()

        async def replaced() -> None:
            await go_on()
            await reader.readline()

        with contextlib.suppress(Died, ConnectionError):
            await self._gate.write(Kind(self._process, self._name(await reader.readline())), replaced, go_on)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

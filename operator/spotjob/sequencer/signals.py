"""SIGINT and SIGTERM: the first ends the run in good order, the second ends the process."""

from __future__ import annotations

import asyncio
import signal
from types import TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Hears signals between `with` and its end."""

    def __init__(self, at_once: bool) -> None:
        """`at_once`: the first signal is as the second."""
        self._needed = 1 if at_once else 2
        self._heard: list[signal.Signals] = []
        self.leave = asyncio.Event()
        """Set when the process is to end without waiting for anything."""

    def __enter__(self) -> Signals:
        for each in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(each, self._hear, each)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for each in SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(each)

    def _hear(self, number: signal.Signals) -> None:
        self._heard.append(number)
        if len(self._heard) >= self._needed:
            self.leave.set()

    def why(self) -> str:
        """The name of the first signal; empty before one has come."""
        return self._heard[0].name if self._heard else ""

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, as shells count."""
        return 128 + self._heard[0]

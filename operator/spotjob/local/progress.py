"""Tells what is going on and how long it has taken: a spinner on a terminal, plain lines in a pipe."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_REMIND_SECONDS = 15.0


class Progress:
    """Steps with their elapsed seconds, on standard error, so that standard output keeps the results."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._began = time.monotonic()

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show `text` while the block runs, and its duration after."""
        began = time.monotonic()
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, began, over), daemon=True)
        ticker.start()
        try:
            yield
        except BaseException:
            _finish(ticker, over)
            self.say(f"  {text} ... failed after {time.monotonic() - began:.1f} s")
            raise
        _finish(ticker, over)
        self.say(f"  {text} ... {time.monotonic() - began:.1f} s")

    @property
    def elapsed_seconds(self) -> float:
        return time.monotonic() - self._began

    def _tick(self, text: str, began: float, over: threading.Event) -> None:
        if self._console.is_terminal:
            with self._console.status(text) as status:
                while not over.wait(1.0):
                    status.update(f"{text} ... {time.monotonic() - began:.0f} s")
        else:
            while not over.wait(_REMIND_SECONDS):
                self.say(f"  {text} ... {time.monotonic() - began:.0f} s so far")


def _finish(ticker: threading.Thread, over: threading.Event) -> None:
    over.set()
    ticker.join()

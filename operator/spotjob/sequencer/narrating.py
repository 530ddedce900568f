"""Tells a person, or the log, what a run does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table

from spotjob.aws.last_lines import LogTail
from spotjob.core.ports import Clock
from spotjob.core.sequence.ports import Looked, News, Refused, Unknown
from spotjob.core.sequence.runs import Run
from spotjob.core.sequence.steps import Sequence
from spotjob.sequencer.oldlog import OPEN_TO_LOOKS, Line, lines
from spotjob.sequencer.table import table

log = logging.getLogger(__name__)

LAST_LINE_SECONDS = 5.0
"""Between two readings of the last log line that the table shows."""


class Narrator:
    """Hears of each turn of a run, and logs what has changed."""

    def __init__(self, sequence: Sequence, run: Run, clock: Clock) -> None:
        self.run, self.looked = run, Looked(())
        self._sequence, self._clock = sequence, clock
        self._failed_looks = 0

    def watch(self, run: Run, news: News) -> None:
        before, self.run = self.run, run
        for line in lines(self._sequence, before, run, news, self._clock.now(), self._failed_looks):
            self.say(line)
        if news is not None:
            self._failed_looks = self._failed_looks + 1 if _failed_look(before, news) else 0
        self.looked = news if isinstance(news, Looked) else self.looked

    def say(self, line: Line) -> None:
        log.log(line.level, "%s", line.text)


class TableNarrator(Narrator):
    """The same on a terminal, where a table tells what goes well."""

    def __init__(self, sequence: Sequence, run: Run, clock: Clock, console: Console) -> None:
        super().__init__(sequence, run, clock)
        self._console, self._last_line = console, ""

    def say(self, line: Line) -> None:
        if not line.often and line.level != logging.INFO:
            super().say(line)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The table is on the screen, and stays there as it was last."""
        with Live(get_renderable=self._drawn, console=self._console, refresh_per_second=4, redirect_stderr=False):
            yield

    def _drawn(self) -> Table:
        return table(self.run, self._clock.now(), self._last_line)

    async def read_last_lines(self, log_tail: LogTail) -> None:
        """Until it is cancelled: the last line of the running step's first container."""
        while True:
            self._last_line = await self._read(log_tail)
            await asyncio.sleep(LAST_LINE_SECONDS)

    async def _read(self, log_tail: LogTail) -> str:
        place = self.run.current
        if place is None:
            return ""
        for task in self.looked.tasks:
            if task.arn in self.run.steps[place].tasks and task.containers:
                tail = await log_tail(self._sequence.steps[place].region, task, task.containers[0].name, 1)
                return tail[-1] if tail else ""
        return ""


def _failed_look(before: Run, news: News) -> bool:
    place = before.current
    looking = place is not None and before.steps[place].state in OPEN_TO_LOOKS
    return looking and isinstance(news, Unknown | Refused)

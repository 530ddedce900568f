"""The loop around `advance`: write the record, do what is to be done, hear what came of it, wait.

Nothing is done that does not stand in the record before. A record that cannot be written holds everything up, for ten
minutes at most; one that somebody else has written ends the loop at once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from spotjob.aws.last_lines import LastLines, LogTail
from spotjob.core.ports import Clock
from spotjob.core.sequence import lastlines
from spotjob.core.sequence.advance import advance
from spotjob.core.sequence.hear import hear
from spotjob.core.sequence.ports import Action, News, Records, RecordUnreachable
from spotjob.core.sequence.runs import Run
from spotjob.core.sequence.steps import Sequence

log = logging.getLogger(__name__)

WRITE_FOR_SECONDS = 600.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
RESOLUTION_SECONDS = 0.001
"""Less than this is no wait."""
GLANCE_SECONDS = 1.0
"""So soon a word to stop is heard."""


@dataclass(frozen=True)
class Outside:
    """All that a run has to do with outside of itself."""

    records: Records
    perform: Callable[[Action], Awaitable[News]]
    log_tail: LogTail
    clock: Clock
    watch: Callable[[Run, News], None]
    """Hears of each turn: the run, and the news that led to it."""
    stopping: Callable[[], str]
    """Why the run is to end before its time; empty while it is not."""
    poll: timedelta = timedelta(seconds=5)
    """Between two looks at a running step."""
    results_used: frozenset[int] = field(default_factory=frozenset)
    """Places of the steps whose result a later step is given."""


async def play(sequence: Sequence, run: Run, version: int, outside: Outside) -> Run:
    """Drive the run, whose record has this version, to its end. Raises RecordChanged, RecordUnreachable."""
    return await _Player(sequence, outside, run, version).play()


class _Player:
    def __init__(self, sequence: Sequence, outside: Outside, run: Run, version: int) -> None:
        self._sequence, self._out = sequence, outside
        self._run, self._written, self._version = run, run.record(), version
        self._waited_to = run.started_at
        self._last_lines = LastLines(outside.log_tail, outside.clock)

    async def play(self) -> Run:
        news: News = None
        while True:
            self._run = await self._heard(news)
            turn = advance(
                self._sequence,
                self._run,
                None,
                self._now(),
                roll=self._roll(),
                poll=self._out.poll,
                stop=self._out.stopping(),
            )
            self._run = turn.run
            await self._write()
            self._out.watch(self._run, news)
            if turn.do is not None:
                used = self._run.current in self._out.results_used
                news = await self._out.perform(lastlines.asking(turn.do, used))
            elif self._run.state.over or turn.wake_at is None:
                return self._run
            else:
                news = None
                await self._wait(turn.wake_at)

    # ---- news ----

    async def _heard(self, news: News) -> Run:
        place = self._run.current
        if place is None or news is None:
            return self._run
        step, before = self._sequence.steps[place], self._run.steps[place]
        after = hear(step, before, news, self._now(), self._roll())
        used = place in self._out.results_used
        return self._run.with_step(place, await self._last_lines.added(step, before, after, news, used))

    # ---- the record ----

    async def _write(self) -> None:
        """The record, if it has changed. Tried again with growing pauses while it cannot be reached."""
        record = self._run.record()
        if record == self._written:
            return
        since, pause = self._out.clock.monotonic(), FIRST_PAUSE_SECONDS
        while True:
            try:
                self._version = await self._out.records.save(record, self._version)
                break
            except RecordUnreachable as error:
                if self._out.clock.monotonic() - since >= WRITE_FOR_SECONDS:
                    raise
                log.warning("the record of the run cannot be written, trying again: %s", error)
            await self._out.clock.sleep(pause * (0.5 + self._roll()))
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
        self._written = record

    # ---- time ----

    def _now(self) -> datetime:
        """The time, but never before the end of a wait: a clock that is set back must not make it longer."""
        return max(self._out.clock.now(), self._waited_to)

    async def _wait(self, until: datetime) -> None:
        """Until then, or until the word to stop."""
        told = self._out.stopping()
        end = self._out.clock.monotonic() + (until - self._now()).total_seconds()
        while (rest := end - self._out.clock.monotonic()) > RESOLUTION_SECONDS:
            if self._out.stopping() != told:
                return
            await self._out.clock.sleep(min(rest, GLANCE_SECONDS))
        self._waited_to = max(self._waited_to, until)

    def _roll(self) -> float:
        """Jitter in [0, 1)."""
        return int(self._out.clock.token()[:8], 16) / 2**32

"""One call of the command line, from the file to the exit code.

Exit codes: 0 all good, 1 a step failed or the record of the run was lost or taken over, 2 nothing has been started,
130 and 143 ended by SIGINT and SIGTERM.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn

from rich.console import Console

from spotjob.core.ports import Clock
from spotjob.core.sequence.ports import RecordChanged, RecordUnreachable
from spotjob.core.sequence.resume import part
from spotjob.core.sequence.runs import Run, RunState, StepState, new_run
from spotjob.sequencer.document import Document, InvalidDocument, read_document
from spotjob.sequencer.environment import BadUsage, Environment
from spotjob.sequencer.narrating import Narrator, TableNarrator
from spotjob.sequencer.oldlog import ALARM, last_lines
from spotjob.sequencer.parts import place_of
from spotjob.sequencer.plan import plan
from spotjob.sequencer.play import Outside, play
from spotjob.sequencer.reach import Reach, reach
from spotjob.sequencer.signals import Signals
from spotjob.sequencer.source import Source, read_source
from spotjob.sequencer.state import open_records, taken_up

log = logging.getLogger(__name__)

FAILED, NOT_STARTED = 1, 2
MAY_RUN = (StepState.REQUESTING, StepState.RUNNING, StepState.STOPPING)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    source: str
    state: str
    environment: Environment
    names: Mapping[str, str]
    """What `${NAME}` stands for: the environment, and --set over it."""
    given: frozenset[str] = field(default_factory=frozenset)
    """The names of --set."""
    first: str = ""
    until: str = ""
    resume: str = ""
    namespace: str = ""
    dry_run: bool = False
    detach: bool = False
    output: Literal["text", "json"] = "text"
    terminal: Console | None = None
    """Where a table is drawn; None: there are log lines only."""


async def run(asked: Asked, clock: Clock) -> int:
    """The exit code. Everything has been said."""
    try:
        source = await read_source(asked.source)
        document = _document(source, asked)
        if asked.dry_run:
            return _show_plan(document, asked, clock)
        return await _run(document, asked, clock)
    except InvalidDocument as error:
        for problem in error.problems:
            print(f"{asked.source}:{problem}", file=sys.stderr)
        log.error("%s: %s cannot be run: %d problems", ALARM, asked.source, len(error.problems))
    except BadUsage as error:
        log.error("%s: %s", ALARM, error)
    return NOT_STARTED


def _document(source: Source, asked: Asked) -> Document:
    return read_document(source.text, asked.names, given=asked.given, read_file=source.read_beside)


def _show_plan(document: Document, asked: Asked, clock: Clock) -> int:
    run = _part(document, new_run(document.sequence, "", document.digest, clock.now()), asked, clock)
    print(json.dumps(plan(document.sequence, run), indent=2))
    return 0


def _part(document: Document, run: Run, asked: Asked, clock: Clock) -> Run:
    if not asked.first and not asked.until:
        return run
    sequence = document.sequence
    first = place_of(sequence, asked.first, "--from") if asked.first else 0
    last = place_of(sequence, asked.until, "--until") if asked.until else len(sequence.steps) - 1
    if first > last:
        raise BadUsage(f"--from {asked.first} comes after --until {asked.until}")
    return part(run, first, last, clock.now())


# ---- a run ----------------------------------------------------------------------------------------------------------


async def _run(document: Document, asked: Asked, clock: Clock) -> int:
    sequence = document.sequence
    async with AsyncExitStack() as stack:
        records = await stack.enter_async_context(open_records(asked.state, asked.environment.create_table, clock))
        try:
            if asked.resume:
                run, version = await taken_up(records, sequence, document.digest, asked.resume, clock)
            else:
                run, version = new_run(sequence, _run_id(clock), document.digest, clock.now()), 0
            run = _part(document, run, asked, clock)
            services = await stack.enter_async_context(
                reach(sequence, asked.namespace, run.id, asked.environment.events_queue, clock)
            )
            await services.try_jobs(sequence, run)
            version = await records.save(run.record(), version)
        except RecordChanged as error:
            log.error("%s: %s", ALARM, error)
            return FAILED
        except RecordUnreachable as error:
            raise BadUsage(f"the record of the run cannot be written, so nothing was started: {error}") from error
        log.info("%s run %s, record in %s", "resuming" if asked.resume else "starting", run.id, asked.state)
        driver = _Driver(document, asked, clock, services, records)
        code = await driver.drive(run, version)
        if driver.left:
            _leave(code)
        return code


def _leave(code: int) -> NoReturn:
    """At once: connections would wait for answers before they close."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _run_id(clock: Clock) -> str:
    """Such as 20261122-080312-5f2c9a: its runs sort by their start. It becomes part of names of SpotJobs."""
    return f"{clock.now():%Y%m%d-%H%M%S}-{clock.token()[:6]}"


class _Driver:
    def __init__(self, document: Document, asked: Asked, clock: Clock, services: Reach, records: Any) -> None:
        self._document, self._asked, self._clock = document, asked, clock
        self._services, self._records = services, records
        self.left = False
        """The process ends at a person's word, and something may still run."""

    async def drive(self, run: Run, version: int) -> int:
        narrator = self._narrator(run)
        with Signals(at_once=self._asked.detach) as signals:
            try:
                async with AsyncExitStack() as shown:
                    if isinstance(narrator, TableNarrator):
                        await self._show(narrator, shown)
                    ended = await self._play(run, version, narrator, signals)
            except (RecordChanged, RecordUnreachable) as error:
                log.error("%s: %s", ALARM, error)
                self._say_what_runs(narrator.run)
                return self._end(narrator.run, FAILED)
        if ended is None:
            self.left = True
            log.warning("left by %s", signals.why())
            self._say_what_runs(narrator.run)
            return self._end(narrator.run, signals.exit_code)
        code = _exit_code(ended, signals)
        for line in last_lines(ended, code):
            log.log(line.level, "%s", line.text)
        return self._end(ended, code)

    async def _play(self, run: Run, version: int, narrator: Narrator, signals: Signals) -> Run | None:
        """The run at its end; None when a signal ends the process before."""
        playing = asyncio.create_task(play(self._document.sequence, run, version, self._outside(narrator, signals)))
        leaving = asyncio.create_task(signals.leave.wait())
        await asyncio.wait({playing, leaving}, return_when=asyncio.FIRST_COMPLETED)
        for task in (playing, leaving):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await leaving
        with suppress(asyncio.CancelledError):
            return await playing
        return None

    def _outside(self, narrator: Narrator, signals: Signals) -> Outside:
        steps = self._document.sequence.steps
        used = frozenset(place for place, step in enumerate(steps) if step.name in self._document.results_used)
        return Outside(
            records=self._records,
            perform=self._services.perform,
            log_tail=self._services.log_tail,
            clock=self._clock,
            watch=narrator.watch,
            stopping=signals.why,
            poll=self._asked.environment.poll,
            results_used=used,
        )

    # ---- what is said ----

    def _narrator(self, run: Run) -> Narrator:
        if self._asked.terminal is None:
            return Narrator(self._document.sequence, run, self._clock)
        return TableNarrator(self._document.sequence, run, self._clock, self._asked.terminal)

    async def _show(self, narrator: TableNarrator, shown: AsyncExitStack) -> None:
        shown.enter_context(narrator.shown())
        reading = asyncio.create_task(narrator.read_last_lines(self._services.log_tail))
        shown.callback(reading.cancel)

    def _say_what_runs(self, run: Run) -> None:
        for at in run.steps:
            if at.state in MAY_RUN:
                what = " ".join(at.tasks) or at.job or "its request may have had its effect"
                log.error("%s: %s may still run: %s", ALARM, at.name, what)
        log.info("to go on: sequencer %s --state %s --resume %s", self._asked.source, self._asked.state, run.id)

    def _end(self, run: Run, code: int) -> int:
        if self._asked.output == "json":
            print(json.dumps(run.wire(), indent=2))
        return code


def _exit_code(run: Run, signals: Signals) -> int:
    match run.state:
        case RunState.SUCCEEDED:
            return 0
        case RunState.STOPPED if signals.why():
            return signals.exit_code
        case _:
            return FAILED

"""`make crashtest`: kills the operator, and separately the API, at every write in the life of a job.

First each scenario is lived through once without a crash; the writes that are seen then are the points, three for
each: before the call, after it and before the reply, and after the reply. Then there is one job for each point.

    make crashtest ARGS="--scenario a,b --points bind --lanes 1"
    make crashtest ARGS=--list
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from spotjob.local.laptop import Platform
from spotjob.local.progress import Progress
from tests.crash import report
from tests.crash.lane import WINDOW_SECONDS, Lane
from tests.crash.points import Kind, Point, numbered, points
from tests.crash.scenarios import SCENARIOS, WARM_UP, Scenario
from tests.crash.trial import Result, Trial

REST_SECONDS = WINDOW_SECONDS + 90
"""Instances that nobody bound are gone by then: they power off at W."""
TRIES = 2
"""How often a point is tried that was not reached: what a busy process writes at once, a restarted one may not."""


@dataclass(slots=True)
class Session:
    """All that was tried."""

    begun: float = field(default_factory=time.monotonic)
    total: int = 0
    results: list[Result] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    """Instances that were alive at the very end."""

    def note(self, result: Result) -> None:
        self.results.append(result)
        if result.point is not None:
            done = sum(1 for each in self.results if each.point is not None)
            print(report.line(result, done, self.total, time.monotonic() - self.begun), flush=True)


async def play(lane: Lane, scenario: Scenario, point: Point | None = None) -> Result:
    """One job; one that misses its point gets a successor."""
    for _ in range(TRIES - 1):
        result = await Trial(lane, scenario).live(point)
        if point is None or result.fired or result.findings:
            return result
    return await Trial(lane, scenario).live(point)


async def work(lane: Lane, todo: deque[tuple[Scenario, Point]], session: Session) -> None:
    """Points, until none is left."""
    while todo:
        scenario, point = todo.popleft()
        session.note(await play(lane, scenario, point))


async def rest(lane: Lane) -> list[str]:
    """Wait for the instances that power themselves off; those that do not are leaks."""
    deadline = time.monotonic() + REST_SECONDS
    while (alive := await lane.alive(ending=True)) and time.monotonic() < deadline:  # noqa: ASYNC110 -- another process
        await asyncio.sleep(1)
    return sorted(alive)


async def run(options: argparse.Namespace, folder: Path) -> Session:
    """The whole test."""
    session = Session()
    chosen = [each for each in SCENARIOS if options.scenario is None or each.key in options.scenario]
    async with AsyncExitStack() as stack:
        lanes = [await _lane(stack, folder / f"lane-{n}") for n in range(1, options.lanes + 1)]
        await asyncio.gather(*(play(lane, WARM_UP) for lane in lanes))
        print(f"{len(lanes)} platform(s) up after {time.monotonic() - session.begun:.0f} s", flush=True)
        todo = await _points(lanes, chosen, options, session)
        session.total = len(todo)
        if options.list:
            return session
        await asyncio.gather(*(work(lane, todo, session) for lane in lanes))
        print("waiting for instances that nobody bound to power themselves off", flush=True)
        session.leaked = [leak for leaks in await asyncio.gather(*map(rest, lanes)) for leak in leaks]
    return session


async def _lane(stack: AsyncExitStack, folder: Path) -> Lane:
    """On a platform of its own, which goes down with the stack."""
    platform = Platform(folder, Progress(Console(quiet=True)))
    stack.push_async_callback(asyncio.to_thread, platform.down)
    return await stack.enter_async_context(Lane(platform))


async def _points(
    lanes: Sequence[Lane], chosen: Sequence[Scenario], options: argparse.Namespace, session: Session
) -> deque[tuple[Scenario, Point]]:
    """Every scenario once without a crash, side by side; then the points of all of them."""
    waiting, lives = deque(chosen), dict[str, Result]()

    async def recorded(lane: Lane) -> None:
        while waiting:
            scenario = waiting.popleft()
            lives[scenario.key] = await play(lane, scenario)

    await asyncio.gather(*map(recorded, lanes))
    todo, known = deque[tuple[Scenario, Point]](), set[Kind]()
    for scenario in chosen:
        life = lives[scenario.key]
        found = points(scenario.key, numbered(life.seen, known))
        known.update(life.seen)
        session.note(life)
        print(report.recording(life, found), flush=True)
        todo += [(scenario, point) for point in found if _chosen(point, options.points)]
    return todo


def _chosen(point: Point, words: Sequence[str]) -> bool:
    return not words or any(word.lower() in str(point).lower() for word in words)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every point was tried and nothing was found."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the platforms go down
    folder = Path(tempfile.mkdtemp(prefix="crashtest-"))
    session = asyncio.run(run(options, folder))
    if options.list:
        return 0
    print(report.table(session.results, session.leaked))
    failed = report.failed(session.results, session.leaked)
    if failed:
        print(f"logs: {folder}/lane-*/logs", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crashtest", description="Kill the product at every write.")
    parser.add_argument("--scenario", type=lambda text: text.split(","), help="keys, such as a,b; default: all")
    parser.add_argument("--points", nargs="*", default=(), help="only points with one of these in their names")
    parser.add_argument("--lanes", type=int, default=2, help="platforms side by side")
    parser.add_argument("--list", action="store_true", help="only tell the points")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""`make crashtest`: kills the operator, and separately the API, at every write in the life of a job, and the command
line of the Sequencer at every AWS call and every write of its record in the life of a run.

First each scenario is lived through once without a crash; the writes that are seen then are the points, three for
each: before the call, after it and before the reply, and after the reply. Then there is one life for each point.

    make crashtest ARGS="--scenario a,b --points bind --lanes 1"
    make crashtest ARGS="--scenario seq"
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

from tests.crash import places, report
from tests.crash.places import KINDS, Place
from tests.crash.points import Kind, Point, numbered, points
from tests.crash.results import Result, Story

TRIES = 2
"""How often a point is tried that was not reached: what a busy process writes at once, a restarted one may not."""


@dataclass(slots=True)
class Session:
    """All that was tried."""

    begun: float = field(default_factory=time.monotonic)
    total: int = 0
    results: list[Result] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    """Instances and tasks that were alive at the very end."""

    def note(self, result: Result) -> None:
        self.results.append(result)
        if result.point is not None:
            done = sum(1 for each in self.results if each.point is not None)
            print(report.line(result, done, self.total, time.monotonic() - self.begun), flush=True)


async def play(place: Place, scenario: Story, point: Point | None = None) -> Result:
    """One life; one that misses its point gets a successor."""
    for _ in range(TRIES - 1):
        result = await place.live(scenario, point)
        if point is None or result.fired or result.findings:
            return result
    return await place.live(scenario, point)


async def work(place: Place, todo: deque[tuple[Story, Point]], session: Session) -> None:
    """Points, until none is left."""
    while todo:
        scenario, point = todo.popleft()
        session.note(await play(place, scenario, point))


async def run(options: argparse.Namespace, folder: Path) -> Session:
    """The whole test: one kind of lanes after the other."""
    session = Session()
    for kind in KINDS:
        chosen = [each for each in kind.scenarios if _wanted(each.key, options.scenario)]
        if chosen:
            await _run(kind, chosen, options, session, folder)
    return session


async def _run(
    kind: places.Kind, chosen: Sequence[Story], options: argparse.Namespace, session: Session, folder: Path
) -> None:
    async with AsyncExitStack() as stack:
        folders = [folder / f"{kind.name}-{n}" for n in range(1, options.lanes * kind.lanes + 1)]
        lanes = [await kind.open(stack, each) for each in folders]
        print(f"{len(lanes)} {kind.name}(s) up after {time.monotonic() - session.begun:.0f} s", flush=True)
        todo = await _points(kind, lanes, chosen, options, session)
        session.total += len(todo)
        if options.list:
            return
        await asyncio.gather(*(work(lane, todo, session) for lane in lanes))
        print("waiting for what is to end by itself", flush=True)
        session.leaked += [leak for leaks in await asyncio.gather(*(lane.rest() for lane in lanes)) for leak in leaks]


async def _points(
    kind: places.Kind, lanes: Sequence[Place], chosen: Sequence[Story], options: argparse.Namespace, session: Session
) -> deque[tuple[Story, Point]]:
    """Every scenario once without a crash, side by side; then the points of all of them."""
    waiting, lives = deque(chosen), dict[str, Result]()

    async def recorded(lane: Place) -> None:
        while waiting:
            scenario = waiting.popleft()
            lives[scenario.key] = await play(lane, scenario)

    await asyncio.gather(*map(recorded, lanes))
    todo, known = deque[tuple[Story, Point]](), set[Kind]()
    for scenario in chosen:
        life = lives[scenario.key]
        found = points(scenario.key, numbered(life.seen, kind.most, known))
        known.update(life.seen)
        session.note(life)
        print(report.recording(life, found), flush=True)
        todo += [(scenario, point) for point in found if _chosen(point, options.points)]
    return todo


def _wanted(key: str, keys: Sequence[str] | None) -> bool:
    """`seq` stands for seq-table and all its like."""
    return keys is None or any(key == each or key.startswith(f"{each}-") for each in keys)


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
        print(f"logs: {folder}/*/logs", file=sys.stderr)
    else:
        shutil.rmtree(folder)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="crashtest", description="Kill the product at every write.")
    parser.add_argument("--scenario", type=lambda text: text.split(","), help="keys, such as a,seq; default: all")
    parser.add_argument("--points", nargs="*", default=(), help="only points with one of these in their names")
    parser.add_argument("--lanes", type=int, default=2, help="platforms side by side")
    parser.add_argument("--list", action="store_true", help="only tell the points")
    return parser


if __name__ == "__main__":
    sys.exit(main())

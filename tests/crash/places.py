"""Where scenarios are lived through: on platforms, and on accounts with nothing but the Sequencer's command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from spotjob.local.laptop import Platform
from spotjob.local.progress import Progress
from tests.crash import account
from tests.crash.lane import WINDOW_SECONDS, Lane
from tests.crash.points import Point
from tests.crash.results import Result, Story
from tests.crash.run_lane import RunLane
from tests.crash.run_trial import RunTrial
from tests.crash.runs import RUNS
from tests.crash.scenarios import SCENARIOS, WARM_UP, Scenario
from tests.crash.sequence_trial import SequenceTrial
from tests.crash.sequences import SEQUENCES, SequenceScenario
from tests.crash.trial import Trial

REST_SECONDS = WINDOW_SECONDS + 90
"""Instances that nobody bound are gone by then: they power off at W."""


@dataclass(frozen=True, slots=True)
class Place:
    """One lane: lives go through it one after another."""

    live: Callable[[Any, Point | None], Awaitable[Result]]
    """(scenario, where it is killed)"""
    rest: Callable[[], Awaitable[list[str]]]
    """What is alive at the very end."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Lanes of one kind, and the scenarios that need them."""

    name: str
    scenarios: Sequence[Story]
    lanes: int
    """So many take the room of one platform."""
    most: int
    """Of each kind of write, this many are tried in one life."""
    open: Callable[[AsyncExitStack, Path], Awaitable[Place]]
    """Opens one whose files are in this folder; it goes down with the stack."""


async def _on_a_platform(stack: AsyncExitStack, folder: Path) -> Place:
    platform = Platform(folder, Progress(Console(quiet=True)))
    stack.push_async_callback(asyncio.to_thread, platform.down)
    lane = await stack.enter_async_context(Lane(platform))

    await asyncio.to_thread(account.register, lane.layout.aws_url)
    await Trial(lane, WARM_UP).live(None)
    return Place(partial(_live, lane), partial(_rest, lane))


async def _live(lane: Lane, scenario: Scenario | SequenceScenario, point: Point | None) -> Result:
    if isinstance(scenario, SequenceScenario):
        return await SequenceTrial(lane, scenario).live(point)
    return await Trial(lane, scenario).live(point)


async def _rest(lane: Lane) -> list[str]:
    """Wait for the instances that power themselves off; those that do not are leaks."""
    deadline = time.monotonic() + REST_SECONDS
    while (alive := await lane.alive(ending=True)) and time.monotonic() < deadline:  # noqa: ASYNC110 -- another process
        await asyncio.sleep(1)
    return [f"instance {each}" for each in sorted(alive)]


async def _on_an_account(stack: AsyncExitStack, folder: Path) -> Place:
    lane = await stack.enter_async_context(RunLane(folder))

    async def rest() -> list[str]:
        return [f"task {task['arn']}" for task in await lane.tasks() if task["lastStatus"] != "STOPPED"]

    return Place(lambda scenario, point: RunTrial(lane, scenario).live(point), rest)


KINDS = (
    Kind("platform", (*SCENARIOS, *SEQUENCES), 1, 2, _on_a_platform),
    Kind("account", RUNS, 3, 100, _on_an_account),
)

"""A container from outside: it runs, calls back, obeys a signal sooner or later, and exits. It outlives its agent."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from spotjob.core.contract import Assignment, FinishedAs
from spotjob.core.ports import KubeError, Unanswered
from tests.simulation.service import Over

if TYPE_CHECKING:
    from tests.simulation.world import World

CALL_AGAIN_SECONDS = 2
KILLED = 137


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the container of one attempt does, if it is let."""

    seconds: float
    """How long it runs."""
    code: int
    """Its exit code then."""
    prepare_seconds: float = 0.0
    """The image takes so long to come."""
    fails: FinishedAs | None = None
    """No container comes of it."""
    says: Literal["ok", "nok"] | None = None
    """It calls back, at half time."""
    stops_in: float = 0.0
    """So long after a stop signal it exits: with 0 if it would have done so anyway, else with 143."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended."""

    code: int
    signalled: bool


@dataclass(slots=True)
class Story:
    """What truly became of one attempt, whatever anybody says about it."""

    instance: str
    behaviour: Behaviour
    started_at: datetime | None = None
    signalled_at: datetime | None = None
    ended_at: datetime | None = None
    """When the container exited; it may also die with its instance, or be lost with a reboot."""
    exit: Exit | None = None
    said: bool = False
    """It has called back, or tried to."""
    heard: bool = False
    """The API has taken its word."""
    told_at: datetime | None = None
    """When the result stood on the serial console."""

    @property
    def proven(self) -> bool:
        """Its work is done: it exited with 0 of its own accord and has not said otherwise."""
        return self.exit == Exit(0, signalled=False) and not (self.said and self.behaviour.says == "nok")


@dataclass
class Container:
    """The container of one attempt."""

    world: World
    pair: Assignment
    story: Story
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _kill: asyncio.Event = field(default_factory=asyncio.Event)

    def signal(self) -> None:
        if self.story.signalled_at is None and not self.ended.is_set():
            self.story.signalled_at = self.world.clock.now()
        self._stop.set()

    def kill(self) -> None:
        self.signal()
        self._kill.set()

    async def run(self) -> None:
        """Until it exits, or its machine is off."""
        self.story.started_at = self.world.clock.now()
        self.world.container_started(self.pair)
        try:
            self.story.exit = await self._lived()
            self.story.ended_at = self.world.clock.now()
        finally:
            self.world.container_ended(self.pair)
        self.ended.set()

    async def _lived(self) -> Exit:
        behaviour = self.story.behaviour
        caller = asyncio.create_task(self._call_back(behaviour)) if behaviour.says else None
        try:
            async with asyncio.timeout(behaviour.seconds):
                await self._stop.wait()
        except TimeoutError:
            return Exit(behaviour.code, signalled=False)
        finally:
            if caller is not None:
                caller.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(behaviour.stops_in):
                await self._kill.wait()
                return Exit(KILLED, signalled=True)
        return Exit(143 if behaviour.code else 0, signalled=True)

    async def _call_back(self, behaviour: Behaviour) -> None:
        await asyncio.sleep(behaviour.seconds / 2)
        assert behaviour.says is not None
        self.story.said = True
        while True:
            try:
                await self.world.api.callback(self.pair, self.story.instance, behaviour.says)
                self.story.heard = True
                return
            except Over:
                return
            except (KubeError, Unanswered):
                await asyncio.sleep(CALL_AGAIN_SECONDS)

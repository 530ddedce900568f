"""An instance from the inside, as a coroutine: the agent, its disk, and the container that outlives the agent.

It hears no orders (heartbeats): a container that must stop runs on until its instance is terminated. That is the
worst host that the operator has to cope with.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from spotjob.core import claims, conditions, reports
from spotjob.core.conditions import merge_patch
from spotjob.core.contract import Assignment, ClaimRequest, Report
from spotjob.core.ports import KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change

if TYPE_CHECKING:
    from tests.simulation.world import World

NOTICE_SECONDS = 5
SIGNAL_BEFORE = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Exit:
    """How a container ended."""

    code: int
    signalled: bool


class Host:
    """One running instance."""

    def __init__(self, world: World, instance_id: str) -> None:
        self._world, self.id = world, instance_id
        self._assignment: Assignment | None = None  # on disk
        self._claimed = False  # on disk
        self._noticed = False
        self._signal = asyncio.Event()
        self._container: asyncio.Task[None] | None = None
        self._exit: Exit | None = None
        self._ended = asyncio.Event()
        self._agent = asyncio.create_task(self._work())
        self._agents = [self._agent]

    # ---- from outside ----

    def restart_agent(self) -> None:
        """The agent dies at any line and comes back; its disk and the container stay."""
        self._agent.cancel()
        self._agent = asyncio.create_task(self._work())
        self._agents.append(self._agent)

    def tasks(self) -> list[asyncio.Task[None]]:
        return [*self._agents, *([self._container] if self._container else [])]

    def die(self) -> None:
        """The machine is off."""
        for task in self.tasks():
            task.cancel()

    # ---- the agent ----

    async def _work(self) -> None:
        if not self._claimed and not await self._take_work():
            return self._power_off()
        assert self._assignment is not None
        if self._container is None:
            self._container = asyncio.create_task(self._run(self._assignment))
        notices = asyncio.create_task(self._look_for_notices())
        self._agents.append(notices)
        if await self._say(kind="started", at=self._world.clock.now()):
            await self._ended.wait()
            await self._say_the_end()
        notices.cancel()
        return self._power_off()

    async def _take_work(self) -> bool:
        """Ask, then claim. False: refused, or nobody wanted this instance within the window."""
        until = self._world.ec2.instance(self.id).launched + timedelta(seconds=self._world.window_seconds)
        while self._world.clock.now() < until:
            if self._assignment is None:
                self._assignment = await self._asked()
            if self._assignment is not None:
                answer = await self._claim(self._assignment)
                if answer is not None:
                    self._claimed = answer
                    return answer
            await asyncio.sleep(1)
        return False

    async def _asked(self) -> Assignment | None:
        try:
            jobs = await self._world.api_line.jobs_of_instance(self.id)
        except Unanswered:
            return None
        return next((found for job in jobs if (found := claims.assignment_for(job, self.id))), None)

    async def _claim(self, pair: Assignment) -> bool | None:
        """None: no definite answer, ask again."""
        request = ClaimRequest(uid=pair.uid, attempt=pair.attempt, nonce=f"nonce-of-{self.id}")
        try:
            job = await self._world.api_line.get_job(pair.namespace, pair.name)
            decided = claims.claim(job, self.id, request)
            if isinstance(decided, claims.Refused):
                return False
            if not isinstance(decided, claims.AlreadyYours):
                await self._write(job, decided)
        except NotFound:
            return False
        except (KubeError, Unanswered):
            return None
        return True

    async def _look_for_notices(self) -> None:
        while not self._ended.is_set():
            reclaim_at = self._world.ec2.instance(self.id).reclaim_at
            if reclaim_at is not None and not self._noticed:
                self._noticed = await self._say(kind="notice", at=reclaim_at)
            if reclaim_at is not None and self._world.clock.now() >= reclaim_at - SIGNAL_BEFORE:
                self._signal.set()
            await asyncio.sleep(NOTICE_SECONDS)

    async def _say_the_end(self) -> None:
        assert self._exit is not None
        await self._say(
            kind="finished",
            at=self._world.clock.now(),
            finished_as="Exited",
            exit_code=self._exit.code,
            signalled=self._exit.signalled,
        )

    async def _say(self, **report: Any) -> bool:
        """Until it is heard; False when nobody wants to hear it any more."""
        assert self._assignment is not None
        while True:
            try:
                return await self._report(self._assignment, Report(**report))
            except NotFound:
                return False
            except (KubeError, Unanswered):
                await asyncio.sleep(1)

    async def _report(self, pair: Assignment, report: Report) -> bool:
        job = await self._world.api_line.get_job(pair.namespace, pair.name)
        if not claims.holds(job, pair.uid, pair.attempt, self.id):
            return False
        change = reports.change_for(job, report, self._world.clock.now())
        if change is not None:
            await self._write(job, change)
        return True

    async def _write(self, job: SpotJob, change: Change) -> None:
        """As api.writing: nothing is written when nothing changes."""
        patch = merge_patch(job.status, conditions.next_status(job, change, self._world.clock.now()))
        if patch:
            await self._world.api_line.write_status(job, patch)

    def _power_off(self) -> None:
        self._world.ec2.advance(self._world.clock.now())
        self._world.ec2.power_off(self.id)

    # ---- the container ----

    async def _run(self, pair: Assignment) -> None:
        seconds, code = self._world.behaviour(pair)
        self._world.container_started(pair)
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._signal.wait()
                self._exit = Exit(143 if code else 0, signalled=True)
            except TimeoutError:
                self._exit = Exit(code, signalled=False)
        finally:
            self._world.container_ended(pair, self._exit)
        self._ended.set()

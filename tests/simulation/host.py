"""An instance from the inside: its disk, its kill timer, its agent, and the container that outlives the agent.

The container runs on until its instance is terminated: the worst host that the operator has to cope with.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from spotjob.core.contract import Assignment, Report
from spotjob.local.ec2.records import Ec2Instance
from tests.simulation.agent import Agent
from tests.simulation.container import Container, Story
from tests.simulation.service import Timers
from tests.simulation.virtual import Process

if TYPE_CHECKING:
    from tests.simulation.world import World

REBOOT_SECONDS = 15


@dataclass(slots=True)
class Disk:
    """What a reboot leaves."""

    pair: Assignment | None = None
    claimed: Timers | None = None
    """When the instance powers itself off, as the answer to the claim said."""
    begun: bool = False
    result: Report | None = None


class Host:
    """One running instance."""

    def __init__(self, world: World, instance_id: str) -> None:
        self.world, self.id = world, instance_id
        self.disk = Disk()
        self.launched = self.instance.launched
        self.kill_at = self.launched + timedelta(seconds=world.window_seconds)
        """The kill timer: a unit on disk with an absolute time."""
        self.container: Container | None = None
        self.deaf = False
        """The metadata service does not answer."""
        self.agent_dead = False
        """Whatever started it again does so no more."""
        self.hung = self.rebooting = self._dead = False
        self.heard_at = self.launched
        """When the API last answered its heartbeat."""
        self._agent_process, self._container_process = Process(), Process()
        self._tasks: list[asyncio.Task[None]] = []
        self._agent = self._start_agent()

    @property
    def instance(self) -> Ec2Instance:
        return self.world.ec2.instance(self.id)

    def tasks(self) -> list[asyncio.Task[None]]:
        return self._tasks

    @property
    def unheard(self) -> bool:
        """It has a result that it has not got rid of."""
        return self.disk.result is not None and not self._agent.done()

    @property
    def container_seconds(self) -> float:
        """How long its container runs on, if it is let; 0 without one."""
        if self.container is None or (began := self.container.story.started_at) is None:
            return 0.0
        return self.container.story.behaviour.seconds - (self.world.clock.now() - began).total_seconds()

    # ---- its own doing ----

    def tick(self) -> None:
        """Time passes. A host that hangs has no timers."""
        if not self.hung and self.world.clock.now() >= self.kill_at:
            self.power_off()

    def power_off(self) -> None:
        self.world.ec2.advance(self.world.clock.now())
        self.world.ec2.power_off(self.id)

    def story(self, pair: Assignment) -> Story:
        return self.world.stories.setdefault((pair.uid, pair.attempt), Story(self.id, self.world.behaviour(pair)))

    def start_container(self, pair: Assignment) -> None:
        story = self.story(pair)
        self.container = Container(self.world, pair, story)
        self._start(self.container.run(), self._container_process)

    def _start_agent(self) -> asyncio.Task[None]:
        return self._start(Agent(self).work(), self._agent_process)

    def _start(self, work: object, process: Process) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, context=process.context())  # type: ignore[arg-type]
        self._tasks.append(task)
        return task

    # ---- what happens to it ----

    def restart_agent(self) -> None:
        """The agent dies at any line and comes back; its disk and the container stay."""
        self._agent.cancel()
        if not self.agent_dead:
            self._agent = self._start_agent()

    def kill_agent(self) -> None:
        """The agent dies and stays dead: only the kill timer and the operator end this instance."""
        self.agent_dead = True
        self._agent.cancel()

    def reboot(self) -> None:
        """The container is gone; the agent comes back and finds what is on the disk."""
        for task in self._tasks:
            task.cancel()
        self.recover()
        self.container = None
        self.rebooting = not self.agent_dead
        if self.rebooting:
            asyncio.get_running_loop().call_later(REBOOT_SECONDS, self._booted, context=self._agent_process.context())

    def _booted(self) -> None:
        self.rebooting = False
        if self.instance.alive:
            self._agent = self._start_agent()

    def hang(self, container_too: bool) -> None:
        """Nothing goes on but, maybe, the container."""
        self.hung = True
        self._agent_process.freeze()
        if container_too:
            self._container_process.freeze()

    def recover(self) -> None:
        self.hung = False
        self._agent_process.thaw()
        self._container_process.thaw()

    def die(self) -> None:
        """The machine is off."""
        if not self._dead:
            self._dead = True
            for task in self._tasks:
                task.cancel()
            self.recover()

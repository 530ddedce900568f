"""The real controller in one process with the simulated EC2, an API server in memory and agents that are coroutines.

async with World() as world:
    world.cluster.apply("night")
    await world.until(lambda: world.cluster.phases()["TerminatedOK"] == 1)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from spotjob.controller.lease import Lease
from spotjob.controller.orders import Cluster as Identity
from spotjob.controller.runtime import Runtime
from spotjob.core.contract import Assignment
from spotjob.core.plan import CLUSTER_UID_TAG
from spotjob.core.resources import SpotJob
from spotjob.core.states import InstanceState
from spotjob.local.ec2 import Simulator, Timing
from spotjob.settings import Settings
from tests.simulation.account import START, LoopClock, MemoryTable, Network, SimulatedAws, a_class
from tests.simulation.cluster import Cluster, Line
from tests.simulation.container import Behaviour, Story
from tests.simulation.events import MemoryQueue
from tests.simulation.host import Host
from tests.simulation.service import Api
from tests.simulation.virtual import Process

KEYRING = {"k1": b"a key of the simulation, 32 bytes"}


@dataclass(slots=True)
class Operator:
    """One replica."""

    runtime: Runtime
    line: Line
    process: Process
    task: asyncio.Task[None]
    watching: tuple[Any, Any]
    watch_broken: bool = False
    """Its watch brings no news; whatever happens meanwhile it learns from the next listing."""


class World:
    """Everything, on one virtual clock."""

    def __init__(
        self,
        run_seconds: float = 5,
        exit_code: int = 0,
        timing: Timing | None = None,
        tick_seconds: float = 0.25,
        beside: World | None = None,
        cluster_uid: str = "uid-of-kube-system",
        **settings: Any,
    ):
        """`beside` is another cluster of the same name in the same account: EC2 and the clock are shared with it."""
        self.clock = beside.clock if beside else LoopClock()
        self.cluster = Cluster()
        self.cluster.classes.append(a_class("default", default=True))
        self.lines: list[Line] = []
        """The operators' connections to the API server, in the order of their starts."""
        self.api_line = Line(self.cluster)
        """The API's: all that agents say goes over it."""
        self.api = Api(self)
        self.keyring = KEYRING
        self.network = Network()
        alone = Simulator(START, 1, timing=timing or Timing(boot_seconds=20, shutdown_seconds=10))
        self.ec2 = beside.ec2 if beside else alone
        self.cluster_uid = cluster_uid
        self.events = MemoryQueue(Random(1))
        self.table = MemoryTable()
        self.runs: Counter[str] = Counter()
        """Containers started, by job key."""
        self.running: Counter[str] = Counter()
        """Containers that run now, by the job's uid."""
        self.stories: dict[tuple[str, int], Story] = {}
        """What truly became of the attempts whose container was started, by the job's uid and the attempt's number."""
        self.twice: set[str] = set()
        """Keys of jobs of which two containers ever ran at the same time."""
        self.run_seconds, self.exit_code = run_seconds, exit_code
        self.behaviour: Callable[[Assignment], Behaviour] = lambda _: Behaviour(self.run_seconds, self.exit_code)
        """What the container of an attempt does, the same whenever it is asked."""
        self.report_seconds = 600.0
        """How long an agent tries to get rid of its result."""
        self.agents_work = True
        self.hosts: dict[str, Host] = {}
        self.operators: list[Operator] = []
        settings = {"poll_seconds": 5, **settings}
        self._settings = Settings(**settings)
        self._tick = tick_seconds

    async def __aenter__(self) -> World:
        self._nature = asyncio.create_task(self._let_time_pass())
        self.start_operator()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for operator in self.operators:
            operator.process.thaw()
        for host in self.hosts.values():
            host.die()
        hosts = [task for host in self.hosts.values() for task in host.tasks()]
        tasks = [self._nature, *(operator.task for operator in self.operators), *hosts]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def window_seconds(self) -> int:
        return self._settings.launch_window_seconds

    # ---- operators ----

    def start_operator(self) -> Runtime:
        line = Line(self.cluster)
        self.lines.append(line)
        lease = Lease(line, self.clock, f"operator-{len(self.operators)}", self._settings.lease_seconds)
        identity = Identity("test", self.cluster_uid, "print()", "token", self._settings.launch_window_seconds)
        runtime = Runtime(
            self._settings,
            line,  # type: ignore[arg-type]
            SimulatedAws(self.ec2, self.clock, self.network),
            self.table.open,
            lease,
            self.clock,
            identity,
            KEYRING,
            lambda _: self.events,
        )
        process = Process()
        task = asyncio.get_running_loop().create_task(runtime.run(), context=process.context())

        def news(kind: str, job: SpotJob) -> None:
            if line.cut or operator.watch_broken:
                return
            (runtime.job_deleted if kind == "DELETED" else runtime.job_changed)(job)

        operator = Operator(runtime, line, process, task, (process.context(), news))
        self.cluster.watchers.append(operator.watching)
        self.operators.append(operator)
        return runtime

    def alive_operators(self) -> list[Operator]:
        return [operator for operator in self.operators if not operator.line.dead]

    async def kill_operator(self, operator: Operator) -> None:
        """As kill -9: nothing is given back, nothing is finished."""
        operator.line.dead = True
        await self._gone(operator)

    async def kill_operators(self) -> None:
        for operator in self.alive_operators():
            await self.kill_operator(operator)

    async def stop_operator(self, number: int) -> None:
        """As SIGTERM: the lease is given back."""
        await self._gone(self.operators[number])
        self.operators[number].line.dead = True

    async def _gone(self, operator: Operator) -> None:
        if operator.watching in self.cluster.watchers:
            self.cluster.watchers.remove(operator.watching)
        operator.task.cancel()
        operator.process.thaw()
        await asyncio.gather(operator.task, return_exceptions=True)

    def cut(self, *lines: Line) -> None:
        """These clients have no connection to the API server, and their watches tell them nothing."""
        for line in lines:
            line.cut = True

    def mend(self, *lines: Line) -> None:
        """The connection is back. A watch that begins anew shows every object; what was deleted it does not tell."""
        for line in lines:
            line.cut = False
        for key in self.cluster.jobs:
            self.cluster._tell("MODIFIED", self.cluster.job(key))

    def outage(self) -> list[Line]:
        """Everybody's connection to the API server."""
        return [*self.lines, self.api_line]

    # ---- nature ----

    async def _let_time_pass(self) -> None:
        while True:
            self.ec2.advance(self.clock.now())
            self.events.fill(self.ec2.take_events())
            for instance in self.ec2.instances():
                host = self.hosts.get(instance.id)
                ours = instance.tags.get(CLUSTER_UID_TAG) == self.cluster_uid
                if ours and instance.state is InstanceState.RUNNING and host is None and self.agents_work:
                    self.hosts[instance.id] = Host(self, instance.id)
                elif host is not None and instance.state is InstanceState.RUNNING:
                    host.tick()
                elif host is not None and instance.state is InstanceState.TERMINATED:
                    host.die()
            await asyncio.sleep(self._tick)

    def container_started(self, pair: Assignment) -> None:
        key = f"{pair.namespace}/{pair.name}"
        self.runs[key] += 1
        self.running[pair.uid] += 1
        if self.running[pair.uid] > 1:
            self.twice.add(key)

    def container_ended(self, pair: Assignment) -> None:
        self.running[pair.uid] -= 1

    def stories_of(self, uid: str) -> list[Story]:
        return [story for (of, _), story in self.stories.items() if of == uid]

    # ---- looking ----

    async def until(self, holds: Callable[[], bool], seconds: float = 900) -> None:
        """Wait in virtual time; say how things stand if it does not come true."""
        end = self.clock.monotonic() + seconds
        while not holds():
            if self.clock.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {self.cluster.phases()}, {self.alive()} alive")
            await asyncio.sleep(0.25)

    def alive(self) -> int:
        return sum(1 for i in self.ec2.instances() if i.alive)

"""The real controller in one process with the simulated EC2, an API server in memory and agents that are coroutines.

async with World() as world:
    world.cluster.apply("night")
    await world.until(lambda: world.cluster.phases()["TerminatedOK"] == 1)
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from spotjob.controller.lease import Lease
from spotjob.controller.orders import Cluster as Identity
from spotjob.controller.runtime import Runtime
from spotjob.core import claims, reports
from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.contract import ClaimRequest, Report
from spotjob.core.ports import Conflict, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change, InstanceState
from spotjob.local.ec2 import Simulator, Timing
from spotjob.settings import Settings
from tests.simulation.account import START, LoopClock, MemoryTable, SimulatedAws, a_class
from tests.simulation.cluster import Cluster, Line


class World:
    """Everything, on one virtual clock."""

    def __init__(self, run_seconds: float = 5, exit_code: int = 0, timing: Timing | None = None, **settings: Any):
        self.clock = LoopClock()
        self.cluster = Cluster()
        self.cluster.classes.append(a_class("default", default=True))
        self.lines: list[Line] = []
        """The operators' connections to the API server, in the order of their starts."""
        self._agents_line = Line(self.cluster)
        self.ec2 = Simulator(START, 1, timing=timing or Timing(boot_seconds=20, shutdown_seconds=10))
        self.table = MemoryTable()
        self.runs: Counter[str] = Counter()
        """Containers started, by job key."""
        self.running: Counter[str] = Counter()
        """Containers that run now, by job key."""
        self.twice: set[str] = set()
        """Keys of jobs of which two containers ever ran at the same time."""
        self.run_seconds, self.exit_code = run_seconds, exit_code
        self.agents_work = True
        self._settings = Settings(poll_seconds=5, **settings)
        self._operators: list[asyncio.Task[None]] = []
        self._agents: dict[str, asyncio.Task[None]] = {}

    async def __aenter__(self) -> World:
        self._nature = asyncio.create_task(self._let_time_pass())
        self.start_operator()
        return self

    async def __aexit__(self, *exc: object) -> None:
        tasks = [self._nature, *self._operators, *self._agents.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- operators ----

    def start_operator(self) -> Runtime:
        line = Line(self.cluster)
        self.lines.append(line)
        lease = Lease(line, self.clock, f"operator-{len(self._operators)}", self._settings.lease_seconds)
        identity = Identity("test", "uid-of-kube-system", "print()", "token", self._settings.launch_window_seconds)
        runtime = Runtime(
            self._settings,
            line,  # type: ignore[arg-type]
            SimulatedAws(self.ec2, self.clock),
            self.table.open,
            lease,
            self.clock,
            identity,
        )

        def news(kind: str, job: SpotJob) -> None:
            if line.cut:
                return
            (runtime.job_deleted if kind == "DELETED" else runtime.job_changed)(job)

        self.cluster.watchers.append(news)
        self._operators.append(asyncio.create_task(runtime.run()))
        return runtime

    async def kill_operators(self) -> None:
        """As kill -9: nothing is given back, nothing is finished."""
        self.cluster.watchers.clear()
        leases = {name: dict(lease) for name, lease in self.cluster.leases.items()}
        for task in self._operators:
            task.cancel()
        await asyncio.gather(*self._operators, return_exceptions=True)
        self.cluster.leases.update(leases)

    async def stop_operator(self, number: int) -> None:
        """As SIGTERM: the lease is given back."""
        self._operators[number].cancel()
        await asyncio.gather(self._operators[number], return_exceptions=True)

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
        return [*self.lines, self._agents_line]

    # ---- nature ----

    async def _let_time_pass(self) -> None:
        while True:
            self.ec2.advance(self.clock.now())
            for instance in self.ec2.instances():
                if instance.state is InstanceState.RUNNING and instance.id not in self._agents and self.agents_work:
                    self._agents[instance.id] = asyncio.create_task(self._agent(instance.id))
                if instance.id in self._agents and instance.state is InstanceState.TERMINATED:
                    self._agents[instance.id].cancel()
            await asyncio.sleep(0.25)

    async def _agent(self, instance_id: str) -> None:
        """What agent.py does, in short: claim, run, report, power off."""
        window = self._settings.launch_window_seconds
        for _ in range(window):
            job = next((j for j in await self._asked() if claims.assignment_for(j, instance_id)), None)
            if job is not None and await self._claim(job, instance_id):
                await self._run(job)
                break
            await asyncio.sleep(1)
        self.ec2.advance(self.clock.now())
        self.ec2.power_off(instance_id)

    async def _asked(self) -> list[SpotJob]:
        try:
            return list(await self._agents_line.list_jobs())
        except Unanswered:
            return []

    async def _claim(self, job: SpotJob, instance_id: str) -> bool:
        assert job.running is not None
        request = ClaimRequest(uid=job.metadata.uid, attempt=job.running.number, nonce=f"nonce-of-{instance_id}")
        decided = claims.claim(job, instance_id, request)
        return not isinstance(decided, claims.Refused | claims.AlreadyYours) and await self._write(job, decided)

    async def _run(self, job: SpotJob) -> None:
        self.runs[job.key] += 1
        started = self.clock.now()
        await self._container(job, started)
        await self._report(
            job,
            kind="finished",
            at=self.clock.now(),
            finished_as="Exited",
            exit_code=self.exit_code,
            started_at=started,
        )

    async def _container(self, job: SpotJob, started: datetime) -> None:
        """Runs until its time is over, or its instance dies."""
        self.running[job.key] += 1
        if self.running[job.key] > 1:
            self.twice.add(job.key)
        try:
            await self._report(job, kind="started", at=started)
            await asyncio.sleep(self.run_seconds)
        finally:
            self.running[job.key] -= 1

    async def _report(self, job: SpotJob, **report: Any) -> None:
        while True:
            try:
                known = await self._agents_line.get_job(job.metadata.namespace, job.metadata.name)
            except NotFound:
                return
            except Unanswered:
                continue
            if known.metadata.uid != job.metadata.uid:
                return
            change = reports.change_for(known, Report(**report), self.clock.now())
            if change is None or await self._write(known, change):
                return

    async def _write(self, job: SpotJob, change: Change) -> bool:
        try:
            await self._agents_line.write_status(
                job, merge_patch(job.status, next_status(job, change, self.clock.now()))
            )
        except (Conflict, NotFound, Unanswered):
            return False
        return True

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

"""What can go wrong in a history, by kind. Each fault ends by itself; Faults.over() ends all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random

from spotjob.core.reasons import Reason
from spotjob.local.ec2 import CapacityRule, Fault
from tests.simulation.cluster import Line
from tests.simulation.world import Operator, World

CALLS = ("CreateFleet", "DescribeInstances", "TerminateInstances", "CreateLaunchTemplate")
WRITES = (*["write_status"] * 4, "add_finalizer", "remove_finalizer", "update_lease", "get_job", "list_jobs")
LATE_WRITES = (*["write_status"] * 4, "add_finalizer", "remove_finalizer", "update_lease")


class Faults:
    """Injects faults into a world; what was injected is counted by kind."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world, self._chance = world, chance
        self.injected: Counter[str] = Counter()
        self.reclaimed: set[str] = set()
        """Instances that EC2 took back, or gave notice of."""
        self.hidden: set[str] = set()
        """Instances that a listing left out once."""
        self.edits: Counter[str] = Counter()
        """What people did to a job, by uid."""
        self.deleted: set[str] = set()
        """By uid."""

    def kinds(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        """The kinds of faults. Each returns False when there was nothing to spoil."""
        methods = [m for m in vars(Faults) if m.startswith(("api_", "watch_", "ec2_", "operator_", "people_", "host_"))]
        return {name.replace("_", "-"): getattr(self, name) for name in methods}

    async def inject(self, kind: str) -> None:
        if await self.kinds()[kind]():
            self.injected[kind] += 1

    async def over(self) -> None:
        """Peace: every connection is whole, and one operator runs at least."""
        world = self._world
        world.ec2.faults.clear()
        world.ec2.throttle.on = False
        world.ec2.set_capacity(CapacityRule(count=None))
        world.ec2.timing.visibility_seconds = 0.0
        world.cluster.watch_seconds, world.cluster.list_seconds = 0.01, 0.0
        world.network.hidden.clear()
        world.network.late.clear()
        world.table.down = False
        world.agents_work = True
        for line in world.outage():
            line.late.clear()
            line.lost.clear()
        for operator in world.alive_operators():
            operator.process.thaw()
            operator.watch_broken = False
        if not world.alive_operators():
            world.start_operator()
        world.mend(*world.outage())

    # ---- choosing ----

    def _operator(self) -> Operator | None:
        """As a rule the one that leads."""
        alive = self._world.alive_operators()
        working = [operator for operator in alive if operator.runtime.working]
        if working and self._chance.random() < 0.7:
            return self._chance.choice(working)
        return self._chance.choice(alive) if alive else None

    def _line(self) -> Line:
        """An operator's connection to the API server, or the API's."""
        operator = self._operator()
        return self._world.api_line if operator is None or self._chance.random() < 0.3 else operator.line

    def _instance(self) -> str | None:
        """One that lives and is not under notice."""
        alive = [i.id for i in self._world.ec2.instances() if i.alive and i.reclaim_at is None]
        return self._chance.choice(alive) if alive else None

    def _job(self) -> str | None:
        keys = [k for k in self._world.cluster.jobs if not self._world.cluster.job(k).deleting]
        open_keys = [k for k in keys if not self._world.cluster.job(k).finished]
        young = [k for k in open_keys if self._world.cluster.job(k).status.reason in (None, Reason.BOOTING)]
        if young and self._chance.random() < 0.5:
            return self._chance.choice(young)
        return self._chance.choice(open_keys or keys) if keys else None

    # ---- the API server ----

    async def api_cut(self) -> bool:
        if (operator := self._operator()) is None:
            return False
        self._world.cut(operator.line)
        await asyncio.sleep(self._chance.uniform(1, 40))
        self._world.mend(operator.line)
        return True

    async def api_outage(self) -> bool:
        lines = self._world.outage()
        self._world.cut(*lines)
        await asyncio.sleep(self._chance.uniform(1, 40))
        self._world.mend(*lines)
        return True

    async def api_lost_answer(self) -> bool:
        line = self._line()
        line.lost[self._chance.choice(WRITES)] += self._chance.randint(1, 5)
        return True

    async def api_late_request(self) -> bool:
        line = self._line()
        line.late[self._chance.choice(LATE_WRITES)] = self._chance.uniform(1, 60)
        return True

    async def api_competing_writer(self) -> bool:
        for _ in range(self._chance.randint(1, 20)):
            if (key := self._job()) is not None:
                self._world.cluster.touch(key)
            await asyncio.sleep(self._chance.uniform(0, 2))
        return True

    async def api_slow_listing(self) -> bool:
        self._world.cluster.list_seconds = self._chance.uniform(1, 9)
        return True

    async def watch_delay(self) -> bool:
        self._world.cluster.watch_seconds = self._chance.choice((0.01, 1.0, 5.0, 30.0))
        return True

    async def watch_gap(self) -> bool:
        if (operator := self._operator()) is None:
            return False
        operator.watch_broken = True
        await asyncio.sleep(self._chance.uniform(1, 60))
        operator.watch_broken = False
        self._world.mend()  # a new watch shows every object, and not what was deleted
        return True

    # ---- EC2 ----

    async def ec2_lost_before(self) -> bool:
        return self._lose("before")

    async def ec2_lost_after(self) -> bool:
        return self._lose("after")

    def _lose(self, when: str) -> bool:
        times = self._chance.randint(1, 6)
        fault = Fault(self._chance.choice(CALLS), lost=True, when=when, times=times)  # type: ignore[arg-type]
        self._world.ec2.faults.order(fault)
        return True

    async def ec2_late_call(self) -> bool:
        action = self._chance.choice(("CreateFleet", "TerminateInstances"))
        self._world.network.late[action] = self._chance.uniform(1, 60)
        return True

    async def ec2_slow(self) -> bool:
        seconds = self._chance.uniform(1, 30)
        self._world.ec2.faults.order(Fault(self._chance.choice(CALLS), delay_seconds=seconds))
        return True

    async def ec2_throttled(self) -> bool:
        times, action = self._chance.randint(1, 5), self._chance.choice(CALLS)
        self._world.ec2.faults.order(Fault(action, code="RequestLimitExceeded", times=times))
        return True

    async def ec2_server_error(self) -> bool:
        when = self._chance.choice(("before", "after"))
        fault = Fault(self._chance.choice(CALLS), code="InternalError", when=when, times=2)  # type: ignore[arg-type]
        self._world.ec2.faults.order(fault)
        return True

    async def ec2_late_visibility(self) -> bool:
        self._world.ec2.timing.visibility_seconds = self._chance.uniform(1, 40)
        return True

    async def ec2_short_listing(self) -> bool:
        if (instance := self._instance()) is None:
            return False
        now = self._world.clock.monotonic()
        self._world.network.hidden[instance] = now + self._chance.uniform(5, 60)
        return True

    async def ec2_partial_fleet(self) -> bool:
        count = self._chance.choice((0, 1))
        self._world.ec2.set_capacity(CapacityRule(count=count))
        await asyncio.sleep(self._chance.uniform(5, 60))
        self._world.ec2.set_capacity(CapacityRule(count=None))
        return True

    async def ec2_reclaim(self) -> bool:
        if (instance := self._instance()) is None:
            return False
        self.reclaimed.add(instance)
        self._world.ec2.reclaim(instance)
        return True

    async def ec2_notice(self) -> bool:
        if (instance := self._instance()) is None:
            return False
        self.reclaimed.add(instance)
        self._world.ec2.interrupt(instance, 120)
        return True

    # ---- operators ----

    async def operator_kill(self) -> bool:
        if (operator := self._operator()) is None:
            return False
        await self._world.kill_operator(operator)
        await asyncio.sleep(self._chance.choice((0.0, 0.0, 20.0)))
        self._world.start_operator()
        return True

    async def operator_handover(self) -> bool:
        if (operator := self._operator()) is None:
            return False
        await self._world.stop_operator(self._world.operators.index(operator))
        self._world.start_operator()
        return True

    async def operator_pause(self) -> bool:
        if (operator := self._operator()) is None:
            return False
        operator.process.freeze()
        await asyncio.sleep(self._chance.uniform(1, 60))
        operator.process.thaw()
        return True

    # ---- people ----

    async def people_delete(self) -> bool:
        if (key := self._job()) is None:
            return False
        uid = self._world.cluster.job(key).metadata.uid
        self.deleted.add(uid)
        self.edits[uid] += 1
        self._world.cluster.delete(key)
        return True

    async def people_suspend(self) -> bool:
        if (key := self._job()) is None:
            return False
        uid = self._world.cluster.job(key).metadata.uid
        self._suspend(key, uid, True)
        await asyncio.sleep(self._chance.uniform(0, 60))
        self._suspend(key, uid, False)
        return True

    def _suspend(self, key: str, uid: str, suspend: bool) -> None:
        with suppress(KeyError):
            if self._world.cluster.job(key).metadata.uid == uid:
                self.edits[uid] += 1
                self._world.cluster.suspend(key, suspend)

    # ---- hosts ----

    async def host_agent_restart(self) -> bool:
        working = [h for i, h in self._world.hosts.items() if self._world.ec2.instance(i).alive]
        if not working:
            return False
        self._chance.choice(working).restart_agent()
        return True

    async def host_no_agents(self) -> bool:
        self._world.agents_work = False
        await asyncio.sleep(self._chance.uniform(5, 90))
        self._world.agents_work = True
        return True

    async def host_cut_off(self) -> bool:
        self._world.cut(self._world.api_line)
        await asyncio.sleep(self._chance.uniform(1, 60))
        self._world.mend(self._world.api_line)
        return True

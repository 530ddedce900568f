"""Faults of EC2, and of the queue that tells of its events."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from spotjob.local.ec2 import CapacityRule, Fault
from tests.simulation.choosing import Choosing

CALLS = (
    *("CreateFleet", "DescribeInstances", "TerminateInstances", "CreateLaunchTemplate") * 3,
    "DescribeSpotInstanceRequests",
    "DescribeInstanceStatus",
)


class Ec2Faults(Choosing):
    """Each returns False when there was nothing to spoil."""

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

    async def ec2_console_fault(self) -> bool:
        """GetConsoleOutput fails; as a rule that meets nobody, so it stays for a while."""
        fault = self._chance.choice(
            (Fault("GetConsoleOutput", lost=True), Fault("GetConsoleOutput", code="InternalError"))
        )
        self._world.ec2.faults.order(replace(fault, times=self._chance.randint(1, 8)))
        return True

    async def ec2_late_console(self) -> bool:
        self._world.ec2.timing.console_seconds = self._chance.uniform(5, 200)
        return True

    async def ec2_reclaim(self) -> bool:
        if (instance := self._instance()) is None:
            return False
        self.reclaimed.add(instance)
        self._world.ec2.reclaim(instance)
        return True

    async def ec2_notice(self) -> bool:
        """Heard by the agent, by the queue, by the poller, by two of them, by all, or by nobody."""
        if (instance := self._instance()) is None:
            return False
        self.reclaimed.add(instance)
        host = self._world.hosts.get(instance)
        if host is not None:
            host.deaf = self._chance.random() < 0.4
        self._world.ec2.interrupt(instance, self._chance.choice((120, 120, 60, 10)))
        return True

    async def ec2_rebalance(self) -> bool:
        if (instance := self._instance()) is None:
            return False
        self._world.ec2.recommend_rebalance(instance)
        return True

    async def ec2_impaired(self) -> bool:
        """The status checks fail for a while, and the host is well: nothing may follow from that."""
        for _ in range(10):
            if (host := self._busy_longest()) is not None and host.container_seconds > 450:
                break
            await asyncio.sleep(20)
        if host is None:
            return False
        self.impaired[host.id] += 1
        self._world.ec2.impair(host.id)
        await asyncio.sleep(self._chance.choice((20, 600, 600)))
        if not host.hung and host.instance.alive:
            self._world.ec2.impair(host.id, False)
        return True

    # ---- the queue of EC2's events ----

    async def queue_loses(self) -> bool:
        self._world.events.loses = self._chance.choice((0.3, 1.0))
        await asyncio.sleep(self._chance.uniform(10, 120))
        self._world.events.loses = 0.0
        return True

    async def queue_doubles(self) -> bool:
        self._world.events.doubles = True
        return True

    async def queue_late(self) -> bool:
        self._world.events.late_seconds = self._chance.choice((5.0, 60.0, 200.0))
        await asyncio.sleep(self._chance.uniform(10, 120))
        self._world.events.late_seconds = 0.0
        return True

    async def queue_broken(self) -> bool:
        self._world.events.broken = True
        await asyncio.sleep(self._chance.uniform(1, 60))
        self._world.events.broken = False
        return True

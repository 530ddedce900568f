"""What can go wrong in a history, by kind. Each fault ends by itself; Faults.over() ends all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spotjob.local.ec2 import CapacityRule
from tests.simulation.faults_around import AroundFaults
from tests.simulation.faults_ec2 import Ec2Faults
from tests.simulation.faults_inside import InsideFaults

PREFIXES = ("api_", "watch_", "table_", "ec2_", "queue_", "operator_", "people_", "host_")


class Faults(AroundFaults, Ec2Faults, InsideFaults):
    """Injects faults into a world; what was injected is counted by kind."""

    def kinds(self) -> dict[str, Callable[[], Awaitable[bool]]]:
        """The kinds of faults. Each returns False when there was nothing to spoil."""
        return {name.replace("_", "-"): getattr(self, name) for name in dir(Faults) if name.startswith(PREFIXES)}

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
        world.events.mend()
        world.ec2.timing.console_seconds = 0.0
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

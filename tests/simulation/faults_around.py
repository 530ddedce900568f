"""Faults of what lies around the operators: the API server, its watch, the table; and of the operators themselves."""

from __future__ import annotations

import asyncio

from tests.simulation.choosing import Choosing

WRITES = (*["write_status"] * 4, "add_finalizer", "remove_finalizer", "update_lease", "get_job", "list_jobs")
LATE_WRITES = (*["write_status"] * 4, "add_finalizer", "remove_finalizer", "update_lease")


class AroundFaults(Choosing):
    """Each returns False when there was nothing to spoil."""

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
        """The watch breaks, and its version has expired when it is back (410): it begins anew with a list."""
        if (operator := self._operator()) is None:
            return False
        operator.watch_broken = True
        await asyncio.sleep(self._chance.uniform(1, 60))
        operator.watch_broken = False
        self._world.mend()  # a new watch shows every object, and not what was deleted
        return True

    async def table_outage(self) -> bool:
        self._world.table.down = True
        await asyncio.sleep(self._chance.choice((10, 60, 200)))
        self._world.table.down = False
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

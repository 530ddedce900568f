"""Who leads, when connections break and processes freeze."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from spotjob.controller.lease import Lease
from spotjob.core.ports import KubeError, Unanswered
from tests.simulation.account import LoopClock
from tests.simulation.cluster import Cluster, Line

SECONDS = 15.0


class FreezingClock(LoopClock):
    """A clock that can show that its process was frozen for a while."""

    frozen = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.frozen


class Silent(Line):
    """A connection on which, once cut, no answer ever comes."""

    async def get_lease(self, name: str) -> object:
        if self.cut:
            await asyncio.Event().wait()
        return await self._cluster.get_lease(name)


class Unwatched(Line):
    """A connection on which the lease can be read but not watched."""

    def __init__(self, cluster: Cluster, refusal: Exception) -> None:
        super().__init__(cluster)
        self._refusal = refusal

    async def lease_changed(self, name: str, resource_version: str) -> None:
        raise self._refusal


class Renewing(Line):
    """A connection on which a renewal that was under way arrives right after the next look at the lease."""

    under_way = False

    async def get_lease(self, name: str) -> object:
        lease = await self._cluster.get_lease(name)
        if self.under_way:
            self.under_way = False
            await self._cluster.update_lease(lease)
        return lease


class Counted(Line):
    """A connection that counts the looks at the lease."""

    asked = 0

    async def get_lease(self, name: str) -> object:
        self.asked += 1
        return await self._cluster.get_lease(name)


@asynccontextmanager
async def electing(*leases: Lease) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(lease.run()) for lease in leases]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def a_lease(line: Line, identity: str, clock: LoopClock | None = None) -> Lease:
    return Lease(line, clock or LoopClock(), identity, SECONDS)


async def test_two_never_lead_at_once_and_somebody_leads_soon_after_the_leader_is_cut_off():
    cluster = Cluster()
    lines = [Line(cluster), Line(cluster)]
    leases = [a_lease(line, f"operator-{n}") for n, line in enumerate(lines)]
    led: set[int] = set()
    async with electing(*leases):
        for tick in range(4800):
            lines[0].cut, lines[1].cut = 300 <= tick % 1200 < 600, tick % 1200 >= 900
            leading = [n for n, lease in enumerate(leases) if lease.leading()]
            assert len(leading) <= 1
            assert leading or tick % 300 < 80  # 20 s
            led.update(leading)
            await asyncio.sleep(0.25)
    assert led == {0, 1}


async def test_a_lapse_is_told_even_if_the_next_renewal_mends_it():
    clock = FreezingClock()
    lease = a_lease(Line(Cluster()), "operator-0", clock)
    async with electing(lease):
        await asyncio.sleep(1)
        assert lease.leading()
        lease.changed.clear()
        clock.frozen = 60.0
        await asyncio.wait_for(lease.changed.wait(), timeout=3)


async def test_an_api_server_without_answers_does_not_hold_up_the_exit():
    line = Silent(Cluster())
    async with electing(a_lease(line, "operator-0")) as tasks:
        await asyncio.sleep(0.5)
        line.cut = True
        tasks[0].cancel()
        _, left = await asyncio.wait(tasks, timeout=3)
        assert not left


async def leads(lease: Lease, within: float) -> float:
    """Seconds until this one leads, at most `within`."""
    began = LoopClock().monotonic()
    async with asyncio.timeout(within):
        while not lease.leading():
            lease.changed.clear()
            await lease.changed.wait()
    return LoopClock().monotonic() - began


@pytest.mark.parametrize("moment", [5.0, 5.5, 6.1, 6.9])
async def test_a_lease_that_was_given_back_is_taken_at_once(moment: float):
    cluster = Cluster()
    first, second = a_lease(Line(cluster), "operator-0"), a_lease(Line(cluster), "operator-1")
    async with electing(first) as tasks:
        await asyncio.sleep(1)
        async with electing(second):
            await asyncio.sleep(moment)
            assert not second.leading()
            tasks[0].cancel()
            await leads(second, within=0.1)


async def test_a_lease_is_given_back_although_a_renewal_was_under_way():
    cluster = Cluster()
    line = Renewing(cluster)
    first, second = a_lease(line, "operator-0"), a_lease(Line(cluster), "operator-1")
    async with electing(first) as tasks:
        await asyncio.sleep(1)
        async with electing(second):
            await asyncio.sleep(5)
            line.under_way = True
            tasks[0].cancel()
            await leads(second, within=0.1)


async def test_a_lease_that_lapsed_for_its_holder_alone_is_given_back_too():
    cluster, clock = Cluster(), FreezingClock()
    first, second = a_lease(Line(cluster), "operator-0", clock), a_lease(Line(cluster), "operator-1")
    async with electing(first) as tasks:
        await asyncio.sleep(1)
        async with electing(second):
            await asyncio.sleep(5)
            clock.frozen = SECONDS * 0.7
            assert not first.leading()
            tasks[0].cancel()
            await leads(second, within=0.1)


@pytest.mark.parametrize("refused", [KubeError(403, "watch is not allowed"), Unanswered("the watch ended")])
async def test_without_a_watch_a_lease_that_was_given_back_is_taken_at_the_next_look(refused: Exception):
    cluster = Cluster()
    line = Unwatched(cluster, refused)
    first, second = a_lease(Line(cluster), "operator-0"), a_lease(line, "operator-1")
    async with electing(first) as tasks:
        await asyncio.sleep(1)
        async with electing(second):
            await asyncio.sleep(5)
            tasks[0].cancel()
            await leads(second, within=SECONDS / 7.5 + 0.1)


@pytest.mark.parametrize("moment", [5.0, 5.5, 6.1, 6.9])
async def test_the_lease_of_a_leader_that_crashed_is_taken_when_it_ends(moment: float):
    cluster = Cluster()
    crashing = Line(cluster)
    first, second = a_lease(crashing, "operator-0"), a_lease(Line(cluster), "operator-1")
    async with electing(first), electing(second):
        await asyncio.sleep(moment)
        assert (first.leading(), second.leading()) == (True, False)
        crashing.dead = True
        taken = await leads(second, within=SECONDS + 0.1)
        assert taken > SECONDS * 2 / 3  # the crashed one might still have led until then
        assert not first.leading()


async def test_who_waits_for_the_lease_asks_no_more_often_than_its_holder():
    cluster = Cluster()
    waiting = Counted(cluster)
    async with electing(a_lease(Line(cluster), "operator-0")):
        await asyncio.sleep(1)
        async with electing(a_lease(waiting, "operator-1")):
            await asyncio.sleep(60)
    assert 30 <= waiting.asked <= 32

"""What each look at EC2 brings besides the instances: reclaims and failing status checks, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from spotjob.controller.poller import Poller
from spotjob.controller.store import Store
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Ec2Unanswered
from spotjob.core.signs import SignBook
from spotjob.core.states import Instance
from tests.builders import an_instance
from tests.simulation.account import START, LoopClock, a_class

pytestmark = pytest.mark.looptime

REGION = "us-east-1"


class Ec2:
    """One region. Each of its answers can be late for ever (`silent`) or fail (`broken`)."""

    region = REGION

    def __init__(self) -> None:
        self.instances: list[Instance] = []
        self.reclaims: dict[str, datetime] = {}
        self.impaired: set[str] = set()
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.asked: list[tuple[str, float]] = []

    def ec2(self, region: str) -> Ec2:
        return self

    def times(self, call: str) -> list[float]:
        return [at for name, at in self.asked if name == call]

    async def _answer(self, call: str) -> None:
        self.asked.append((call, asyncio.get_running_loop().time()))
        await asyncio.sleep(3600 if call in self.silent else 0.01)
        if call in self.broken:
            raise Ec2Unanswered(call)

    async def describe_cluster(self, cluster_uid: str) -> Sequence[Instance]:
        await self._answer("instances")
        return self.instances

    async def describe_ids(self, instance_ids: Sequence[str]) -> Sequence[Instance]:
        await self._answer("ids")
        return [i for i in self.instances if i.id in instance_ids]

    async def describe_reclaims(self, cluster_uid: str) -> dict[str, datetime]:
        await self._answer("reclaims")
        return self.reclaims

    async def describe_impaired(self) -> Collection[str]:
        await self._answer("impaired")
        return self.impaired


class NotLeading:
    """Nothing is reaped."""

    def leading(self) -> bool:
        return False


class Looking:
    """A poller that looks every five seconds, and all that it tells."""

    def __init__(self, *instances: Instance) -> None:
        self.ec2, self.signs, self.told = Ec2(), SignBook(), list[str]()
        self.ec2.instances = list(instances)
        store = Store()
        store.put_class(a_class("default"))
        self.ledger = Ledger(timedelta(seconds=300))
        self.poller = Poller(
            self.ec2,  # type: ignore[arg-type]
            self.ledger,
            self.signs,
            store,
            None,  # type: ignore[arg-type]
            LoopClock(),
            NotLeading(),  # type: ignore[arg-type]
            "uid-of-kube-system",
            self.told.append,
            5,
        )


@asynccontextmanager
async def looking(*instances: Instance) -> AsyncIterator[Looking]:
    """With the first round done and the first question for status checks answered."""
    made = Looking(*instances)
    await made.poller.first_round()
    task = asyncio.create_task(made.poller.run())
    await asyncio.sleep(6)
    made.told.clear()
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_reclaim_is_told_once_however_often_ec2_says_it() -> None:
    async with looking(an_instance("i-1"), an_instance("i-2")) as look:
        at = START + timedelta(minutes=2)
        look.ec2.reclaims = {"i-1": at}
        await asyncio.sleep(30)
        assert look.told == ["i-1"]
        assert look.signs.of("i-1").reclaim_at == at
        assert look.signs.of("i-2").reclaim_at is None


async def test_a_reclaim_of_an_instance_that_is_long_dead_is_no_news() -> None:
    async with looking() as look:
        look.ec2.reclaims = {"i-gone": START - timedelta(hours=1), "i-dead": START - timedelta(minutes=50)}
        look.ec2.instances = [an_instance("i-dead", "terminated")]
        await asyncio.sleep(30)
        assert look.signs.of("i-gone").reclaim_at is look.signs.of("i-dead").reclaim_at is None


async def test_status_checks_are_asked_for_once_a_minute_and_every_change_is_told() -> None:
    async with looking(an_instance("i-1"), an_instance("i-2")) as look:
        look.ec2.impaired = {"i-1", "i-of-somebody-else"}
        await asyncio.sleep(60)
        assert look.told == ["i-1"]
        since = look.signs.of("i-1").impaired_since
        assert since is not None
        await asyncio.sleep(60)
        assert look.signs.of("i-1").impaired_since == since, "it lasts since the first time"
        look.ec2.impaired = set()
        await asyncio.sleep(60)
        assert look.told == ["i-1", "i-1"]
        assert look.signs.of("i-1").impaired_since is None
        times = look.ec2.times("impaired")
        assert all(later - earlier >= 60 for earlier, later in pairwise(times))
        assert len(times) >= 3


@pytest.mark.parametrize("trouble", ["broken", "silent"])
@pytest.mark.parametrize("call", ["reclaims", "impaired"])
async def test_signs_that_cannot_be_had_do_not_spoil_the_look(call: str, trouble: str) -> None:
    async with looking(an_instance("i-1")) as look:
        getattr(look.ec2, trouble).add(call)
        await asyncio.sleep(70)
        look.ec2.instances = [an_instance("i-1", "shutting-down")]
        await asyncio.sleep(6)
        assert look.told == ["i-1"]


async def test_reclaims_that_cannot_be_had_leave_the_status_checks_and_come_with_the_next_look() -> None:
    async with looking(an_instance("i-1")) as look:
        look.ec2.broken, look.ec2.impaired, look.ec2.reclaims = {"reclaims"}, {"i-1"}, {"i-1": START}
        await asyncio.sleep(61)
        assert look.signs.of("i-1").impaired_since is not None
        look.ec2.broken = set()
        await asyncio.sleep(6)
        assert look.signs.of("i-1").reclaim_at == START


async def test_signs_of_forgotten_instances_are_forgotten() -> None:
    async with looking(an_instance("i-1")) as look:
        look.ec2.reclaims = {"i-1": START}
        await asyncio.sleep(6)
        assert look.signs.of("i-1").reclaim_at is not None
        look.ec2.instances = [an_instance("i-1", "terminated")]
        await asyncio.sleep(11)
        assert look.signs.of("i-1").reclaim_at is None

"""Everything at once, at random: whatever happens, nothing leaks, nothing runs twice at once, every job ends."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from spotjob.local.ec2 import CapacityRule, Fault, Timing
from tests.simulation.world import World

CALLS = ("CreateFleet", "DescribeInstances", "TerminateInstances")
WRITES = ("write_status", "add_finalizer", "remove_finalizer", "update_lease")


async def trouble(world: World, chance: Random) -> None:
    """One thing goes wrong."""
    line = world.lines[-1]
    alive = [i.id for i in world.ec2.instances() if i.alive]
    match chance.randrange(8):
        case 0:
            await world.kill_operators()
            world.start_operator()
        case 1:
            world.cut(line)
            await asyncio.sleep(chance.uniform(1, 40))
            world.mend(line)
        case 2:
            line.lost[chance.choice(WRITES)] += chance.randint(1, 3)
        case 3:
            when = chance.choice(("before", "after"))
            world.ec2.faults.order(Fault(chance.choice(CALLS), lost=True, when=when, times=chance.randint(1, 6)))
        case 4:
            world.ec2.set_capacity(CapacityRule(count=chance.choice((0, 1, None))))
        case 5 if alive:
            world.ec2.reclaim(chance.choice(alive))
        case 6:
            key = chance.choice(list(world.cluster.jobs))
            world.cluster.suspend(key, True)
            await asyncio.sleep(chance.uniform(0, 8))
            world.cluster.suspend(key, False)
        case _:
            world.cluster.watch_seconds = chance.choice((0.01, 1, 30))


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_happens_every_job_ends_once_and_nothing_is_left(seed: int):
    chance = Random(seed)
    async with World(run_seconds=30, timing=Timing(boot_seconds=2, shutdown_seconds=10)) as world:
        for n in range(40):
            world.cluster.apply(f"job-{n}")
            if chance.random() < 0.7:
                await trouble(world, chance)
            await asyncio.sleep(chance.uniform(0, 10))
        world.ec2.faults.clear()
        world.ec2.set_capacity(CapacityRule(count=None))
        world.cluster.watch_seconds = 0.01
        await world.until(lambda: world.cluster.phases()["TerminatedOK"] == 40, seconds=3600)
        await world.until(lambda: world.alive() == 0, seconds=600)
        assert world.twice == set()
        for key in world.cluster.jobs:
            assert world.cluster.job(key).status.counts.failures == 0
            assert world.runs[key] <= len(world.cluster.job(key).status.attempts)

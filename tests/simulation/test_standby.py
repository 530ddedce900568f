"""What a replica that does not lead has ready."""

from __future__ import annotations

import asyncio

from tests.simulation.world import World


async def test_a_standby_knows_every_job_and_is_ready_without_leading():
    async with World() as world:
        await world.until(lambda: world.operators[0].runtime.working)
        keys = {world.cluster.apply(f"night-{n}", suspend=True) for n in range(3)}
        standby = world.start_operator()
        await asyncio.sleep(1)
        assert (standby.synced, standby.working) == (True, False)
        assert {job.key for job in standby.store.jobs()} == keys


async def test_a_replica_is_not_ready_before_it_has_listed_the_jobs():
    async with World() as world:
        await world.until(lambda: world.operators[0].runtime.working)
        standby = world.start_operator()
        world.cut(world.lines[-1])
        await asyncio.sleep(10)
        assert not standby.synced
        world.mend(world.lines[-1])
        await world.until(lambda: standby.synced, 10)

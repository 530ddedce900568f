"""A pause between two attempts belongs to the job, not to the process that decided on it."""

from __future__ import annotations

import asyncio

from tests.simulation.world import World


async def in_its_third_pause(world: World) -> str:
    """The key of a job whose container has failed three times: the pause is 30 to 40 s."""
    key = world.cluster.apply("night", backoffLimit=5)
    await world.until(lambda: world.cluster.job(key).status.counts.failures == 3)
    assert world.cluster.job(key).status.reason == "BackingOff"
    return key


async def test_an_operator_that_restarts_in_a_pause_keeps_its_end():
    async with World(exit_code=7) as world:
        key = await in_its_third_pause(world)
        until = world.cluster.job(key).status.next_attempt_time
        await world.kill_operators()
        world.start_operator()
        launches = world.ec2.calls["CreateFleet"]
        while world.clock.now() < until:
            assert world.cluster.job(key).status.next_attempt_time == until
            assert world.ec2.calls["CreateFleet"] == launches
            await asyncio.sleep(0.25)
        await world.until(lambda: world.ec2.calls["CreateFleet"] > launches, seconds=5)


async def test_a_pause_that_ended_while_nobody_led_is_not_begun_again():
    async with World(exit_code=7) as world:
        key = await in_its_third_pause(world)
        until = world.cluster.job(key).status.next_attempt_time
        await world.kill_operators()
        await world.until(lambda: world.clock.now() > until)
        launches = world.ec2.calls["CreateFleet"]
        world.start_operator()
        # It watches the old lease for its 15 s; another pause would take 30 s at least.
        await world.until(lambda: world.ec2.calls["CreateFleet"] > launches, seconds=20)
        await world.until(lambda: len(world.cluster.job(key).status.attempts) == 4)

"""What reaches an instance and what comes back from it: results that nobody heard, drills, orders to stop."""

from __future__ import annotations

import asyncio
from collections import Counter

from spotjob.core.resources import DRILL_ANNOTATION
from tests.simulation.container import Behaviour, Exit
from tests.simulation.world import World


def all_ok(world: World, count: int) -> bool:
    return world.cluster.phases()["TerminatedOK"] == count


# ---- results that nobody heard --------------------------------------------------------------------------------------


async def a_result_on_the_console_only(world: World) -> str:
    """A job whose container has exited with 0 while the API was away, and whose instance was then taken back."""
    key = world.cluster.apply("night")
    await world.until(lambda: world.cluster.phases()["Running"] == 1)
    world.cut(world.api_line)
    await world.until(lambda: any(host.unheard for host in world.hosts.values()))
    world.ec2.reclaim(world.ec2.instances()[0].id)
    return key


async def test_a_result_that_stands_on_the_console_only_decides_the_job():
    async with World() as world:
        key = await a_result_on_the_console_only(world)
        await world.until(lambda: all_ok(world, 1), seconds=120)
        assert world.runs == Counter({key: 1})


async def test_a_console_that_ec2_shows_late_is_waited_for():
    async with World() as world:
        world.ec2.timing.console_seconds = 200
        key = await a_result_on_the_console_only(world)
        await world.until(lambda: all_ok(world, 1), seconds=400)
        assert world.runs == Counter({key: 1})


async def test_a_result_on_the_console_survives_a_change_of_leader():
    async with World() as world:
        world.ec2.timing.console_seconds = 60
        key = await a_result_on_the_console_only(world)
        await world.until(lambda: world.cluster.job(key).status.reason == "AwaitingResult")
        await world.kill_operators()
        world.start_operator()
        await world.until(lambda: all_ok(world, 1), seconds=200)
        assert world.runs == Counter({key: 1})


# ---- orders ---------------------------------------------------------------------------------------------------------


async def test_a_drill_interrupts_the_attempt_once_and_the_next_one_runs_undisturbed():
    async with World(run_seconds=60) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.cluster.annotate(key, DRILL_ANNOTATION, "20")
        await world.until(lambda: all_ok(world, 1))
        assert [a.outcome for a in world.cluster.job(key).status.attempts] == ["Interrupted", "Succeeded"]
        assert DRILL_ANNOTATION not in world.cluster.job(key).metadata.annotations
        assert len(world.ec2.instances()) == 2


async def test_a_drill_on_a_finished_job_does_nothing_and_says_why():
    async with World() as world:
        key = world.cluster.apply("night")
        await world.until(lambda: all_ok(world, 1))
        world.cluster.annotate(key, DRILL_ANNOTATION, "20")
        await world.until(lambda: DRILL_ANNOTATION not in world.cluster.job(key).metadata.annotations, seconds=5)
        assert (key, "DrillIgnored") in world.cluster.events
        assert world.runs == Counter({key: 1})


async def test_a_suspended_container_that_does_not_obey_is_killed_after_its_grace():
    async with World() as world:
        world.behaviour = lambda _: Behaviour(3600, 0, stops_in=3600)
        key = world.cluster.apply("night", terminationGracePeriodSeconds=40)
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.cluster.suspend(key, True)
        told = world.clock.now()
        await world.until(lambda: world.cluster.job(key).status.reason == "Suspended", seconds=60)
        (story,) = world.stories.values()
        assert story.exit == Exit(137, signalled=True)
        assert 40 <= (story.ended_at - told).total_seconds() <= 50


async def test_a_container_whose_agent_is_dead_is_ended_at_the_end_of_its_grace():
    async with World(run_seconds=3600) as world:
        key = world.cluster.apply("night", terminationGracePeriodSeconds=20)
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        next(iter(world.hosts.values())).kill_agent()
        world.cluster.delete(key)
        await asyncio.sleep(40)
        assert world.alive() == 1
        await world.until(lambda: world.alive() == 0, seconds=20)
        await world.until(lambda: key not in world.cluster.jobs, seconds=60)


# ---- failing status checks ------------------------------------------------------------------------------------------


async def test_a_host_whose_status_checks_fail_is_kept_while_its_agent_speaks():
    async with World(run_seconds=900) as world:
        world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.ec2.impair(world.ec2.instances()[0].id)
        await world.until(lambda: all_ok(world, 1), seconds=1200)
        (job,) = world.cluster.seen.values()
        assert job.status.attempts[0].impaired_at is not None
        assert [a.outcome for a in job.status.attempts] == ["Succeeded"]


async def test_a_host_whose_status_checks_fail_and_whose_agent_is_silent_is_given_up_after_five_minutes():
    async with World() as world:
        world.behaviour = lambda pair: Behaviour(3600 if pair.attempt == 1 else 5, 0)
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        (host,) = world.hosts.values()
        host.kill_agent()
        world.ec2.impair(host.id)
        await asyncio.sleep(295)
        assert world.cluster.job(key).status.counts.interruptions == 0
        await world.until(lambda: all_ok(world, 1), seconds=300)
        assert [a.outcome for a in world.cluster.job(key).status.attempts] == ["Interrupted", "Succeeded"]


async def test_a_leader_of_an_earlier_term_does_not_believe_what_it_knew_of_the_status_checks_then():
    async with World(run_seconds=3600) as world:
        world.start_operator()
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        await asyncio.sleep(70)  # the first leader has asked, and all was well
        world.cut(world.lines[0])
        await world.until(lambda: world.operators[1].runtime.working)
        world.ec2.impair(world.cluster.job(key).status.instance_id or "")
        await world.until(lambda: world.cluster.job(key).current.impaired_at is not None, seconds=150)
        world.mend(world.lines[0])
        await world.stop_operator(1)
        await world.until(lambda: world.operators[0].runtime.working)
        await asyncio.sleep(3)
        assert world.cluster.job(key).current.impaired_at is not None

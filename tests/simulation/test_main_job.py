"""The life of jobs under the real controller, on a virtual clock."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from spotjob.local.ec2 import CapacityRule, Fault, Timing
from tests.simulation.account import START
from tests.simulation.container import Exit
from tests.simulation.world import World

OK = "TerminatedOK"


async def test_a_hundred_jobs_share_few_launches_and_cost_seven_writes_each():
    async with World() as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(100)]
        await world.until(
            lambda: not any(world.cluster.job(k).guarded for k in keys) and world.cluster.phases()[OK] == 100
        )
        assert world.ec2.calls["CreateFleet"] <= 10
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        assert max(world.cluster.writes.values()) == 7
        assert world.alive() == 0
        assert {i["jobStatus"] for i in world.table.items.values()} == {OK}
        assert len(world.table.items) == 100


async def test_the_spot_request_is_shown_at_the_end():
    async with World() as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()[OK] == 1)
        assert world.cluster.job(key).status.spot_instance_request_id.startswith("sir-")


async def test_a_failed_container_is_tried_again_on_another_instance_within_its_limit():
    async with World(exit_code=7) as world:
        key = world.cluster.apply("night", backoffLimit=1)
        await world.until(lambda: world.cluster.phases()["TerminatedNOK"] == 1)
        attempts = world.cluster.job(key).status.attempts
        assert [a.exit_code for a in attempts] == [7, 7]
        assert attempts[0].instance_id != attempts[1].instance_id
        assert world.alive() == 0


async def test_nothing_is_launched_before_the_start_time_and_soon_after_it():
    async with World() as world:
        start = START + timedelta(seconds=600)
        world.cluster.apply("later", startAt=start.isoformat())
        await world.until(lambda: world.clock.now() >= start)
        assert world.ec2.calls["CreateFleet"] == 0
        await world.until(lambda: world.ec2.calls["CreateFleet"] == 1, seconds=1)
        await world.until(lambda: world.cluster.phases()[OK] == 1)


async def test_a_deleted_jobs_container_is_told_to_stop_and_then_job_and_instance_go():
    async with World(run_seconds=3600) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.cluster.delete(key)
        await world.until(lambda: key not in world.cluster.jobs, seconds=150)
        assert [story.exit for story in world.stories.values()] == [Exit(0, signalled=True)]
        assert world.alive() == 0
        assert [i["jobStatus"] for i in world.table.items.values()] == ["TerminatedNOK"]


async def test_a_job_that_was_deleted_before_it_was_launched_leaves_nothing():
    async with World() as world:
        world.ec2.set_capacity(CapacityRule(count=0))
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Requested"] == 1)
        world.cluster.delete(key)
        await world.until(lambda: key not in world.cluster.jobs, seconds=150)
        assert world.ec2.instances() == []


async def test_one_empty_pool_sends_jobs_to_the_others():
    async with World() as world:
        world.ec2.set_capacity(CapacityRule(availability_zone="us-east-1a", count=0))
        for n in range(20):
            world.cluster.apply(f"job-{n}")
        await world.until(lambda: world.cluster.phases()[OK] == 20)
        assert not [i for i in world.ec2.instances() if i.pool.availability_zone == "us-east-1a"]


async def test_without_any_capacity_the_job_says_so_and_runs_when_there_is_some():
    async with World() as world:
        world.ec2.set_capacity(CapacityRule(count=0))
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.job(key).status.reason == "InsufficientCapacity")
        assert world.cluster.job(key).status.next_attempt_time is not None
        await world.until(lambda: world.clock.now() > START + timedelta(seconds=400))
        assert world.cluster.writes[key] <= 4
        world.ec2.set_capacity(CapacityRule(count=None))
        await world.until(lambda: world.cluster.phases()[OK] == 1, seconds=180)


async def test_a_lost_reply_launches_nothing_twice():
    async with World() as world:
        world.ec2.faults.order(Fault("CreateFleet", lost=True, when="after", times=2))
        for n in range(5):
            world.cluster.apply(f"job-{n}")
        await world.until(lambda: world.cluster.phases()[OK] == 5)
        assert len(world.ec2.instances()) == 5


async def test_an_operator_killed_in_the_middle_is_continued_by_the_next_one():
    async with World(run_seconds=30) as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(20)]
        await world.until(lambda: world.cluster.phases()["Running"] == 20)
        await world.kill_operators()
        world.start_operator()
        await world.until(lambda: world.cluster.phases()[OK] == 20)
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        assert world.alive() == 0


async def test_an_operator_killed_at_the_launch_leaks_nothing():
    async with World() as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(20)]
        await world.until(lambda: world.ec2.instances() != [])
        await world.kill_operators()
        world.start_operator()
        await world.until(lambda: world.cluster.phases()[OK] == 20)
        await world.until(lambda: world.alive() == 0, seconds=600)
        assert world.runs == Counter(dict.fromkeys(keys, 1))


async def test_instances_whose_agent_never_speaks_are_given_up_and_reaped():
    async with World() as world:
        world.agents_work = False
        world.cluster.apply("night", startupDeadlineSeconds=60)
        await world.until(lambda: world.cluster.phases()["TerminatedNOK"] == 1, seconds=7200)
        assert world.cluster.job("batch/night").status.counts.launch_errors == 6
        await world.until(lambda: world.alive() == 0, seconds=600)


async def test_a_reclaimed_instance_is_replaced_and_does_not_count_as_a_failure():
    async with World(run_seconds=60) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.ec2.reclaim(world.cluster.job(key).status.instance_id)
        await world.until(lambda: world.cluster.phases()[OK] == 1)
        counts = world.cluster.job(key).status.counts
        assert (counts.interruptions, counts.failures, world.runs[key]) == (1, 0, 2)


async def test_the_next_attempt_waits_until_the_old_instance_is_terminated():
    async with World(run_seconds=600, timing=Timing(boot_seconds=5, shutdown_seconds=200)) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        first = world.cluster.job(key).status.instance_id
        world.ec2.reclaim(first)
        await world.until(lambda: (world.cluster.job(key).status.attempt or 0) == 2)
        assert world.ec2.instance(first).state.value == "terminated"


async def test_a_suspended_job_holds_no_instance_and_goes_on_when_resumed():
    async with World(run_seconds=60) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        world.cluster.suspend(key, True)
        await world.until(lambda: world.alive() == 0, seconds=60)
        assert world.cluster.job(key).status.reason == "Suspended"
        world.cluster.suspend(key, False)
        await world.until(lambda: world.cluster.phases()[OK] == 1)


async def test_a_class_that_does_not_exist_is_a_condition_and_the_job_runs_when_it_comes():
    async with World() as world:
        key = world.cluster.apply("night", className="gpu")
        await world.until(lambda: world.cluster.job(key).status.reason == "ClassNotReady")
        assert "gpu" in world.cluster.job(key).status.message
        assert world.ec2.calls["CreateFleet"] == 0


async def test_a_failing_mirror_stops_no_job_and_catches_up():
    async with World(mirror_patience_seconds=30) as world:
        world.table.down = True
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()[OK] == 1 and not world.cluster.job(key).guarded)
        world.table.down = False
        await world.until(lambda: [i["jobStatus"] for i in world.table.items.values()] == [OK], seconds=120)


async def test_a_launch_that_ec2_refuses_ends_the_job_with_ec2s_words():
    async with World() as world:
        world.ec2.faults.order(Fault("CreateFleet", code="InvalidAMIID.NotFound", message="no image ami-1", times=9))
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["TerminatedNOK"] == 1)
        status = world.cluster.job(key).status
        assert status.reason == "LaunchRejected"
        assert "no image ami-1" in status.message

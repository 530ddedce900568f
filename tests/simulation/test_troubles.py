"""What goes wrong around the operator: the API server, EC2, the table, other operators, and people's timing."""

from __future__ import annotations

import asyncio
from collections import Counter

from spotjob.local.ec2 import CapacityRule, Fault
from tests.simulation.account import a_class
from tests.simulation.world import World

OK = "TerminatedOK"


def all_ok(world: World, count: int) -> bool:
    return world.cluster.phases()[OK] == count


# ---- the API server -------------------------------------------------------------------------------------------------


async def test_a_bind_whose_answer_is_lost_uses_no_second_instance():
    async with World() as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(5)]
        world.lines[0].lost["write_status"] = 5
        await world.until(lambda: all_ok(world, 5))
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        assert len(world.ec2.instances()) == 5


async def test_news_that_come_late_start_nothing_twice():
    async with World() as world:
        world.cluster.watch_seconds = 20
        keys = [world.cluster.apply(f"job-{n}") for n in range(10)]
        await world.until(lambda: all_ok(world, 10))
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        assert len(world.ec2.instances()) == 10


async def test_an_end_of_which_ec2_tells_before_the_watch_costs_a_read_and_no_refused_write():
    async with World(run_seconds=30) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        await asyncio.sleep(5)
        world.cluster.watch_seconds = 20
        await world.until(lambda: all_ok(world, 1))
        assert world.cluster.refused[key] == 0


async def test_an_outage_of_the_api_server_costs_no_job_its_run():
    async with World(run_seconds=30) as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(10)]
        await world.until(lambda: world.cluster.phases()["Running"] == 10)
        world.cut(*world.outage())
        await asyncio.sleep(60)
        world.mend(*world.outage())
        await world.until(lambda: all_ok(world, 10))
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        await world.until(lambda: world.alive() == 0, seconds=120)


async def test_an_outage_at_the_launch_delays_the_jobs_and_leaks_nothing():
    async with World() as world:
        keys = [world.cluster.apply(f"job-{n}") for n in range(10)]
        await world.until(lambda: world.ec2.calls["CreateFleet"] > 0)
        world.cut(*world.outage())
        await asyncio.sleep(60)
        world.mend(*world.outage())
        await world.until(lambda: all_ok(world, 10))
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        await world.until(lambda: world.alive() == 0, seconds=600)


async def test_a_job_that_is_created_while_a_new_leader_lists_is_not_lost():
    async with World() as world:
        world.cluster.list_seconds = 5
        await asyncio.sleep(2)
        world.cluster.apply("night")
        await world.until(lambda: all_ok(world, 1), seconds=120)


async def test_a_conflict_whose_second_look_gets_no_answer_is_looked_at_again_soon():
    async with World() as world:
        await asyncio.sleep(1)
        key = world.cluster.apply("night")
        world.cluster.watch_seconds = 600
        world.cluster.suspend(key, False)
        world.lines[0].lost["get_job"] = 1
        await world.until(lambda: all_ok(world, 1), seconds=50)


# ---- several operators ----------------------------------------------------------------------------------------------


async def test_a_second_operator_goes_on_where_the_first_is_stopped():
    async with World(run_seconds=30) as world:
        world.start_operator()
        keys = [world.cluster.apply(f"job-{n}") for n in range(20)]
        await world.until(lambda: world.cluster.phases()["Running"] == 20)
        await world.stop_operator(0)
        later = world.cluster.apply("later")
        await world.until(lambda: all_ok(world, 21))
        assert world.runs == Counter(dict.fromkeys([*keys, later], 1))
        assert world.alive() == 0


async def test_a_leader_without_connection_is_replaced_and_does_no_harm_when_it_leads_again():
    async with World(run_seconds=30) as world:
        world.start_operator()
        keys = [world.cluster.apply(f"job-{n}") for n in range(10)]
        await world.until(lambda: world.cluster.phases()["Requested"] == 10)
        world.cut(world.lines[0])
        keys += [world.cluster.apply(f"more-{n}") for n in range(10)]
        await world.until(lambda: all_ok(world, 20))
        gone = world.cluster.apply("gone", suspend=True)
        world.cluster.delete(gone)
        world.mend(world.lines[0])
        await world.stop_operator(1)
        keys += [world.cluster.apply(f"last-{n}") for n in range(10)]
        await world.until(lambda: all_ok(world, 30))
        assert world.runs == Counter(dict.fromkeys(keys, 1))
        await world.until(lambda: world.alive() == 0, seconds=600)


# ---- EC2 ------------------------------------------------------------------------------------------------------------


async def test_a_throttled_launch_says_so_and_is_tried_again():
    async with World() as world:
        world.ec2.faults.order(Fault("CreateFleet", code="RequestLimitExceeded", times=2))
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.job(key).status.reason == "Throttled", seconds=30)
        await world.until(lambda: all_ok(world, 1))


async def test_a_fleet_that_is_filled_in_part_serves_some_now_and_the_others_later():
    async with World(run_seconds=30) as world:
        world.ec2.set_capacity(CapacityRule(count=1))
        keys = [world.cluster.apply(f"job-{n}") for n in range(20)]
        await world.until(lambda: world.cluster.phases()["Running"] > 0)
        assert 0 < world.alive() < 20
        world.ec2.set_capacity(CapacityRule(count=None))
        await world.until(lambda: all_ok(world, 20))
        assert world.runs == Counter(dict.fromkeys(keys, 1))


async def test_a_reply_that_is_lost_for_good_costs_idle_instances_only_until_they_power_off():
    async with World() as world:
        world.ec2.faults.order(Fault("CreateFleet", lost=True, when="after", times=4))
        world.agents_work = False
        key = world.cluster.apply("night", startAt="2026-11-22T02:00:01Z")
        await world.until(lambda: world.ec2.calls["CreateFleet"] >= 4)
        world.agents_work = True
        await world.until(lambda: all_ok(world, 1))
        assert world.runs == Counter({key: 1})
        await world.until(lambda: world.alive() == 0, seconds=600)


async def test_a_class_in_a_region_that_does_not_answer_stops_no_other_class():
    async with World() as world:
        world.cluster.classes.append(a_class("mistyped", region="us-nowhere-1"))
        world.cluster.apply("night")
        lost = world.cluster.apply("lost", className="mistyped")
        await world.until(lambda: all_ok(world, 1), seconds=90)
        await world.until(lambda: "mistyped" in (world.cluster.job(lost).status.message or ""), seconds=120)


# ---- maxConcurrent --------------------------------------------------------------------------------------------------


async def test_batches_that_overlap_keep_the_limit_together():
    async with World(run_seconds=10) as world:
        world.cluster.classes[0] = a_class("default", default=True, maxConcurrent=10)
        world.ec2.faults.order(Fault("CreateFleet", delay_seconds=5))
        keys = [world.cluster.apply(f"early-{n}") for n in range(10)]
        await asyncio.sleep(2)
        keys += [world.cluster.apply(f"late-{n}") for n in range(10)]
        most = 0
        while not all_ok(world, 20):
            most = max(most, world.alive())
            await asyncio.sleep(0.25)
            assert world.clock.monotonic() < 600
        assert most == 10
        assert world.runs == Counter(dict.fromkeys(keys, 1))


async def test_the_limit_holds_across_a_restart_of_the_operator():
    async with World(run_seconds=60) as world:
        world.cluster.classes[0] = a_class("default", default=True, maxConcurrent=5)
        for n in range(10):
            world.cluster.apply(f"job-{n}")
        await world.until(lambda: world.cluster.phases()["Running"] == 5)
        await world.kill_operators()
        world.start_operator()
        await asyncio.sleep(30)
        assert world.alive() == 5
        await world.until(lambda: all_ok(world, 10))


# ---- people's timing ------------------------------------------------------------------------------------------------


async def test_what_was_launched_for_a_namesake_is_not_bound_to_its_successor():
    async with World() as world:
        await asyncio.sleep(1)
        key = world.cluster.apply("night", instanceTypes=["c6i.large"])
        world.ec2.faults.order(Fault("CreateFleet", delay_seconds=5))
        await world.until(lambda: world.ec2.calls["CreateFleet"] == 1)
        world.cluster.jobs[key]["metadata"]["finalizers"] = []
        world.cluster.delete(key)
        world.cluster.apply("night", instanceTypes=["m6i.large"])
        await world.until(lambda: all_ok(world, 1))
        assert world.cluster.job(key).status.attempts[-1].instance_type == "m6i.large"
        await world.until(lambda: world.alive() == 0, seconds=600)


async def test_a_refusal_of_a_namesake_is_no_verdict_about_its_successor():
    async with World() as world:
        await asyncio.sleep(1)
        fault = Fault("CreateFleet", code="InvalidAMIID.NotFound", message="no image", delay_seconds=5)
        world.ec2.faults.order(fault)
        key = world.cluster.apply("night")
        await world.until(lambda: world.ec2.calls["CreateFleet"] == 1)
        world.cluster.jobs[key]["metadata"]["finalizers"] = []
        world.cluster.delete(key)
        world.cluster.apply("night")
        await world.until(lambda: world.cluster.job(key).finished)
        await world.until(lambda: all_ok(world, 1))


async def test_a_job_that_is_suspended_while_its_instance_boots_never_runs():
    async with World() as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.job(key).running is not None)
        world.cluster.suspend(key, True)
        await world.until(lambda: world.ec2.instances() != [] and world.alive() == 0, seconds=60)
        assert world.runs[key] == 0
        world.cluster.suspend(key, False)
        await world.until(lambda: all_ok(world, 1))
        assert world.runs[key] == 1


async def test_a_job_that_is_suspended_while_it_waits_for_capacity_waits_no_longer():
    async with World() as world:
        world.ec2.set_capacity(CapacityRule(count=0))
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.job(key).status.reason == "InsufficientCapacity")
        world.cluster.suspend(key, True)
        await world.until(lambda: world.cluster.job(key).status.reason == "Suspended", seconds=5)
        world.ec2.set_capacity(CapacityRule(count=None))
        await asyncio.sleep(300)
        assert world.ec2.instances() == []


async def test_the_wait_for_capacity_ends_when_it_should():
    async with World() as world:
        world.ec2.set_capacity(CapacityRule(count=0))
        key = world.cluster.apply("night", capacityTimeoutSeconds=100)
        await world.until(lambda: world.cluster.job(key).finished, seconds=110)
        assert world.cluster.job(key).status.reason == "CapacityTimeout"


# ---- the mirror -----------------------------------------------------------------------------------------------------


async def test_a_job_waits_for_the_table_no_longer_than_the_patience():
    async with World(mirror_patience_seconds=300) as world:
        await asyncio.sleep(1)
        world.table.down = True
        key = world.cluster.apply("night")
        await world.until(lambda: all_ok(world, 1))
        world.cluster.delete(key)
        await world.until(lambda: key not in world.cluster.jobs, seconds=305)


async def test_a_job_that_goes_during_an_outage_of_the_table_gets_its_verdict_there_afterwards():
    async with World(mirror_patience_seconds=30) as world:
        key = world.cluster.apply("night")
        await world.until(lambda: world.cluster.phases()["Running"] == 1)
        await asyncio.sleep(1)
        world.table.down = True
        await world.until(lambda: all_ok(world, 1))
        world.cluster.delete(key)
        await world.until(lambda: key not in world.cluster.jobs)
        world.table.down = False
        await world.until(lambda: [i["jobStatus"] for i in world.table.items.values()] == [OK], seconds=120)

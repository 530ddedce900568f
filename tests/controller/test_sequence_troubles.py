"""What may befall a JobSequence and its operator: changes in between, lost answers, lost leases, crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from spotjob.controller.sequences import Sequences
from spotjob.core.sequence.ports import Action, DescribeTasks, News
from spotjob.core.sequence.resources import SequencePhase
from tests.controller.sequence_world import THREE, World, ecs

pytestmark = pytest.mark.looptime


async def test_a_change_by_somebody_else_in_between_repeats_nothing():
    async with World() as world:
        world.apply(*THREE)
        for _ in range(200):
            await asyncio.sleep(0.23)
            world.changed("JobSequence", world.objects["JobSequence", "batch/nightly"])
        await world.over()
    assert world.launched() == ["extract", "report"]
    assert len(world.names("SpotJob")) == 1


@pytest.mark.parametrize("call", ["status", "finalizer", "create job"])
async def test_a_write_whose_answer_is_lost_is_looked_up_and_not_done_twice(call: str):
    async with World() as world:
        world.lost[call] = 3
        world.apply(*THREE)
        held = await world.over()
    assert held.status.phase is SequencePhase.SUCCEEDED
    assert world.launched() == ["extract", "report"]
    assert len(world.names("SpotJob")) == 1


async def test_one_that_does_not_lead_does_nothing_and_goes_on_when_it_does():
    async with World() as world:
        world.life.leads = False
        world.apply(*THREE)
        await asyncio.sleep(60)
        assert (world.launched(), world.writes.total()) == ([], 0)
        world.life.leads = True
        await world.over()
    assert world.launched() == ["extract", "report"]


@pytest.mark.parametrize("call", ["status", "create job"])
async def test_with_a_silent_watch_a_write_without_an_answer_is_looked_up_at_the_api_server(call: str):
    async with World() as world:
        world.lost[call] = 3
        world.apply(*THREE)
        await asyncio.sleep(0.011)
        world.watched = False
        held = await world.over(seconds=300)
    assert held.status.phase is SequencePhase.SUCCEEDED
    assert world.launched() == ["extract", "report"]


async def test_what_somebody_else_wrote_to_the_record_holds_against_what_is_remembered():
    """Two may believe for a moment that they lead."""
    async with World() as world:
        world.apply(ecs("extract"), ecs("load"))
        await asyncio.sleep(6)
        raw = world.objects["JobSequence", "batch/nightly"]
        raw["status"]["run"]["steps"][0]["state"] = "Succeeded"
        world.changed("JobSequence", raw)
        await asyncio.sleep(1)
        assert world.launched() == ["extract", "load"]
        await world.over()


async def test_who_loses_the_lease_between_the_write_and_the_call_does_not_call():
    async with World() as world:
        world.loses_the_lease_at(1)
        world.apply(ecs("extract"))
        await asyncio.sleep(60)
        assert world.sequence().status.run is not None
        assert world.launched() == []


async def test_who_has_lost_the_lease_asks_aws_for_nothing_more():
    async with World() as world:
        world.apply(ecs("extract"), ecs("load"))
        await asyncio.sleep(8)
        world.life.leads = False
        await asyncio.sleep(60)
        assert world.launched() == ["extract"]
        looks = len(world.looks)
        await asyncio.sleep(60)
        assert len(world.looks) == looks


async def points() -> int:
    """How many points a life without a kill has."""
    async with World() as world:
        world.apply(*THREE)
        await world.over()
        return world.point


async def test_killed_at_every_write_and_every_call_each_step_runs_exactly_once():
    count = await points()
    assert count > 20
    for kill_at in range(count):
        async with World(kill_at=kill_at) as world:
            world.apply(*THREE)
            held = await world.over()
            assert world.kill_at is None, f"point {kill_at} was not reached"
        assert held.status.phase is SequencePhase.SUCCEEDED, kill_at
        assert world.launched() == ["extract", "report"], kill_at
        assert len(world.names("SpotJob")) == 1, kill_at


async def test_killed_at_every_point_of_a_deletion_nothing_is_left():
    for kill_at in range(6, 40):
        async with World(kill_at=kill_at) as world:
            world.seconds = 1000
            world.apply(ecs("extract"), ecs("load"))
            await asyncio.sleep(10)
            world.delete()
            await asyncio.sleep(60)
            assert not world.there(), kill_at
            assert world.running() == [], kill_at
        assert world.launched() == ["extract"], kill_at


async def test_200_steps_and_another_of_10_steps_with_10_tasks_each_run_side_by_side():
    async with World() as world:
        world.apply(*(ecs(f"step-{n}") for n in range(200)), name="long")
        wide = [ecs(f"wide-{n}") for n in range(10)]
        for step in wide:
            step["parameters"]["count"] = 10
        world.apply(*wide, name="wide")
        assert (await world.over("wide")).status.progress == "10/10"
        held = await world.over("long")
    assert held.status.progress == "200/200"
    assert len(world.tasks) == 300
    assert len(held.model_dump_json()) < 300_000
    assert not world.operator._runner._runs


class Both:
    """Two operators that the watch tells everything."""

    def __init__(self, *operators: Sequences) -> None:
        self._operators = operators

    def __getattr__(self, name: str) -> Callable[[object], None]:
        def tell(news: object) -> None:
            for operator in self._operators:
                getattr(operator, name)(news)

        return tell


async def test_a_former_leader_whose_call_is_answered_late_does_not_write_over_the_record_of_the_next_one():
    async with World() as world:
        world.apply(ecs("one"), ecs("two"), ecs("three"))
        former, life, working = world.operator, world.life, world._working
        regions = former._runner._ecs
        perform = regions.perform

        async def late(action: Action) -> News:
            news = await perform(action)
            if isinstance(action, DescribeTasks) and life.leads and world.clock.monotonic() > 10:
                life.leads = False
                world._begin_life()
                world.operator = Both(world.operator, former)
                await asyncio.sleep(20)
                life.leads = True  # it leads again by the time of its answer, and has still seen nothing else
            return news

        regions.perform = late
        done: list[str] = []
        for _ in range(3000):
            await asyncio.sleep(0.02)
            done.append(world.objects["JobSequence", "batch/nightly"]["status"].get("progress", ""))
        working.cancel()
    assert (done[-1], done) == ("3/3", sorted(done))
    assert sorted(world.launched()) == ["one", "three", "two"]
    assert [reason for _, reason in world.events].count("StepSucceeded") == 3

"""The operator begins the runs of scheduled JobSequences: each one once."""

from __future__ import annotations

import asyncio

import pytest

from spotjob.core.sequence.resources import SequencePhase
from tests.controller.sequence_world import World, ecs

pytestmark = pytest.mark.looptime


async def test_a_schedule_begins_a_run_each_time_and_keeps_the_last_ones():
    async with World() as world:
        world.apply(ecs("extract"), schedule="*/10 * * * *", successfulJobsHistoryLimit=2)
        await asyncio.sleep(3700)
        status = world.sequence().status
        runs = [name for name in world.names() if name != "nightly"]
    assert status.phase is SequencePhase.SCHEDULED
    assert len(world.launched()) == 6
    assert len(runs) == 2
    assert status.last_successful_time is not None
    assert {reason for name, reason in world.events if name == "nightly"} == {"Created"}


async def test_with_forbid_a_run_waits_for_the_end_of_the_one_before():
    async with World() as world:
        world.seconds = 900
        world.apply(ecs("extract"), schedule="*/10 * * * *", concurrencyPolicy="Forbid")
        for _ in range(60):
            await asyncio.sleep(60)
            assert len(world.running()) <= 1
    assert len(world.launched()) >= 3


async def test_with_replace_the_run_before_is_stopped_and_never_runs_beside_the_new_one():
    async with World() as world:
        world.seconds = 900
        world.apply(ecs("extract"), schedule="*/10 * * * *", concurrencyPolicy="Replace")
        for _ in range(245):
            await asyncio.sleep(15)
            assert len(world.running()) <= 1
        assert len(world.sequence().status.active) == 1
    assert len(world.launched()) == 6


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"timeZone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"schedule": "61 * * * *"}, "minute"),
    ],
    ids=["no such zone", "no such minute"],
)
async def test_a_schedule_that_means_nothing_is_told_at_once_and_can_be_mended(spec: dict[str, str], word: str):
    async with World() as world:
        world.apply(ecs("extract"), **{"schedule": "0 * * * *", **spec})
        await asyncio.sleep(1)
        status = world.sequence().status
        assert (status.phase, status.conditions[0].reason) == (SequencePhase.FAILED, "Invalid")
        assert word in status.message
        raw = world.objects["JobSequence", "batch/nightly"]
        raw["spec"] |= {"schedule": "*/10 * * * *", "timeZone": "Europe/Berlin"}
        raw["metadata"]["generation"] += 1
        world.changed("JobSequence", raw)
        await asyncio.sleep(700)
        assert world.sequence().status.phase is SequencePhase.SCHEDULED
    assert world.launched() == ["extract"]


async def test_a_run_whose_creation_got_no_answer_is_not_taken_for_another():
    async with World() as world:
        world.lost["create"] = 1
        world.apply(ecs("extract"), schedule="*/10 * * * *")
        await asyncio.sleep(599)
        world.watched = False
        await asyncio.sleep(10)
        assert len(world.names()) == 2
        assert world.sequence().status.last_schedule_time is not None
        assert "NameTaken" not in {reason for _, reason in world.events}


async def test_a_foreign_namesake_of_a_run_is_told_and_left_alone():
    async with World() as world:
        world.apply(ecs("mine"), name="nightly-29921890", suspend=True)
        world.apply(ecs("extract"), schedule="*/10 * * * *")
        await asyncio.sleep(1300)
        assert ("nightly", "NameTaken") in world.events
    assert world.launched() == ["extract"]


async def test_killed_at_every_write_a_schedule_begins_each_run_once():
    for kill_at in range(30):
        async with World(kill_at=kill_at) as world:
            world.apply(ecs("extract"), schedule="*/10 * * * *")
            await asyncio.sleep(1300)
        assert world.launched() == ["extract", "extract"], kill_at

"""The operator drives JobSequences: each step exactly once, whatever becomes of the operator."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from spotjob.core.sequence.resources import SequencePhase
from tests.controller.sequence_world import THREE, World, ecs, spot

pytestmark = pytest.mark.looptime


async def test_the_steps_run_one_after_the_other_and_the_status_tells_how_far_they_are():
    async with World() as world:
        world.apply(*THREE)
        await asyncio.sleep(20)
        halfway = world.sequence().status
        assert (halfway.phase, halfway.progress, halfway.step) == (SequencePhase.RUNNING, "1/3", "train")
        held = await world.over()
    assert (held.status.phase, held.status.progress, held.status.step) == (SequencePhase.SUCCEEDED, "3/3", None)
    assert world.launched() == ["extract", "report"]
    assert [c.type for c in held.status.conditions if c.status == "True"] == ["Complete"]
    assert [reason for _, reason in world.events] == [*["StepStarted", "StepSucceeded"] * 3, "Completed"]


async def test_a_job_of_a_step_is_owned_by_its_sequence_and_labelled_with_it():
    async with World() as world:
        world.apply(spot("train", command=["sh"]))
        held = await world.over()
    (job,) = world.raw("SpotJob")
    assert job["metadata"]["ownerReferences"] == [held.as_owner()]
    assert job["metadata"]["labels"] == {"spotjob.dev/sequence": "nightly"}
    assert job["spec"] == {"image": "busybox:1", "command": ["sh"]}


async def test_a_running_job_is_followed_by_the_watch_and_not_by_asking():
    async with World() as world:
        world.seconds = 600
        world.apply(spot("train"))
        await world.over()
        took = world.clock.monotonic()
    assert world.writes["get job"] <= 1
    assert took < 605


async def test_a_step_that_runs_is_looked_at_once_per_interval_and_costs_no_writes():
    async with World() as world:
        world.seconds = 600
        world.apply(ecs("long"))
        await asyncio.sleep(100)
        before = world.writes["status"]
        await asyncio.sleep(400)
        assert world.writes["status"] == before
        await world.over()
    assert len(world.looks) == pytest.approx(600 / 5, abs=2)


async def test_a_failure_ends_the_run_after_its_clean_up_with_the_containers_last_lines():
    async with World() as world:
        world.codes, world.said = {"extract": 3}, ("connecting", "no such table")
        world.apply(ecs("extract"), ecs("load"), ecs("tidy", always=True), onFailure=[ecs("alarm")])
        held = await world.over()
    assert world.launched() == ["extract", "tidy", "alarm"]
    assert (held.status.phase, held.status.progress, held.status.step) == (SequencePhase.FAILED, "3/4", "extract")
    assert "no such table" in held.status.message
    (failed,) = (c for c in held.status.conditions if c.type == "Failed")
    assert (failed.status, failed.reason) == ("True", "StepFailed")


async def test_what_a_step_said_is_given_to_the_next():
    async with World() as world:
        world.said = ('{"rows": 42}',)
        load = ecs("load")
        load["parameters"]["overrides"] = {"container_overrides": [{"command": ["${steps.extract.result.rows}"]}]}
        world.apply(ecs("extract"), load)
        await world.over()
    request = list(world.tasks.values())[1]["request"]
    assert request["overrides"]["container_overrides"][0]["command"] == [42]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({**ecs("a"), "parameters": {"task": "d"}}, "steps[1].parameters.task_definitionn: unknown key"),
        (spot("a", imagee="b"), "steps[1].parameters.imagee: unknown key imagee, did you mean image?"),
        (spot("a", backoffLimit="x"), "steps[1].parameters.backoffLimit: must be a whole number"),
        (spot("a", args=["${HOME}"]), "steps[1].parameters: ${HOME} is not known"),
        (spot("a", args=["${steps.b.result}"]), "steps[1].parameters: refers to step b"),
    ],
    ids=["of ECS", "a typo", "a text for a number", "a shell's variable", "a step that does not come before"],
)
async def test_a_bad_parameter_fails_the_whole_by_its_name_before_the_first_step(step: dict[str, object], message: str):
    async with World() as world:
        world.apply(ecs("extract"), step)
        held = await world.over()
    assert held.status.phase is SequencePhase.FAILED
    assert message in held.status.message
    assert [(c.type, c.reason) for c in held.status.conditions] == [("Failed", "Invalid")]
    assert (world.launched(), world.names("SpotJob")) == ([], [])


# ---- a person ----


@pytest.mark.parametrize(("after", "left"), [(6, []), (18, [])], ids=["in the ECS task", "in the SpotJob"])
async def test_a_sequence_that_is_deleted_stops_its_step_and_leaves_nothing(after: float, left: list[str]):
    async with World() as world:
        world.seconds = 15
        world.apply(*THREE)
        await asyncio.sleep(after)
        world.delete()
        await asyncio.sleep(12)
        assert not world.there()
        assert world.running() == left
    assert world.launched() == ["extract"]


async def test_a_sequence_that_is_deleted_before_it_began_just_goes():
    async with World() as world:
        world.apply(*THREE, suspend=True)
        await asyncio.sleep(1)
        world.delete()
        await asyncio.sleep(1)
        assert not world.there()
    assert world.launched() == []


async def test_a_suspended_sequence_finishes_its_step_and_begins_the_next_when_it_goes_on():
    async with World() as world:
        world.apply(*THREE)
        await asyncio.sleep(3)
        world.suspend(True)
        await asyncio.sleep(60)
        status = world.sequence().status
        assert (status.phase, status.progress) == (SequencePhase.SUSPENDED, "1/3")
        assert [c.type for c in status.conditions if c.status == "True"] == ["Suspended"]
        writes = world.writes["status"]
        await asyncio.sleep(600)
        assert world.writes["status"] == writes
        world.suspend(False)
        held = await world.over()
    assert held.status.progress == "3/3"
    assert [c.type for c in held.status.conditions if c.status == "True"] == ["Complete"]


async def test_a_suspended_sequence_still_ends_at_its_deadline():
    async with World() as world:
        world.apply(*THREE, activeDeadlineSeconds=120)
        await asyncio.sleep(3)
        world.suspend(True)
        held = await world.over()
    assert held.status.phase is SequencePhase.FAILED
    assert held.status.completion_time - held.status.start_time == pytest.approx(
        timedelta(seconds=120), abs=timedelta(seconds=1)
    )


async def test_an_ended_sequence_is_deleted_after_its_time_to_live():
    async with World() as world:
        world.apply(ecs("extract"), ttlSecondsAfterFinished=300)
        await world.over()
        await asyncio.sleep(290)
        assert world.there()
        await asyncio.sleep(20)
        assert not world.there()

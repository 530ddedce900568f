"""What a run does next: order, failures, waits, time limits, stops."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spotjob.core.sequence.advance import STOP_FOR
from spotjob.core.sequence.hear import CAPACITY_FOR, TOKEN_SURE_FOR
from spotjob.core.sequence.ports import (
    DescribeTasks,
    Failure,
    FindTasks,
    Launched,
    News,
    Refusal,
    Refused,
    RunTask,
    StopTasks,
    Unknown,
)
from spotjob.core.sequence.runs import RunState
from spotjob.core.sequence.steps import When
from tests.sequence_world import Killed, World, a_sequence, a_step, states

NO_ROOM = Failure("RESOURCE:CPU")
THROTTLED = Refused(Refusal.THROTTLED, "ThrottlingException", "Rate exceeded")


def requests(world: World) -> list[RunTask]:
    return [call for call in world.calls if isinstance(call, RunTask)]


def test_steps_run_one_after_the_other():
    world = World()
    run = world.play(a_sequence("a", "b", "c"))
    assert (run.state, states(run)) == (RunState.SUCCEEDED, ["Succeeded"] * 3)
    assert world.effects() == {"a:1": 1, "b:1": 1, "c:1": 1}
    ends = [step.ended_at for step in run.steps]
    begins = [step.started_at for step in run.steps]
    assert all(end <= begin for end, begin in zip(ends, begins[1:], strict=False))


def test_an_empty_list_succeeds():
    assert World().play(a_sequence()).state is RunState.SUCCEEDED


def test_a_failed_step_ends_the_run_but_for_clean_up():
    world = World(codes={"b:1": [3]})
    run = world.play(a_sequence("a", "b", "c", a_step("d", always=True)))
    assert run.state is RunState.FAILED
    assert states(run) == ["Succeeded", "Failed", "Skipped", "Succeeded"]
    assert run.message.startswith("b: ")


def test_a_failure_that_is_ignored_changes_nothing():
    run = World(codes={"a:1": [3]}).play(a_sequence(a_step("a", ignore_failure=True), "b"))
    assert (run.state, states(run)) == (RunState.SUCCEEDED, ["Failed", "Succeeded"])


def test_a_step_that_is_not_active_is_skipped():
    world = World()
    assert states(world.play(a_sequence(a_step("a", active=False), "b"))) == ["Skipped", "Succeeded"]
    assert world.effects() == {"b:1": 1}


@pytest.mark.parametrize(("codes", "expected"), [([], "Skipped"), ([1], "Succeeded")])
def test_steps_of_on_failure_run_only_after_a_failure(codes: list[int | None], expected: str):
    sequence = a_sequence("a", a_step("tell", when=When.FAILURE))
    assert states(World(codes={"a:1": codes}).play(sequence))[-1] == expected


def test_each_try_has_a_token_of_its_own_and_waits_longer():
    world = World(codes={"a:1": [1, 1, 0]})
    run = world.play(a_sequence(a_step("a", retries=2, retry_delay_seconds=100)))
    assert states(run) == ["Succeeded"]
    assert len({call.request["client_token"] for call in requests(world)}) == 3
    times = [task.ends_at - timedelta(seconds=12) for task in world.tasks.values()]
    assert timedelta(seconds=100) < times[1] - times[0] < timedelta(seconds=130)
    assert timedelta(seconds=200) < times[2] - times[1] < timedelta(seconds=230)


def test_retries_end():
    run = World(codes={"a:1": [1, 1, 1]}).play(a_sequence(a_step("a", retries=1)))
    assert (states(run), run.steps[0].failures) == (["Failed"], 2)


# ---- answers of RunTask ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [THROTTLED, Unknown("no answer")])
def test_a_request_without_effect_or_answer_is_repeated_with_the_same_token(said: News):
    world = World(answers=[said, said, said])
    run = world.play(a_sequence("a"))
    assert states(run) == ["Succeeded"]
    assert len(requests(world)) == 4
    assert len({call.request["client_token"] for call in requests(world)}) == 1


def test_what_was_not_placed_is_asked_for_again_with_a_new_token():
    world = World()
    world.answers = [Launched((world.launch({"task_definition": "a:1"}),), (NO_ROOM, NO_ROOM))]
    run = world.play(a_sequence(a_step("a", parameters={"count": 3})))
    assert (states(run), world.effects()) == (["Succeeded"], {"a:1": 3})
    assert [call.request["count"] for call in requests(world)] == [3, 2]
    assert len({call.request["client_token"] for call in requests(world)}) == 2


def test_no_capacity_is_waited_for_but_not_for_ever():
    world = World(answers=[Launched((), (NO_ROOM,))] * 500)
    began = world.now
    run = world.play(a_sequence("a"))
    assert (states(run), run.steps[0].reason) == (["Failed"], "CapacityUnavailable")
    assert CAPACITY_FOR <= world.now - began <= CAPACITY_FOR + timedelta(minutes=2)
    assert len(requests(world)) < 80


@pytest.mark.parametrize(
    "failure",
    [
        Failure("AGENT"),
        Failure("Capacity is unavailable at this time. Please try again later"),
        Failure("You've reached the limit on the number of vCPUs you can run concurrently"),
    ],
)
def test_what_passes_is_waited_for(failure: Failure):
    assert states(World(answers=[Launched((), (failure,))]).play(a_sequence("a"))) == ["Succeeded"]


def test_a_refusal_by_the_configuration_ends_the_step_at_once_and_stops_what_runs():
    world = World()
    world.answers = [Launched((world.launch({"task_definition": "a:1"}),), (Failure("ATTRIBUTE", "gpu"),))]
    run = world.play(a_sequence(a_step("a", parameters={"count": 2})))
    assert (states(run), run.steps[0].reason) == (["Failed"], "ATTRIBUTE")
    assert [type(call) for call in world.calls] == [RunTask, StopTasks, DescribeTasks]


def test_a_request_whose_token_may_be_forgotten_is_looked_for_and_never_repeated():
    world = World(kill_at=3)  # after the effect, before the answer
    with pytest.raises(Killed):
        world.play(a_sequence("a"))
    world.now += TOKEN_SURE_FOR + timedelta(minutes=1)
    run = world.play(a_sequence("a"))
    assert (states(run), world.effects()) == (["Succeeded"], {"a:1": 1})
    assert isinstance(world.calls[1], FindTasks)


def test_a_request_that_nobody_can_tell_the_fate_of_fails_and_is_not_repeated():
    world = World(kill_at=2)  # before the action
    with pytest.raises(Killed):
        world.play(a_sequence("a"))
    world.now += TOKEN_SURE_FOR + timedelta(minutes=1)
    run = world.play(a_sequence("a"))
    assert (states(run), run.steps[0].reason, world.effects()) == (["Failed"], "ResultLost", {})


def test_tasks_of_another_run_with_the_files_own_started_by_are_never_taken_for_ours():
    world = World(kill_at=2)
    sequence = a_sequence(a_step("a", parameters={"started_by": "nightly"}))
    world.launch({"task_definition": "other:1", "started_by": "nightly"})
    with pytest.raises(Killed):
        world.play(sequence)
    world.now += TOKEN_SURE_FOR + timedelta(minutes=1)
    run = world.play(sequence)
    assert (run.steps[0].reason, run.steps[0].tasks) == ("ResultLost", ())


def test_when_the_fate_of_the_rest_is_not_known_the_tasks_that_are_known_are_stopped():
    world, sequence = World(seconds=1e6), a_sequence(a_step("a", parameters={"count": 2, "started_by": "nightly"}))
    world.answers = [Launched((world.launch({"task_definition": "a:1"}),), (NO_ROOM,))]
    world.kill_at = 8  # the request for the rest stands in the record and was not sent
    with pytest.raises(Killed):
        world.play(sequence)
    assert (world.record.steps[0].state, world.record.steps[0].requests) == ("Requesting", 2)
    world.now += TOKEN_SURE_FOR + timedelta(minutes=1)
    run = world.play(sequence)
    assert (states(run), run.steps[0].reason) == (["Failed"], "ResultLost")
    assert [task.stop_code for task in world.tasks.values()] == ["UserInitiated"]


# ---- looking --------------------------------------------------------------------------------------------------------


def test_a_task_that_is_not_visible_yet_is_not_lost():
    world = World()
    world.missing_until = world.now + timedelta(seconds=30)
    assert states(world.play(a_sequence("a"))) == ["Succeeded"]


def test_a_task_that_ecs_no_longer_knows_is_lost_and_not_run_again():
    world = World()
    world.missing_until = world.now + timedelta(days=1)
    run = world.play(a_sequence(a_step("a", retries=5)))
    assert (states(run), run.steps[0].reason, world.effects()) == (["Failed"], "ResultLost", {"a:1": 1})


def test_a_running_step_is_looked_at_once_per_interval_and_costs_no_writes():
    world = World(seconds=600)
    world.play(a_sequence(a_step("a", parameters={"count": 10})), poll=timedelta(seconds=5))
    looks = [call for call in world.calls if isinstance(call, DescribeTasks)]
    assert 118 <= len(looks) <= 122
    assert world.writes <= 5


# ---- ends before the end --------------------------------------------------------------------------------------------


def test_the_tasks_of_a_step_whose_time_is_over_are_stopped():
    world = World(seconds=600)
    run = world.play(a_sequence(a_step("a", timeout_seconds=60, retries=3), "b"))
    assert (states(run), run.steps[0].reason) == (["Failed", "Skipped"], "TimedOut")
    (task,) = world.tasks.values()
    assert task.stop_code == "UserInitiated"


def test_when_the_time_of_the_whole_is_over_clean_up_still_runs():
    world = World(seconds=50)
    run = world.play(a_sequence("a", "b", a_step("c", always=True), timeout_seconds=80))
    assert (run.state, states(run)) == (RunState.FAILED, ["Succeeded", "Failed", "Succeeded"])


def test_a_run_that_is_told_to_end_stops_its_step_and_begins_no_other():
    world = World(seconds=600, kill_at=8)
    sequence = a_sequence("a", "b", a_step("c", always=True))
    with pytest.raises(Killed):
        world.play(sequence)
    run = world.play(sequence, stop="SIGTERM")
    assert (run.state, states(run)) == (RunState.STOPPED, ["Stopped", "Skipped", "Skipped"])
    assert [task.stop_code for task in world.tasks.values()] == ["UserInitiated"]


def test_a_step_that_had_done_its_work_when_it_was_told_to_stop_has_succeeded():
    world = World(kill_at=8)
    with pytest.raises(Killed):
        world.play(a_sequence("a"))
    world.now += timedelta(seconds=60)
    assert states(world.play(a_sequence("a"), stop="SIGTERM")) == ["Succeeded"]


def test_a_task_that_does_not_stop_is_left_and_named():
    world = World(seconds=1e6)
    world.stop = lambda arn, reason: None
    began = world.now
    run = world.play(a_sequence(a_step("a", timeout_seconds=10)))
    assert (states(run), world.now - began < STOP_FOR + timedelta(minutes=1)) == (["Failed"], True)
    assert "may still run: arn:task/0" in run.steps[0].message


def test_a_run_that_is_held_begins_no_further_step_and_finishes_the_one_that_runs():
    world = World()
    run = world.play(a_sequence("a", "b"), hold=True)
    assert (states(run), run.state) == (["Pending", "Pending"], RunState.RUNNING)

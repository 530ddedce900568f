"""What may not be concluded from a refusal, a silence, or a task that is no longer shown."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spotjob.core.sequence.hear import CAPACITY_FOR, LOOK_FOR, TOKEN_SURE_FOR
from spotjob.core.sequence.ports import (
    Action,
    DescribeTasks,
    FindTasks,
    Found,
    Looked,
    News,
    Refusal,
    Refused,
    RunTask,
    StopTasks,
    Task,
    Unknown,
)
from spotjob.core.sequence.resume import part, resumed
from spotjob.core.sequence.runs import RunState, StepState
from tests.sequence_world import Killed, World, a_sequence, a_step, states

THROTTLED = Refused(Refusal.THROTTLED, "ThrottlingException", "Rate exceeded")
NO_KEYS = Refused(Refusal.FINAL, "NoCredentials", "RunTask: no credentials")
NO_ROOM = Refused(Refusal.CAPACITY, "ClientException", "Capacity is unavailable")
AFTER_THE_EFFECT = 3
"""The point at which a driver dies whose RunTask had its effect and has no answer."""


class Refusing(World):
    """An ECS that refuses RunTask while it is told to, whatever the token."""

    said: News = None

    def _run_task(self, request: dict[str, object]) -> News:
        return self.said or super()._run_task(dict(request))


def killed_after_the_effect(world: World, *steps: str) -> None:
    world.kill_at = AFTER_THE_EFFECT
    with pytest.raises(Killed):
        world.play(a_sequence(*steps))
    assert world.record is not None
    assert (world.record.steps[0].state, len(world.tasks)) == (StepState.REQUESTING, 1)


@pytest.mark.parametrize("said", [NO_KEYS, NO_ROOM, THROTTLED])
def test_a_refusal_of_a_repetition_says_nothing_of_the_request_that_had_no_answer(said: Refused):
    world = Refusing()
    killed_after_the_effect(world, "a")
    world.said = said
    world.answers = []
    began = world.now

    def tick(action: Action, effect=world._effect) -> News:
        if world.now - began > timedelta(minutes=5):
            world.said = None
        return effect(action)

    world._effect = tick
    run = world.play(a_sequence("a"), resume=True)
    assert (states(run), world.effects()) == (["Succeeded"], {"a:1": 1})


def test_a_throttled_repetition_does_not_hide_the_task_from_a_person_who_ends_the_run():
    world = Refusing(seconds=1e5)
    killed_after_the_effect(world, "a")
    world.said = THROTTLED
    original = world._effect

    def tick(action: Action) -> News:
        news = original(action)
        world.said = None
        return news

    world._effect = tick
    run = world.play(a_sequence("a"), stop="SIGTERM")
    assert (run.state, [task.stop_code for task in world.tasks.values()]) == (RunState.STOPPED, ["UserInitiated"])


def test_what_is_not_answered_is_asked_at_growing_intervals_also_when_the_run_is_to_end_and_not_for_ever():
    world = World()
    world._effect = lambda action: Unknown("no connection")
    began = world.now
    run = world.play(a_sequence("a"), stop="")
    waited = world.now - began
    assert (states(run), run.steps[0].reason) == (["Failed"], "ResultLost")
    assert TOKEN_SURE_FOR + LOOK_FOR <= waited <= TOKEN_SURE_FOR + LOOK_FOR + timedelta(minutes=2)
    assert len(world.calls) < 160

    world = World(kill_at=2)
    with pytest.raises(Killed):
        world.play(a_sequence("a"))
    world._effect = lambda action: Unknown("no connection")
    assert world.play(a_sequence("a"), stop="SIGTERM").state is RunState.STOPPED
    assert len(world.calls) < 160


def test_tasks_that_are_not_found_long_after_the_request_are_not_asked_for_again():
    world = World(seconds=1e6, kill_at=AFTER_THE_EFFECT)
    sequence = a_sequence(a_step("a", parameters={"count": 3}))
    with pytest.raises(Killed):
        world.play(sequence)
    world.now += TOKEN_SURE_FOR + timedelta(minutes=1)
    original = world._effect

    def two_of_three(action: Action) -> News:
        return Found(tuple(world.tasks)[:2]) if isinstance(action, FindTasks) else original(action)

    world._effect = two_of_three
    run = world.play(sequence)
    assert (run.steps[0].reason, len(world.tasks)) == ("ResultLost", 3)
    assert [type(call) for call in world.calls][:3] == [RunTask, FindTasks, StopTasks]


def test_the_end_of_a_task_is_remembered_while_others_of_its_step_run_on():
    world = World(seconds=7200)
    original = world._effect

    def first_is_short_and_forgotten(action: Action) -> News:
        if isinstance(action, RunTask):
            news = original(action)
            world.tasks["arn:task/0"].ends_at = world.now + timedelta(seconds=10)
            return news
        if isinstance(action, DescribeTasks) and world.now > world.tasks["arn:task/0"].ends_at + timedelta(hours=1):
            news = original(action)
            shown = tuple(task for task in news.tasks if task.arn != "arn:task/0")
            return Looked(shown, frozenset({"arn:task/0"} & {*action.arns}))
        return original(action)

    world._effect = first_is_short_and_forgotten
    run = world.play(a_sequence(a_step("a", parameters={"count": 2})), poll=timedelta(seconds=60))
    assert (states(run), len(run.steps[0].containers)) == (["Succeeded"], 2)


def test_tasks_that_never_start_for_want_of_room_are_asked_for_with_growing_pauses_and_for_an_hour():
    world = World()
    no_room = "Capacity is unavailable at this time"

    def describe(arns: tuple[str, ...]) -> Looked:
        return Looked(tuple(Task(arn, "STOPPED", "STOPPED", "TaskFailedToStart", no_room) for arn in arns))

    world._describe = describe
    began = world.now
    run = world.play(a_sequence("a"))
    assert (states(run), run.steps[0].reason) == (["Failed"], "CapacityUnavailable")
    assert CAPACITY_FOR <= world.now - began <= CAPACITY_FOR + timedelta(minutes=3)
    assert len(world.tasks) < 80


# ---- taking up again ------------------------------------------------------------------------------------------------


def test_a_step_that_was_being_stopped_is_stopped_to_the_end_and_then_runs_anew():
    world = World(seconds=600, kill_at=8)
    sequence = a_sequence("a", "b")
    with pytest.raises(Killed):
        world.play(sequence)
    world.kill_at = world.point + 1  # as soon as the record says that it is being stopped
    with pytest.raises(Killed):
        world.play(sequence, stop="SIGTERM")
    assert world.record is not None
    assert world.record.steps[0].state is StepState.STOPPING
    world.now += timedelta(hours=1)
    for task in world.tasks.values():
        task.ends_at = world.now + timedelta(hours=1)
    run = world.play(sequence, resume=True)
    assert (run.state, states(run), world.effects()) == (RunState.SUCCEEDED, ["Succeeded"] * 2, {"a:1": 2, "b:1": 1})
    first, *_ = world.tasks.values()
    assert first.stop_code == "UserInitiated"


def test_a_part_leaves_out_nothing_that_is_under_way():
    world = World(seconds=600, kill_at=8)
    sequence = a_sequence("a", "b")
    with pytest.raises(Killed):
        world.play(sequence)
    assert world.record is not None
    world.record = part(resumed(sequence, world.record, world.now), 1, 1, world.now)
    assert states(world.play(sequence)) == ["Succeeded", "Succeeded"]


def test_a_run_whose_driver_died_goes_on_where_it_stood_and_what_failed_runs_anew_after_its_end():
    sequence, killed = a_sequence("a", "b", a_step("clean", always=True)), 0
    for kill_at in range(40):
        world = World(codes={"a:1": [1]}, kill_at=kill_at)
        try:
            world.play(sequence)
        except Killed:
            if world.record is not None and world.record.state.over:
                continue
            run = world.play(sequence, resume=True)
            killed += 1
            assert (states(run), world.effects()) == (["Failed", "Skipped", "Succeeded"], {"a:1": 1, "clean:1": 1})
            run = world.play(sequence, resume=True)
            assert (states(run), world.effects()) == (["Succeeded"] * 3, {"a:1": 2, "b:1": 1, "clean:1": 1})
    assert killed > 20


def test_a_step_whose_failure_is_ignored_is_not_run_again_because_the_driver_died_later():
    sequence, killed = a_sequence(a_step("a", ignore_failure=True), "b"), 0
    for kill_at in range(40):
        world = World(codes={"a:1": [1]}, kill_at=kill_at)
        try:
            world.play(sequence)
        except Killed:
            killed += 1
            assert states(world.play(sequence, resume=True)) == ["Failed", "Succeeded"]
            assert world.effects() == {"a:1": 1, "b:1": 1}
    assert killed > 20


def test_a_failure_that_was_ignored_is_not_made_up_for_later():
    world = World(codes={"a:1": [1], "b:1": [1]})
    sequence = a_sequence(a_step("a", ignore_failure=True), "b")
    assert world.play(sequence).state is RunState.FAILED
    assert states(world.play(sequence, resume=True)) == ["Failed", "Succeeded"]


def test_a_run_whose_last_step_succeeded_in_the_very_end_has_not_failed():
    world = World(seconds=9)  # the look of 9.95 s is answered 50 ms after the limit
    run = world.play(a_sequence("a", timeout_seconds=10), poll=timedelta(seconds=9.85))
    assert (world.now - run.started_at > timedelta(seconds=10), run.state) == (True, RunState.SUCCEEDED)


def test_a_placed_answer_ends_all_doubt():
    world = World(answers=[Unknown("no answer"), None])
    run = world.play(a_sequence("a"))
    assert (run.steps[0].asked, run.steps[0].doubt) == (False, False)

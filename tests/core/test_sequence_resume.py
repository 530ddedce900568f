"""A run that is taken up again: after a failure, after a stop, after a crash at any point."""

from __future__ import annotations

import pytest

from spotjob.core.sequence.resume import part
from spotjob.core.sequence.runs import RunState, new_run
from spotjob.core.sequence.steps import Sequence
from tests.sequence_world import Killed, World, a_sequence, a_step, states


def test_a_resumed_run_begins_at_the_step_that_failed():
    world = World(codes={"b:1": [1]})
    sequence = a_sequence("a", "b", "c")
    assert world.play(sequence).state is RunState.FAILED
    run = world.play(sequence, resume=True)
    assert (run.state, world.effects()) == (RunState.SUCCEEDED, {"a:1": 1, "b:1": 2, "c:1": 1})


def test_a_run_of_a_part_leaves_the_others_out():
    world, sequence = World(), a_sequence("a", "b", "c")
    world.record = part(new_run(sequence, "run-1", "", world.now), 1, 1, world.now)
    assert states(world.play(sequence)) == ["Skipped", "Succeeded", "Skipped"]


def points() -> int:
    world = World()
    world.play(five())
    return world.point


def five() -> Sequence:
    return a_sequence("a", a_step("b", parameters={"count": 3}), "c", a_step("d", always=True), "e")


@pytest.mark.parametrize("kill_at", range(points()))
def test_killed_at_any_point_every_step_runs_exactly_once(kill_at: int):
    world = World(kill_at=kill_at)
    with pytest.raises(Killed):
        world.play(five())
    run = world.play(five(), resume=True)
    assert (run.state, states(run)) == (RunState.SUCCEEDED, ["Succeeded"] * 5)
    assert world.effects() == {"a:1": 1, "b:1": 3, "c:1": 1, "d:1": 1, "e:1": 1}

"""The loop on virtual time: each step runs exactly once wherever the driver dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from spotjob.core.sequence.ports import RecordChanged, RecordUnreachable
from spotjob.core.sequence.runs import RunState, StepState
from tests.sequencer.outside import Killed, LoopClock, World, a_sequence, a_step

pytestmark = pytest.mark.looptime
FIVE = a_sequence("one", "two", "three", "four", "five")
ONCE = {f"{name}:1": 1 for name in ("one", "two", "three", "four", "five")}


async def points_of_a_whole_run() -> int:
    world = World()
    assert (await world.drive(FIVE)).state is RunState.SUCCEEDED
    assert world.launched == ONCE
    return world.points


async def test_s1_each_step_runs_exactly_once_wherever_the_driver_is_killed_and_resumed() -> None:
    for point in range(1, await points_of_a_whole_run() + 1):
        world = World(die_at=point)
        with pytest.raises(Killed):
            await world.drive(FIVE)
        run = await world.drive(FIVE)
        assert (run.state, world.launched) == (RunState.SUCCEEDED, ONCE), f"killed at point {point}"


async def test_s1_each_step_runs_exactly_once_when_two_lives_end_early() -> None:
    points = await points_of_a_whole_run()
    for first in range(1, points + 1, 9):
        for second in range(first + 2, points + 1, 17):
            world = World(die_at=first)
            with pytest.raises(Killed):
                await world.drive(FIVE)
            world.die_at = second
            with pytest.raises(Killed):
                await world.drive(FIVE)
            await world.drive(FIVE)
            assert world.launched == ONCE, f"killed at points {first} and {second}"


async def test_a_run_without_change_writes_its_record_a_bounded_number_of_times() -> None:
    world = World(task_seconds=3600)
    await world.drive(a_sequence("one"))
    assert world.record is not None
    assert world.record[1] <= 6


async def test_a_record_that_somebody_else_wrote_ends_the_loop_and_nothing_more_is_done() -> None:
    world = World()
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(8)
    assert world.record is not None
    world.record = (world.record[0], world.record[1] + 1)
    requests = len(world.requests)
    with pytest.raises(RecordChanged):
        await driving
    assert len(world.requests) == requests


async def test_nothing_is_done_until_a_record_that_cannot_be_written_is() -> None:
    world = World()
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(8)
    world.unreachable_until = 308.0
    await asyncio.sleep(299)
    assert world.launched == {"one:1": 1}
    assert (await driving).state is RunState.SUCCEEDED
    assert world.launched == ONCE


async def test_after_ten_minutes_without_a_record_the_loop_gives_up() -> None:
    world = World()
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(8)
    world.unreachable_until = 5000
    with pytest.raises(RecordUnreachable):
        await driving
    assert 600 <= asyncio.get_running_loop().time() <= 700
    assert world.launched == {"one:1": 1}


async def test_s3_the_word_to_stop_stops_the_running_task_and_no_further_step_begins() -> None:
    world = World(task_seconds=600)
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(21)
    world.stop = "SIGTERM"
    run = await driving
    assert run.state is RunState.STOPPED
    assert [step.state for step in run.steps] == [StepState.STOPPED, *[StepState.SKIPPED] * 4]
    assert world.stopped == list(world.ends)


async def test_the_word_to_stop_is_heard_within_a_second_also_during_a_long_wait() -> None:
    world = World(task_seconds=600)
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(21.5)
    world.stop = "SIGTERM"
    await asyncio.sleep(1.2)
    assert world.stopped
    await driving


async def test_a_clock_that_is_set_back_makes_no_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(task_seconds=30)
    driving = asyncio.create_task(world.drive(FIVE))
    await asyncio.sleep(7)
    usual = LoopClock.now
    monkeypatch.setattr(LoopClock, "now", lambda clock: usual(clock) - timedelta(hours=1))
    async with asyncio.timeout(300):
        assert (await driving).state is RunState.SUCCEEDED


async def test_a_result_that_is_used_stands_in_the_record_before_the_next_step_begins() -> None:
    use = a_step("two", parameters={"overrides": {"container_overrides": [{"name": "${steps.one.result.rows}"}]}})
    sequence = a_sequence("one", use)
    world = World(logs={"one:1": ["starting", '{"rows": "42"}', "bye"]})
    run = await world.drive(sequence, frozenset({0}))
    assert run.steps[0].result == {"rows": "42"}
    assert world.requests[1]["overrides"]["container_overrides"][0]["name"] == "42"


async def test_a_result_survives_wherever_the_driver_is_killed() -> None:
    use = a_step("two", parameters={"group": "${steps.one.result.rows}"})
    sequence, used = a_sequence("one", use), frozenset({0})
    whole = World(logs={"one:1": ['{"rows": "42"}']})
    await whole.drive(sequence, used)
    for point in range(1, whole.points + 1):
        world = World(logs=whole.logs, die_at=point)
        with pytest.raises(Killed):
            await world.drive(sequence, used)
        run = await world.drive(sequence, used)
        assert (run.state, world.requests[-1]["group"]) == (RunState.SUCCEEDED, "42"), f"killed at point {point}"


async def test_s6_a_failed_step_says_what_its_container_logged_last() -> None:
    world = World(codes={"one:1": 3}, logs={"one:1": ["opening", "no such table"]})
    run = await world.drive(FIVE)
    assert run.state is RunState.FAILED
    assert run.steps[0].message.endswith("last lines of main:\nopening\nno such table")


async def test_200_steps_finish_with_one_look_per_interval() -> None:
    world = World(task_seconds=61)
    run = await world.drive(a_sequence(*(f"step-{place}" for place in range(200))))
    assert run.state is RunState.SUCCEEDED
    assert set(world.launched.values()) == {1}
    minutes = Counter(int(moment // 60) for moment in world.looks)
    assert all(10 <= looks <= 14 for looks in [*minutes.values()][:-1])


async def test_ten_steps_with_ten_tasks_each_are_looked_at_with_one_call() -> None:
    steps = (a_step(f"step-{place}", parameters={"count": 10}) for place in range(10))
    world = World(task_seconds=61)
    run = await world.drive(a_sequence(*steps))
    assert run.state is RunState.SUCCEEDED
    assert set(world.launched.values()) == {10}
    minutes = Counter(int(moment // 60) for moment in world.looks)
    assert all(10 <= looks <= 14 for looks in [*minutes.values()][:-1])

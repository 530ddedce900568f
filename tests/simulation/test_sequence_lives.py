"""Random lives of a run: lost answers, throttles, shortages, exit codes, a driver that is killed again and again."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from spotjob.core.sequence.ports import Action, Failure, Launched, News, Refusal, Refused, RunTask, Unknown
from spotjob.core.sequence.runs import Run, RunState, StepState
from spotjob.core.sequence.steps import Sequence, Step, When
from tests.sequence_world import Killed, World

HISTORIES = 150
MOST_LIVES = 30


class Faulty(World):
    """An ECS that loses answers, throttles, and has no room now and then."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        self.chance = chance

    def _may_die(self) -> None:
        if self.chance.random() < 0.03:
            raise Killed

    def _effect(self, action: Action) -> News:
        news = super()._effect(action)
        return Unknown("the answer is lost") if self.chance.random() < 0.15 else news

    def _run_task(self, request: dict[str, Any]) -> News:
        dice = self.chance.random()
        if dice < 0.1:
            return Refused(Refusal.THROTTLED, "ThrottlingException", "Rate exceeded")
        new = request["client_token"] not in self.tokens
        if new and dice < 0.3:
            placed = self.chance.randrange(request["count"])
            self.tokens[request["client_token"]] = arns = tuple(self.launch(request) for _ in range(placed))
            return Launched(arns, (Failure("RESOURCE:MEMORY"),) * (request["count"] - placed))
        return super()._run_task(request)

    def launch(self, request: dict[str, Any]) -> str:
        arn = super().launch(request)
        task, dice = self.tasks[arn], self.chance.random()
        if dice < 0.2:
            task.code = 1
        elif dice < 0.3:
            task.code, task.stop_code, task.stopped_reason = 143, "SpotInterruption", "Your Spot Task was interrupted."
        return arn


def a_sequence(chance: Random) -> Sequence:
    return Sequence(steps=tuple(a_step(chance, f"step-{n}") for n in range(chance.randint(1, 6))))


def a_step(chance: Random, name: str) -> Step:
    return Step(
        name=name,
        type="ecs_task",
        parameters={"task_definition": name, "count": chance.choice((1, 1, 2, 5))},
        retries=chance.choice((0, 0, 1, 3)),
        timeout_seconds=chance.choice((None, None, 40, 400)),
        ignore_failure=chance.random() < 0.3,
        always=chance.random() < 0.2,
        when=When.FAILURE if chance.random() < 0.1 else When.SUCCESS,
    )


def lived(seed: int) -> tuple[Sequence, Faulty, Run]:
    """A history: the sequence, its world, and the run when nobody had to take it up any more."""
    chance = Random(seed)
    sequence, world = a_sequence(chance), Faulty(chance)
    for _ in range(MOST_LIVES):
        try:
            return sequence, world, world.play(sequence)
        except Killed:
            continue
    world._may_die = lambda: None
    return sequence, world, world.play(sequence)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_no_try_of_a_step_launches_more_than_its_tasks(seed: int):
    sequence, world, run = lived(seed)
    assert run.state is not RunState.RUNNING
    launched = Counter(task.request["started_by"] for task in world.tasks.values())
    count = {f"sequencer/run-1/{place + 1}": step.count for place, step in enumerate(sequence.steps)}
    assert {by: n for by, n in launched.items() if n > count[by.rpartition("/")[0]]} == {}
    for place, (step, at) in enumerate(zip(sequence.steps, run.steps, strict=True)):
        tries = {by for by in launched if by.startswith(f"sequencer/run-1/{place + 1}/")}
        assert len(tries) <= 1 + step.retries + at.interruptions
        assert at.tries <= 1 + step.retries + at.interruptions
        if at.state is StepState.SUCCEEDED:
            assert [world.tasks[arn].code for arn in at.tasks] == [0] * step.count


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_whatever_happens_nothing_runs_when_the_run_is_over_and_steps_keep_their_order(seed: int):
    _, world, _ = lived(seed)
    assert [task.arn for task in world.tasks.values() if task.ends_at > world.now] == []
    began = [int(call.request["task_definition"][5:]) for call in world.calls if isinstance(call, RunTask)]
    assert began == sorted(began)

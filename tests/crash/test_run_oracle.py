"""The judge of runs finds what is planted, and nothing in a run that went well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from spotjob.core.sequence.runs import Run, RunState, StepRun, StepState
from tests.crash.oracle import Fault
from tests.crash.run_oracle import Effect, Evidence, Task, effects_of, judge
from tests.crash.runs import BAD, GOOD, Expected

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
EXPECTED = Expected((("load", 2), ("check", 1), ("check", 1)), {"load": GOOD, "check": GOOD})


def an_effect(step: str, *codes: int | None) -> Effect:
    return Effect(step, tuple(Task(f"{step}/{n}", True, code) for n, code in enumerate(codes)))


def a_run(state: RunState = RunState.SUCCEEDED, load: StepState = GOOD) -> Run:
    return Run(
        id="r", state=state, started_at=NOW, steps=(StepRun(name="load", state=load), StepRun(name="check", state=GOOD))
    )


WELL = Evidence((an_effect("load", 0, 0), an_effect("check", 3), an_effect("check", 0)), a_run())


def faults(seen: Evidence) -> set[Fault]:
    return {finding.fault for finding in judge(seen, EXPECTED)}


def with_effects(*effects: Effect) -> Evidence:
    return replace(WELL, effects=effects)


def test_a_run_that_went_well_has_no_faults():
    assert faults(WELL) == set()


def test_a_task_that_lives_after_the_end_is_a_leak():
    alive = Effect("check", (Task("check/0", False, None),))
    assert faults(with_effects(*WELL.effects[:2], alive)) == {Fault.LEAK}


def test_a_second_effect_is_a_double_run():
    assert Fault.DOUBLE_RUN in faults(with_effects(an_effect("load", 0, 1), *WELL.effects))


def test_an_effect_with_more_tasks_than_the_step_has_is_a_double_run():
    assert Fault.DOUBLE_RUN in faults(with_effects(an_effect("load", 0, 0, 0), *WELL.effects[1:]))


def test_an_effect_of_no_step_is_a_double_run():
    assert Fault.DOUBLE_RUN in faults(with_effects(*WELL.effects, an_effect("other", 1)))


def test_a_good_step_that_is_run_again_is_a_lost_result():
    assert Fault.LOST_RESULT in faults(with_effects(WELL.effects[0], an_effect("check", 0), an_effect("check", 0)))


def test_a_good_step_that_the_record_calls_failed_is_a_lost_result():
    assert Fault.LOST_RESULT in faults(replace(WELL, run=a_run(load=BAD)))


@pytest.mark.parametrize(
    "seen",
    [
        with_effects(*WELL.effects[1:]),
        with_effects(*WELL.effects[1:], WELL.effects[0]),
        replace(WELL, run=None),
        replace(WELL, run=a_run(RunState.RUNNING)),
        replace(WELL, collapsed=("ended with 2",)),
    ],
    ids=["a step that never ran", "another order", "no record", "a run that is not over", "a process that collapsed"],
)
def test_any_other_end_than_the_expected_one_is_wrong(seen: Evidence):
    assert Fault.WRONG in faults(seen)


def test_the_tasks_of_one_call_are_one_effect():
    shown = {"arn": "a", "run": 1, "taskDefinition": "load:1", "lastStatus": "STOPPED", "exitCodes": {"main": 0}}
    later = {**shown, "arn": "c", "run": 2, "lastStatus": "RUNNING", "exitCodes": {}}
    assert effects_of([shown, {**shown, "arn": "b"}, later]) == [
        Effect("load", (Task("a", True, 0), Task("b", True, 0))),
        Effect("load", (Task("c", False, None),)),
    ]

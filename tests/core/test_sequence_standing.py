"""What people see of a JobSequence: phase, progress, conditions, and a status that stays small."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.core.sequence import standing
from spotjob.core.sequence.resources import JobSequence, SequencePhase
from spotjob.core.sequence.runs import ContainerEnd, Run, RunState, StepRun, StepState, new_run
from tests.builders import NOW, SECOND, merged

STEPS = [{"name": name, "type": "ecs_task"} for name in ("one", "two", "three")]
ALARM = {"name": "alarm", "type": "ecs_task"}


def held(**spec: Any) -> JobSequence:
    metadata = {"name": "nightly", "namespace": "batch", "uid": "uid", "generation": 1}
    return JobSequence.model_validate({"metadata": metadata, "spec": {"steps": STEPS, **spec}})


def a_run(*states: str, of: JobSequence | None = None, **changes: Any) -> Run:
    run = new_run((of or held()).spec.sequence(), "uid", "", NOW)
    steps = [
        step.model_copy(update={"state": StepState(state)}) for step, state in zip(run.steps, states, strict=False)
    ]
    return run.model_copy(update={"steps": (*steps, *run.steps[len(steps) :]), **changes})


def status(run: Run, of: JobSequence | None = None):
    sequence = of or held()
    return standing.of_run(sequence, sequence.spec.sequence(), run, NOW)


PROGRESS: dict[str, tuple[tuple[str, ...], dict[str, Any], bool, str]] = {
    "nothing ended": (("Running",), {}, False, "0/3"),
    "one ended": (("Succeeded", "Running"), {}, False, "1/3"),
    "a failure that ended it": (("Succeeded", "Failed", "Skipped"), {}, True, "2/3"),
    "a step that is not active": (("Succeeded", "Skipped", "Succeeded"), {"active": False}, False, "2/2"),
}


@pytest.mark.parametrize(("states", "second", "failed", "expected"), PROGRESS.values(), ids=list(PROGRESS))
def test_progress_counts_the_steps_that_have_ended_of_those_that_will_run(
    states: tuple[str, ...], second: dict[str, Any], failed: bool, expected: str
):
    sequence = held(steps=[STEPS[0], {**STEPS[1], **second}, STEPS[2]])
    assert status(a_run(*states, of=sequence, failed=failed), sequence).progress == expected


def test_steps_on_failure_count_only_after_a_failure():
    sequence = held(onFailure=[ALARM])
    assert status(a_run("Succeeded", of=sequence), sequence).progress == "1/3"
    assert status(a_run("Failed", "Skipped", "Skipped", of=sequence, failed=True), sequence).progress == "1/4"


@pytest.mark.parametrize(
    ("state", "phase", "condition"),
    [
        (RunState.SUCCEEDED, SequencePhase.SUCCEEDED, "Complete"),
        (RunState.FAILED, SequencePhase.FAILED, "Failed"),
        (RunState.STOPPED, SequencePhase.STOPPED, "Failed"),
    ],
)
def test_the_end_of_a_run_is_a_phase_and_a_condition(state: RunState, phase: SequencePhase, condition: str):
    shown = status(a_run("Succeeded", "Succeeded", "Succeeded", state=state, ended_at=NOW))
    assert (shown.phase, [(c.type, c.status) for c in shown.conditions]) == (phase, [(condition, "True")])
    assert shown.completion_time == NOW


def test_a_run_whose_time_was_over_says_so_in_its_condition():
    stopped = a_run("Succeeded", "Skipped", "Skipped", state=RunState.FAILED, failed=True, message="time is over")
    (condition,) = status(stopped).conditions
    assert (condition.reason, condition.message) == ("DeadlineExceeded", "time is over")


def test_a_condition_keeps_its_time_as_long_as_it_holds():
    suspended = held(suspend=True)
    first = status(a_run("Succeeded", of=suspended), suspended)
    later = suspended.model_copy(update={"status": first})
    again = standing.of_run(later, later.spec.sequence(), a_run("Succeeded", of=later), NOW + 60 * SECOND)
    assert [c.last_transition_time for c in again.conditions] == [NOW]
    resumed = later.model_copy(update={"spec": held().spec})
    gone_on = standing.of_run(resumed, resumed.spec.sequence(), a_run("Succeeded"), NOW + 60 * SECOND)
    assert [(c.status, c.last_transition_time) for c in gone_on.conditions] == [("False", NOW + 60 * SECOND)]


# ---- what is written ----


def test_a_patch_turns_the_one_status_into_the_other_and_takes_away_what_is_gone():
    before = status(a_run("Requesting"))
    at = StepRun(name="one", state=StepState.RUNNING, tasks=("arn:1",), result={"a": None})
    after = status(a_run().with_step(0, at).model_copy(update={"stopping": True, "message": "x"}))
    wire = merged(merged({}, standing.status_patch(held().status, before)), standing.status_patch(before, after))
    assert JobSequence.model_validate({"metadata": {}, "spec": {"steps": STEPS}, "status": wire}).status == after
    back = merged(wire, standing.status_patch(after, before))
    assert back == merged({}, standing.status_patch(held().status, before))


def test_nothing_is_written_when_nothing_changed_but_the_time_of_the_next_look():
    run = a_run("Running")
    looked = run.with_step(0, run.steps[0].model_copy(update={"next_at": NOW + SECOND}))
    assert standing.status_patch(status(run), status(looked)) == {}


def test_a_step_whose_turn_has_not_come_is_a_name_and_a_state():
    patch = standing.status_patch(held().status, status(a_run("Running")))
    assert patch["run"]["steps"][2] == {"name": "three", "state": "Pending"}


def test_of_an_ended_step_only_the_worst_containers_and_a_short_result_are_kept():
    containers = tuple(ContainerEnd(name=f"c{n}", exit_code=int(n == 9)) for n in range(10))
    ended = StepRun(name="one", state=StepState.SUCCEEDED, containers=containers, result={"a": "x" * 2000})
    kept = standing.kept(a_run().with_step(0, ended)).steps[0]
    assert [container.name for container in kept.containers] == ["c9", "c0", "c1"]
    assert kept.result is None
    assert "left out" in kept.message
    assert standing.kept(standing.kept(a_run().with_step(0, ended))).steps[0] == kept


def test_the_only_container_and_a_short_result_stay_as_they_are():
    ended = StepRun(
        name="one", state=StepState.FAILED, containers=(ContainerEnd(name="c", exit_code=3),), result={"a": 1}
    )
    run = a_run().with_step(0, ended)
    assert standing.kept(run) == run


# ---- events ----


def test_each_change_of_a_step_that_matters_is_told_once():
    begun, again = a_run("Requesting"), a_run("Waiting")
    assert [h.reason for h in standing.happenings(a_run(), begun)] == ["StepStarted"]
    assert standing.happenings(begun, begun) == []
    assert standing.happenings(again, begun) == []  # another try
    over = a_run("Failed", "Skipped", "Skipped", state=RunState.FAILED, failed=True, message="one failed")
    told = standing.happenings(begun, over)
    assert [(h.reason, h.warning) for h in told] == [("StepFailed", True), ("Failed", True)]
    assert told[0].message.startswith("step 1/3 one: ")

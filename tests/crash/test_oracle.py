"""The judge finds what is planted, and nothing in a life that went well."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from spotjob.core.mirror import content
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import Attempt, SpotJob, SpotJobStatus
from tests.builders import a_job
from tests.crash.oracle import Evidence, Expected, Fault, judge
from tests.crash.witness import Run

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ONE_RUN = Expected()
TWO_RUNS = Expected(runs=(1, 2))


def an_attempt(number: int = 1, outcome: Outcome = Outcome.SUCCEEDED) -> Attempt:
    return Attempt(number=number, instance_id=f"i-{number}", bound_at=NOW, claimed_at=NOW, outcome=outcome)


def an_end(
    *attempts: Attempt,
    phase: Phase = Phase.TERMINATED_OK,
    reason: Reason = Reason.CONTAINER_SUCCEEDED,
    guarded: bool = False,
) -> SpotJob:
    tried = attempts or (an_attempt(),)
    status = SpotJobStatus(phase=phase, reason=reason, attempts=tried, attempt=len(tried), completion_time=NOW)
    return a_job(guarded).model_copy(update={"status": status})


def a_run(attempt: int = 1, begun: float = 10, ended: float | None = 20, exit_code: int | None = 0) -> Run:
    return Run("job", attempt, begun, ended, exit_code)


def a_life(*history: SpotJob, runs: tuple[Run, ...] | None = None, **fields: Any) -> Evidence:
    """One that went well, but for what is named."""
    seen = history or (an_end(),)
    happened = (a_run(),) if runs is None else runs
    made = Evidence(history=seen, ended=True, gone=False, runs=happened, item=content(seen[-1]))
    return replace(made, **fields)


def faults(seen: Evidence, expected: Expected = ONE_RUN) -> set[Fault]:
    return {finding.fault for finding in judge(seen, expected)}


def an_interrupted_life(*runs: Run) -> Evidence:
    return a_life(an_end(an_attempt(1, Outcome.INTERRUPTED), an_attempt(2)), runs=runs)


def test_a_life_that_went_well_has_no_faults():
    assert faults(a_life()) == set()


def test_a_second_attempt_after_an_interruption_is_no_fault():
    seen = an_interrupted_life(a_run(1, exit_code=None), a_run(2, begun=30, ended=40))
    assert faults(seen, TWO_RUNS) == set()


def test_an_instance_that_lives_after_the_end_is_a_leak():
    assert faults(a_life(alive=frozenset({"i-1"}))) == {Fault.LEAK}


def test_a_container_that_lives_after_the_end_is_a_leak():
    assert faults(a_life(runs=(a_run(ended=None),))) == {Fault.LEAK}


def test_two_attempts_that_overlap_are_a_double_run():
    seen = an_interrupted_life(a_run(1, ended=20, exit_code=None), a_run(2, begun=19, ended=30))
    assert faults(seen, TWO_RUNS) == {Fault.DOUBLE_RUN}


def test_a_second_attempt_while_the_first_never_ended_is_a_double_run():
    seen = an_interrupted_life(a_run(1, ended=None, exit_code=None), a_run(2, begun=30, ended=40))
    assert Fault.DOUBLE_RUN in faults(seen, TWO_RUNS)


def test_one_attempt_that_runs_twice_is_a_double_run_even_one_after_the_other():
    again = a_life(runs=(a_run(exit_code=3), a_run(begun=30, ended=40)))
    assert Fault.DOUBLE_RUN in faults(again)


def test_a_run_that_no_attempt_explains_is_a_double_run():
    stray = a_life(runs=(a_run(exit_code=None), a_run(2, begun=30, ended=40)))
    assert Fault.DOUBLE_RUN in faults(stray)


def test_a_success_that_is_not_the_verdict_is_a_lost_result():
    lost = an_end(an_attempt(outcome=Outcome.HOST_LOST), phase=Phase.TERMINATED_NOK, reason=Reason.RESULT_LOST)
    assert Fault.LOST_RESULT in faults(a_life(lost))


def test_a_success_that_is_run_again_is_a_lost_result():
    seen = an_interrupted_life(a_run(1, exit_code=0), a_run(2, begun=30, ended=40))
    assert faults(seen, TWO_RUNS) == {Fault.LOST_RESULT}


@pytest.mark.parametrize(
    "seen",
    [
        a_life(ended=False),
        a_life(an_end(phase=Phase.TERMINATED_NOK, reason=Reason.CANCELLED), runs=(a_run(exit_code=None),)),
        a_life(an_end(phase=Phase.FINISHED_NOK, reason=Reason.RESULT_LOST), an_end()),
        a_life(runs=()),
        a_life(gone=True),
        a_life(an_end(guarded=True)),
        a_life(item={}),
        a_life(item=content(an_end()) | {"jobStatus": "Running"}),
        a_life(collapsed=("the operator ended by itself",)),
        Evidence(history=(), ended=False, gone=False, runs=()),
    ],
    ids=[
        "no verdict in time",
        "another verdict",
        "a verdict that changed",
        "a container that never ran",
        "an object that vanished",
        "a finalizer that is left",
        "no item in the table",
        "an old item in the table",
        "an operator that ended by itself",
        "a job that nobody saw",
    ],
)
def test_any_other_end_than_the_expected_one_is_wrong(seen: Evidence):
    assert faults(seen) == {Fault.WRONG}

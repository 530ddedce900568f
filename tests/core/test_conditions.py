"""A change, applied to a status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.conditions import ATTEMPTS_KEPT, merge_patch, next_status
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import SpotJobStatus
from spotjob.core.states import (
    Advised,
    Bound,
    Claimed,
    Ended,
    Heard,
    Impaired,
    Noticed,
    Started,
    Terminated,
    Verdict,
    Waiting,
)
from tests.builders import NOW, SECOND, a_job, after, an_instance, booting, claimed, deleted, merged, running

SUCCESS = Ended(Outcome.SUCCEEDED, "The container exited with code 0", exit_code=0, log_tail="bye")


def conditions(job):
    return {c.type: c.status for c in job.status.conditions}


def test_an_undisturbed_job_walks_through_the_phases():
    job, seen = a_job(), []
    for change in (Bound(an_instance()), Claimed("x"), Started(NOW), SUCCESS, Terminated()):
        job = after(job, change)
        seen.append((job.status.phase, job.status.reason))
    assert seen == [
        (Phase.REQUESTED, Reason.BOOTING),
        (Phase.REQUESTED, Reason.PULLING_IMAGE),
        (Phase.RUNNING, Reason.CONTAINER_RUNNING),
        (Phase.FINISHED_OK, Reason.CONTAINER_SUCCEEDED),
        (Phase.TERMINATED_OK, Reason.CONTAINER_SUCCEEDED),
    ]
    assert conditions(job) == {"SuccessCriteriaMet": "True", "Complete": "True"}
    assert (job.status.exit_code, job.status.attempts[0].log_tail) == (0, "bye")


def test_complete_is_true_only_when_no_instance_remains():
    assert "Complete" not in conditions(after(running(), SUCCESS))


@pytest.mark.parametrize(
    "late",
    [
        Ended(Outcome.CONTAINER_FAILED, "exit 1", exit_code=1),
        Verdict(Reason.CANCELLED, "deleted"),
        Bound(an_instance("i-2")),
        Started(NOW),
        Noticed(NOW),
        Waiting(Reason.SUSPENDED, "suspended"),
    ],
    ids=lambda change: type(change).__name__,
)
def test_a_verdict_never_changes(late):
    job = after(running(), SUCCESS)
    assert next_status(job, late, NOW + SECOND) == job.status


def test_a_verdict_closes_the_running_attempt():
    job = after(running(), Verdict(Reason.DEADLINE_EXCEEDED, "too late"))
    assert (job.status.attempts[0].outcome, job.status.attempts[0].ended_at) == (Outcome.CANCELLED, NOW)
    assert job.status.completion_time == NOW


def test_a_failed_job_is_failed_in_its_conditions():
    job = after(running(), Ended(Outcome.CONTAINER_FAILED, "exit 7", exit_code=7), Terminated())
    assert conditions(job) == {"FailureTarget": "True", "Failed": "True"}
    assert (job.status.phase, job.status.exit_code) == (Phase.TERMINATED_NOK, 7)


def test_each_end_draws_on_its_own_budget():
    job = running(backoffLimit=5)
    for outcome in (Outcome.CONTAINER_FAILED, Outcome.INTERRUPTED, Outcome.HOST_LOST, Outcome.INTERRUPTED):
        job = after(job, Ended(outcome, "over"), Bound(an_instance("i-n")))
    assert job.status.counts.wire() == {"failures": 1, "interruptions": 2, "launchErrors": 1}


def test_only_the_last_attempts_are_kept_and_only_the_newest_keeps_its_log():
    job = running(backoffLimit=50)
    for n in range(15):
        job = after(job, Ended(Outcome.INTERRUPTED, "over", log_tail="text"), Bound(an_instance(f"i-{n}")))
    job = after(job, Ended(Outcome.INTERRUPTED, "over", log_tail="last"))
    numbers = [a.number for a in job.status.attempts]
    assert numbers == list(range(7, 17))
    assert len(numbers) == ATTEMPTS_KEPT
    assert [a.log_tail for a in job.status.attempts] == [None] * 9 + ["last"]


def test_a_throttled_call_does_not_begin_the_wait_for_capacity_anew():
    short = after(a_job(), Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW))
    throttled = after(short, Waiting(Reason.THROTTLED, "slow down", NOW), at=NOW + 60 * SECOND)
    assert throttled.status.waiting_since == NOW


def test_a_wait_keeps_its_beginning_while_its_reason_lasts():
    first = after(a_job(), Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW))
    again = after(first, Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW), at=NOW + 60 * SECOND)
    other = after(again, Waiting(Reason.QUOTA_EXCEEDED, "none", NOW), at=NOW + 90 * SECOND)
    assert (again.status.waiting_since, other.status.waiting_since) == (NOW, NOW + 90 * SECOND)


def test_a_conditions_time_changes_only_with_its_status():
    first = after(a_job(), Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW))
    again = after(first, Waiting(Reason.QUOTA_EXCEEDED, "none", NOW), at=NOW + 60 * SECOND)
    assert again.status.conditions == first.status.conditions
    bound = after(again, Bound(an_instance()), at=NOW + 90 * SECOND)
    assert [(c.type, c.status, c.last_transition_time) for c in bound.status.conditions] == [
        ("CapacityAvailable", "True", NOW + 90 * SECOND)
    ]


def test_a_notice_while_running_is_shown_and_the_container_runs_on():
    job = after(running(), Noticed(NOW + 120 * SECOND))
    assert (job.status.phase, job.status.reason) == (Phase.RUNNING, Reason.INTERRUPTION_NOTICE)
    assert conditions(job) == {"Interrupted": "True"}


def test_a_new_attempt_is_not_interrupted_any_more():
    job = after(running(), Noticed(NOW), Ended(Outcome.INTERRUPTED, "over"), Bound(an_instance("i-2")))
    assert conditions(job) == {"Interrupted": "False"}
    assert (job.status.attempt, job.status.instance_id) == (2, "i-2")


def test_advice_and_failing_status_checks_are_conditions_of_the_running_attempt():
    job = after(running(), Advised(NOW), Impaired(NOW))
    assert conditions(job) == {"RebalanceRecommended": "True", "HostImpaired": "True"}
    assert conditions(after(job, Impaired(None)))["HostImpaired"] == "False"
    over = after(job, Ended(Outcome.INTERRUPTED, "over"))
    assert conditions(over) == {"RebalanceRecommended": "False", "HostImpaired": "False", "Interrupted": "True"}


def test_a_host_that_recovers_forgets_when_its_agent_was_heard():
    job = after(running(), Impaired(NOW), Heard(), Impaired(None))
    assert (job.current.impaired_at, job.current.heard_at) == (None, None)


def test_a_deleted_job_whose_attempt_ends_is_cancelled_in_one_write():
    job = after(deleted(running(backoffLimit=5)), Ended(Outcome.CONTAINER_FAILED, "The container exited with code 1"))
    assert (job.status.phase, job.status.reason) == (Phase.FINISHED_NOK, Reason.CANCELLED)


# ---- the patch ----------------------------------------------------------------------------------------------------


def test_no_change_is_an_empty_patch():
    job = claimed()
    assert merge_patch(job.status, job.status) == {}


def test_what_is_absent_now_is_removed_by_null():
    waiting = after(a_job(), Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW))
    bound = after(waiting, Bound(an_instance()))
    patch = merge_patch(waiting.status, bound.status)
    assert (patch["nextAttemptTime"], patch["waitingSince"]) == (None, None)


CHANGES = st.sampled_from(
    [
        Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW),
        Waiting(Reason.SUSPENDED, "suspended"),
        Bound(an_instance("i-2")),
        Verdict(Reason.CANCELLED, "deleted"),
        Terminated(),
    ]
)


@given(st.lists(CHANGES, max_size=6), CHANGES)
def test_the_patch_turns_the_old_status_into_the_new_one(history, change):
    job = after(booting(), *history)
    new = next_status(job, change, NOW + SECOND)
    patched = merged(job.status.wire(), merge_patch(job.status, new))
    assert SpotJobStatus.model_validate(patched) == new

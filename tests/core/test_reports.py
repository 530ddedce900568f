"""What the agent and the container say, judged."""

from __future__ import annotations

import pytest

from spotjob.core.budgets import LAUNCH_ERROR_LIMIT, delay
from spotjob.core.contract import Callback, Report
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.reports import callback_change, change_for
from spotjob.core.states import Advised, CalledBack, Drilled, Ended, Noticed, Started, Stopping, Terminated
from tests.builders import NOW, SECOND, a_finish, after, claimed, running

OK, NOK = CalledBack(ok=True), CalledBack(ok=False)
NOTICE = Noticed(NOW + 120 * SECOND)
STOPPING = Stopping(NOW + 60 * SECOND, "The job was suspended")


def outcome(job, report):
    return change_for(job, report, NOW).outcome


@pytest.mark.parametrize(
    ("said_before", "report", "expected"),
    [
        ([], a_finish(0), Outcome.SUCCEEDED),
        ([], a_finish(7), Outcome.CONTAINER_FAILED),
        ([], a_finish(143), Outcome.CONTAINER_FAILED),
        ([], a_finish(137, outOfMemory=True), Outcome.OUT_OF_MEMORY),
        ([], a_finish(None), Outcome.HOST_LOST),
        ([], a_finish(None, finishedAs="ImagePullFailed"), Outcome.IMAGE_PULL_FAILED),
        ([], a_finish(None, finishedAs="RegistryUnavailable"), Outcome.REGISTRY_UNAVAILABLE),
        ([], a_finish(127, finishedAs="StartFailed"), Outcome.START_FAILED),
        ([], a_finish(None, finishedAs="HostRebooted"), Outcome.HOST_REBOOTED),
        # the container's own word
        ([OK], a_finish(0), Outcome.SUCCEEDED),
        ([OK], a_finish(3), Outcome.CONTAINER_FAILED),
        ([OK], a_finish(None), Outcome.SUCCEEDED),
        ([OK], a_finish(None, finishedAs="HostRebooted"), Outcome.SUCCEEDED),
        ([NOK], a_finish(None, finishedAs="HostRebooted"), Outcome.HOST_REBOOTED),
        ([NOK], a_finish(None), Outcome.HOST_LOST),
        ([NOK], a_finish(0), Outcome.CONTAINER_FAILED),
        # a notice, and no signal yet
        ([NOTICE], a_finish(0), Outcome.SUCCEEDED),
        ([NOTICE], a_finish(7), Outcome.CONTAINER_FAILED),
        ([NOTICE], a_finish(143), Outcome.INTERRUPTED),
        # after our signal
        ([NOTICE], a_finish(0, signalled=True), Outcome.INTERRUPTED),
        ([NOTICE], a_finish(7, signalled=True), Outcome.INTERRUPTED),
        ([OK, NOTICE], a_finish(143, signalled=True), Outcome.SUCCEEDED),
        # nobody ordered it, so it was a notice whose own report was lost
        ([], a_finish(143, signalled=True), Outcome.INTERRUPTED),
        # the signal was an order
        ([STOPPING], a_finish(0, signalled=True), Outcome.CANCELLED),
        ([NOTICE, STOPPING], a_finish(143, signalled=True), Outcome.CANCELLED),
        ([STOPPING], a_finish(0), Outcome.SUCCEEDED),
        ([OK, STOPPING], a_finish(143, signalled=True), Outcome.SUCCEEDED),
        # a drill is a notice
        ([Drilled(NOW), NOTICE], a_finish(0, signalled=True), Outcome.INTERRUPTED),
        ([Drilled(NOW), NOTICE], a_finish(0), Outcome.SUCCEEDED),
    ],
)
def test_how_an_attempt_ended(said_before, report, expected):
    assert outcome(after(running(), *said_before), report) is expected


def test_exit_zero_after_the_signal_is_a_success_if_the_job_says_so():
    job = after(running(interruption={"exitZero": "Succeeded"}), NOTICE)
    assert outcome(job, a_finish(0, signalled=True)) is Outcome.SUCCEEDED
    assert outcome(job, a_finish(1, signalled=True)) is Outcome.INTERRUPTED


def test_exit_zero_after_the_signal_is_no_success_if_the_container_had_called_back_that_it_failed():
    job = after(running(interruption={"exitZero": "Succeeded"}), NOK, NOTICE)
    assert outcome(job, a_finish(0, signalled=True)) is Outcome.INTERRUPTED


def test_exit_zero_after_an_order_to_stop_is_no_success_whatever_an_interruption_would_be():
    job = after(running(interruption={"exitZero": "Succeeded"}), NOTICE, STOPPING)
    assert outcome(job, a_finish(0, signalled=True)) is Outcome.CANCELLED


def test_advice_to_leave_is_noted_once():
    advice = Report(kind="rebalance", at=NOW)
    assert change_for(running(), advice, NOW) == Advised(NOW)
    assert change_for(after(running(), Advised(NOW)), advice, NOW) is None


def test_a_repeated_or_late_report_changes_nothing():
    job = after(running(), change_for(running(), a_finish(0), NOW))
    assert change_for(job, a_finish(1), NOW) is None
    assert change_for(running(), Report(kind="started", at=NOW), NOW) is None
    assert callback_change(job, Callback(status="nok")) is None


def test_a_start_in_the_future_of_our_clock_is_taken_as_now():
    report = Report(kind="started", at=NOW + 60 * SECOND)
    assert change_for(claimed(), report, NOW) == Started(at=NOW)


def test_the_first_callback_counts():
    assert callback_change(running(), Callback(status="ok", message="done")) == CalledBack(ok=True, message="done")
    assert callback_change(after(running(), OK), Callback(status="nok")) is None


# ---- budgets ------------------------------------------------------------------------------------------------------


def failed(job, exit_code=7):
    return after(job, Ended(Outcome.CONTAINER_FAILED, f"exit {exit_code}", exit_code=exit_code))


def test_without_retries_the_first_failure_is_the_verdict():
    job = failed(running())
    assert (job.status.phase, job.status.reason) == (Phase.FINISHED_NOK, Reason.CONTAINER_FAILED)


def test_a_failure_within_the_limit_backs_off_with_a_time():
    job = failed(running(backoffLimit=1))
    assert (job.status.phase, job.status.reason) == (Phase.REQUESTED, Reason.BACKING_OFF)
    assert job.status.next_attempt_time > NOW


@pytest.mark.parametrize(
    ("retry_on", "exit_code", "retried"),
    [
        ({"exitCodes": [7]}, 7, True),
        ({"exitCodes": [7]}, 8, False),
        ({"never": [7]}, 7, False),
        ({"never": [7]}, 8, True),
        ({}, 1, True),
    ],
)
def test_retry_on_picks_exit_codes(retry_on, exit_code, retried):
    job = failed(running(backoffLimit=3, retryOn=retry_on), exit_code)
    assert (job.status.reason is Reason.BACKING_OFF) is retried


def test_an_interruption_is_not_a_failure():
    job = after(running(), Ended(Outcome.INTERRUPTED, "reclaimed"))
    assert (job.status.reason, job.status.counts.failures) == (Reason.INTERRUPTED, 0)


def test_interruptions_end_at_their_own_limit():
    job = after(running(interruptionLimit=0), Ended(Outcome.INTERRUPTED, "reclaimed"))
    assert job.status.reason is Reason.INTERRUPTION_LIMIT_EXCEEDED


def test_host_faults_are_retried_five_times():
    job = running()
    reasons = []
    for _ in range(LAUNCH_ERROR_LIMIT + 1):
        job = after(job, Ended(Outcome.HOST_LOST, "gone"))
        reasons.append(job.status.reason)
        job = (
            job
            if job.finished
            else running().model_copy(
                update={"status": running().status.model_copy(update={"counts": job.status.counts})}
            )
        )
    assert reasons == [Reason.BACKING_OFF] * LAUNCH_ERROR_LIMIT + [Reason.RESULT_LOST]


def test_an_image_that_does_not_exist_is_final_at_once():
    job = after(claimed(backoffLimit=9), Ended(Outcome.IMAGE_PULL_FAILED, "manifest unknown"), Terminated())
    assert (job.status.phase, job.status.reason) == (Phase.TERMINATED_NOK, Reason.IMAGE_PULL_FAILED)


def test_the_delay_doubles_has_a_cap_and_is_the_same_each_time():
    seconds = [delay("uid", n).total_seconds() for n in range(1, 12)]
    assert 7.5 <= seconds[0] <= 10
    assert 15 <= seconds[1] <= 20
    assert all(270 <= s <= 360 for s in seconds[6:])
    assert delay("uid", 3) == delay("uid", 3)
    assert delay("uid", 3) != delay("another", 3)

"""decide() while an attempt is not over: its instance dies, EC2 says something, somebody wants it stopped."""

from __future__ import annotations

from spotjob.core.decide import decide
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.signs import NO_SIGNS, Signs
from spotjob.core.states import (
    Advised,
    CalledBack,
    Claimed,
    Decision,
    Heard,
    Impaired,
    LastWords,
    Noticed,
    Started,
    Stopping,
)
from tests.builders import NOW, SECOND, a_finish, after, an_instance, booting, claimed, observed, running, suspended

MINUTE = 60 * SECOND
RECLAIM = NOW + 120 * SECOND
SILENT = LastWords(None)


def dead(**fields):
    return observed(an_instance(state="terminated", **fields))


def signs(**known):
    return observed(an_instance(), signs=Signs(**known))


# ---- the instance died without a report ---------------------------------------------------------------------------


def awaiting(job: SpotJob, seen_at=NOW) -> SpotJob:
    """The job once its instance was seen dead."""
    return after(job, decide(job, dead(), seen_at).change, at=seen_at)


def outcome_of(job, gone, now=NOW):
    """What the attempt comes to when the console shows no result."""
    gone = observed(*gone.instances, last_words=SILENT)
    return decide(awaiting(job, now), gone, now).change.outcome


def test_a_dead_instance_may_have_left_its_result_on_the_console():
    job = awaiting(running())
    assert (job.status.phase, job.status.reason) == (Phase.RUNNING, Reason.AWAITING_RESULT)
    assert decide(job, dead(), NOW) == Decision(ask_console=True, keep_offer=True, wake_at=NOW + 10 * MINUTE)


def test_a_deadline_that_passes_during_the_search_wakes_nobody_at_once_again():
    job = awaiting(running(activeDeadlineSeconds=60))
    assert decide(job, dead(), NOW + 59 * SECOND).wake_at == NOW + 60 * SECOND
    assert decide(job, dead(), NOW + 60 * SECOND).wake_at == NOW + 10 * MINUTE


def test_a_result_on_the_console_is_judged_as_if_it_had_been_reported():
    found = observed(an_instance(state="terminated"), last_words=LastWords(a_finish(0)))
    ended = after(awaiting(running()), decide(awaiting(running()), found, NOW).change)
    assert ended.status.reason is Reason.CONTAINER_SUCCEEDED


def test_an_exit_after_the_signal_is_an_interruption_also_on_the_console():
    job = awaiting(after(running(), Noticed(RECLAIM)))
    found = observed(an_instance(state="terminated"), last_words=LastWords(a_finish(0, signalled=True)))
    assert decide(job, found, NOW).change.outcome is Outcome.INTERRUPTED


def test_the_console_is_asked_for_ten_minutes_and_no_longer():
    job = awaiting(running())
    assert decide(job, dead(), NOW + 10 * MINUTE - SECOND).ask_console
    assert decide(job, dead(), NOW + 10 * MINUTE).change.outcome is Outcome.HOST_LOST


def test_the_ten_minutes_survive_a_new_leader():
    job = awaiting(running())
    assert job.status.waiting_since == NOW
    assert job.status.next_attempt_time == NOW + 10 * MINUTE


def test_nobody_looks_for_the_result_of_an_instance_that_never_claimed_the_job():
    assert decide(booting(), dead(), NOW).change.outcome is Outcome.STARTUP_TIMEOUT


def test_a_result_that_may_be_older_than_the_deadline_is_looked_for_first():
    job = running(activeDeadlineSeconds=100)
    assert decide(awaiting(job), dead(), NOW + 200 * SECOND).ask_console
    found = observed(an_instance(state="terminated"), last_words=LastWords(a_finish(0)))
    assert decide(awaiting(job), found, NOW + 200 * SECOND).change.outcome is Outcome.SUCCEEDED


def test_a_reclaimed_instance_is_an_interruption():
    assert outcome_of(running(), dead(state_reason="Server.SpotInstanceTermination")) is Outcome.INTERRUPTED


def test_an_instance_that_died_after_its_notice_is_an_interruption():
    assert outcome_of(after(running(), Noticed(RECLAIM)), dead()) is Outcome.INTERRUPTED


def test_an_instance_that_died_in_silence_is_a_lost_host_and_never_a_success():
    assert outcome_of(running(), dead()) is Outcome.HOST_LOST


def test_a_container_that_called_back_ok_has_succeeded_when_its_instance_dies():
    job = after(running(), CalledBack(ok=True))
    assert decide(job, dead(), NOW).change.outcome is Outcome.SUCCEEDED


def test_an_instance_that_reached_its_longest_time_is_a_deadline_and_not_a_lost_host():
    job = after(booting(), Claimed("hash", power_off_at=NOW + 300 * SECOND), Started(NOW))
    assert outcome_of(job, dead(), NOW + 299 * SECOND) is Outcome.HOST_LOST
    assert outcome_of(job, dead(), NOW + 300 * SECOND) is Outcome.ATTEMPT_DEADLINE_EXCEEDED
    searched = observed(an_instance(state="terminated"), last_words=SILENT)
    assert decide(awaiting(job), searched, NOW + 300 * SECOND).change.outcome is Outcome.HOST_LOST


def test_an_instance_that_dies_while_it_is_being_stopped_was_stopped():
    assert outcome_of(after(running(), Stopping(NOW + MINUTE, "suspended")), dead()) is Outcome.CANCELLED


# ---- a spare ------------------------------------------------------------------------------------------------------


def noticed(**spec) -> SpotJob:
    return after(running(**spec), Noticed(RECLAIM))


def test_a_notice_is_written_and_a_spare_asked_for_in_one_step():
    decision = decide(running(), signs(reclaim_at=RECLAIM), NOW)
    assert decision == Decision(change=Noticed(RECLAIM), launch=True)


def test_a_notice_that_the_agent_has_reported_is_not_written_again():
    decision = decide(noticed(), signs(reclaim_at=RECLAIM + SECOND), NOW)
    assert (decision.change, decision.launch) == (None, True)


def test_no_spare_is_asked_for_when_no_interruption_is_left():
    assert decide(running(interruptionLimit=0), signs(reclaim_at=RECLAIM), NOW) == Decision(change=Noticed(RECLAIM))
    assert not decide(noticed(interruptionLimit=0), observed(an_instance()), NOW).launch
    assert decide(noticed(interruptionLimit=1), observed(an_instance()), NOW).launch


def test_no_spare_is_kept_for_an_instance_that_ec2_does_not_take_back_after_all():
    assert decide(noticed(), observed(an_instance()), RECLAIM + 5 * MINUTE).launch
    assert not decide(noticed(), observed(an_instance()), RECLAIM + 5 * MINUTE + SECOND).launch


def test_a_spare_is_kept_and_not_launched_again_while_the_result_is_looked_for():
    job = awaiting(noticed())
    decision = decide(job, dead(), NOW)
    assert (decision.launch, decision.keep_offer) == (False, True)


def test_an_undisturbed_job_wants_no_spare():
    assert decide(running(), observed(an_instance()), NOW) == Decision()


# ---- other signs --------------------------------------------------------------------------------------------------


def test_advice_to_leave_is_written_once_and_changes_nothing_else():
    decision = decide(running(), signs(advised_at=NOW), NOW)
    assert decision == Decision(change=Advised(NOW))
    job = after(running(), decision.change)
    assert job.status.reason is Reason.CONTAINER_RUNNING
    assert decide(job, signs(advised_at=NOW), NOW) == Decision()


def test_failing_status_checks_are_written_and_so_is_their_end():
    failing = decide(running(), signs(checked=True, impaired_since=NOW), NOW)
    assert failing == Decision(change=Impaired(NOW))
    job = after(running(), failing.change)
    assert decide(job, signs(checked=True), NOW) == Decision(change=Impaired(None))


def test_a_leader_that_has_not_asked_for_the_status_checks_yet_concludes_nothing():
    job = after(running(), Impaired(NOW))
    assert decide(job, observed(an_instance(), signs=NO_SIGNS), NOW) == Decision(wake_at=NOW + 5 * MINUTE)


def impaired(*changes) -> SpotJob:
    return after(running(), Impaired(NOW), *changes)


FAILING = signs(checked=True, impaired_since=NOW)


def test_a_silent_host_whose_checks_fail_for_five_minutes_is_given_up_as_an_interruption():
    assert ends_as(impaired(), NOW + 5 * MINUTE) is Outcome.INTERRUPTED


def test_a_container_that_called_back_ok_has_succeeded_though_its_host_is_given_up():
    decision = decide(impaired(CalledBack(ok=True)), FAILING, NOW + 5 * MINUTE)
    assert (decision.change.outcome, decision.terminate) == (Outcome.SUCCEEDED, {"i-1"})


def test_a_host_whose_agent_is_heard_is_not_given_up():
    job = after(impaired(), Heard(), at=NOW + 4 * MINUTE)
    assert decide(job, FAILING, NOW + 6 * MINUTE) == Decision(wake_at=NOW + 7 * MINUTE)
    assert ends_as(job, NOW + 7 * MINUTE) is Outcome.INTERRUPTED


# ---- out of time --------------------------------------------------------------------------------------------------


def given_up(job: SpotJob, now) -> SpotJob:
    """The job once its time was over: its console is waited for, and its instance terminated."""
    decision = decide(job, observed(an_instance()), now)
    assert (decision.change.reason, decision.terminate) == (Reason.AWAITING_RESULT, {"i-1"})
    return after(job, decision.change, at=now)


def ends_as(job: SpotJob, now) -> Outcome:
    """What the attempt comes to when it is given up now and its console shows nothing."""
    return decide(given_up(job, now), observed(an_instance(state="terminated"), last_words=SILENT), now).change.outcome


def test_a_claimed_container_that_does_not_start_in_time_may_have_run_and_its_console_is_asked_first():
    job = claimed(startupDeadlineSeconds=60)
    assert decide(job, observed(an_instance()), NOW + 59 * SECOND) == Decision(wake_at=NOW + MINUTE)
    assert ends_as(job, NOW + MINUTE) is Outcome.STARTUP_TIMEOUT


def test_an_attempt_ends_at_its_deadline():
    job = running(attemptDeadlineSeconds=100)
    assert ends_as(job, NOW + 100 * SECOND) is Outcome.ATTEMPT_DEADLINE_EXCEEDED


def test_a_result_that_never_reached_the_api_decides_an_attempt_that_was_given_up():
    found = observed(an_instance(state="terminated"), last_words=LastWords(a_finish(0)))
    for job in (claimed(startupDeadlineSeconds=60), running(attemptDeadlineSeconds=60)):
        assert decide(given_up(job, NOW + MINUTE), found, NOW + MINUTE).change.outcome is Outcome.SUCCEEDED


def test_an_attempt_that_was_given_up_stays_so_whatever_its_agent_says_then():
    job = after(given_up(claimed(startupDeadlineSeconds=60), NOW + MINUTE), Started(NOW))
    assert job.status.reason is Reason.AWAITING_RESULT
    decision = decide(job, observed(an_instance()), NOW + MINUTE)
    assert (decision.change, decision.terminate) == (None, {"i-1"})


# ---- stopping by order --------------------------------------------------------------------------------------------


def test_suspending_a_running_job_lets_its_container_have_its_grace():
    job = suspended(running())
    stopping = decide(job, observed(an_instance()), NOW).change
    assert stopping == Stopping(NOW + 60 * SECOND, "The job was suspended; its container has 30 s to stop")
    assert ends_as(after(job, stopping), NOW + 60 * SECOND) is Outcome.CANCELLED


def test_suspending_a_job_that_nobody_claimed_terminates_its_instance_at_once():
    decision = decide(suspended(booting()), observed(an_instance()), NOW)
    assert (decision.change.outcome, decision.terminate) == (Outcome.CANCELLED, {"i-1"})


def test_a_job_that_is_resumed_while_it_stops_runs_again_in_a_new_attempt():
    job = after(running(), Stopping(NOW + MINUTE, "suspended"))
    assert decide(job, observed(an_instance()), NOW) == Decision(wake_at=NOW + MINUTE)
    gone = observed(an_instance(state="terminated"), last_words=SILENT)
    ended = after(job, decide(given_up(job, NOW + MINUTE), gone, NOW + MINUTE).change)
    assert decide(ended, dead(), NOW + MINUTE).launch


def test_a_container_that_reports_started_while_it_stops_goes_on_stopping():
    job = after(claimed(), Stopping(NOW + MINUTE, "suspended"), Started(NOW))
    assert job.status.reason is Reason.STOPPING

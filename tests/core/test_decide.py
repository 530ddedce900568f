"""decide(job, observed, now) -> Decision, rung by rung."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spotjob.core.decide import decide
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.states import (
    Bound,
    Decision,
    Ended,
    Noticed,
    Obstacle,
    Stopping,
    Terminated,
    Verdict,
    Waiting,
)
from tests.builders import (
    NOW,
    SECOND,
    a_job,
    after,
    an_instance,
    booting,
    claimed,
    deleted,
    observed,
    released,
    running,
)

SUCCESS = Ended(Outcome.SUCCEEDED, "The container exited with code 0", exit_code=0)
FAILURE = Ended(Outcome.CONTAINER_FAILED, "The container exited with code 7", exit_code=7)


# ---- before the first attempt -------------------------------------------------------------------------------------


def test_a_new_job_gets_its_finalizer_before_anything_is_launched():
    assert decide(a_job(guarded=False), observed(), NOW) == Decision(guard=True)


def test_a_guarded_job_asks_for_an_instance():
    assert decide(a_job(), observed(), NOW) == Decision(launch=True)


def test_a_job_whose_start_time_is_ahead_waits_for_it_and_is_neither_guarded_nor_launched():
    start = NOW + 20 * SECOND
    decision = decide(a_job(guarded=False, startAt=start.isoformat()), observed(), NOW)
    assert decision == Decision(change=Waiting(Reason.WAITING_FOR_START_TIME, "startAt is ahead", start), wake_at=start)


def test_a_wait_for_the_start_time_is_written_once():
    start = NOW + 20 * SECOND
    job = a_job(startAt=start.isoformat())
    waiting = after(job, Waiting(Reason.WAITING_FOR_START_TIME, "startAt is ahead", start))
    assert decide(waiting, observed(), NOW + SECOND) == Decision(wake_at=start)


def test_at_its_start_time_the_job_goes():
    assert decide(a_job(startAt=NOW.isoformat()), observed(), NOW) == Decision(launch=True)


def test_an_offer_is_bound():
    offer = an_instance("i-9")
    assert decide(a_job(), observed(offer=offer), NOW) == Decision(change=Bound(offer))


def test_a_suspended_job_does_not_take_an_offer():
    decision = decide(a_job(suspend=True), observed(offer=an_instance()), NOW)
    assert decision == Decision(change=Waiting(Reason.SUSPENDED, "spec.suspend is true"))


# ---- obstacles ----------------------------------------------------------------------------------------------------


def short(retry_in: int = 30) -> Obstacle:
    return Obstacle(Reason.INSUFFICIENT_CAPACITY, "no capacity", NOW + retry_in * SECOND)


def test_a_shortage_is_shown_with_its_next_attempt_time():
    decision = decide(a_job(), observed(obstacle=short()), NOW)
    assert decision == Decision(
        change=Waiting(Reason.INSUFFICIENT_CAPACITY, "no capacity", NOW + 30 * SECOND), launch=True
    )


def waiting_for_capacity(**spec):
    return after(a_job(**spec), Waiting(Reason.INSUFFICIENT_CAPACITY, "no capacity", NOW + 30 * SECOND))


def test_later_tries_are_not_written_within_five_minutes():
    assert decide(waiting_for_capacity(), observed(obstacle=short(90)), NOW).change is None


def test_a_long_wait_is_refreshed_after_five_minutes():
    assert decide(waiting_for_capacity(), observed(obstacle=short(330)), NOW).change == Waiting(
        Reason.INSUFFICIENT_CAPACITY, "no capacity", NOW + 330 * SECOND
    )


def test_a_refused_launch_ends_the_job():
    refused = Obstacle(Reason.LAUNCH_REJECTED, "InvalidAMIID.NotFound: no such image", None)
    decision = decide(a_job(), observed(obstacle=refused), NOW)
    assert decision == Decision(change=Verdict(Reason.LAUNCH_REJECTED, "InvalidAMIID.NotFound: no such image"))


def test_a_wait_for_capacity_ends_at_its_timeout():
    job = waiting_for_capacity(capacityTimeoutSeconds=60)
    assert decide(job, observed(obstacle=short(90)), NOW + 59 * SECOND).wake_at == NOW + 60 * SECOND
    decision = decide(job, observed(obstacle=short(90)), NOW + 60 * SECOND)
    assert decision.change == Verdict(Reason.CAPACITY_TIMEOUT, "No instance within capacityTimeoutSeconds (60)")


def test_a_wait_that_is_for_a_quota_and_for_capacity_in_turn_is_given_up_as_one():
    job = waiting_for_capacity(capacityTimeoutSeconds=60)
    for seconds, reason in ((20, Reason.QUOTA_EXCEEDED), (40, Reason.INSUFFICIENT_CAPACITY)):
        job = after(job, Waiting(reason, "no", NOW), at=NOW + seconds * SECOND)
    quota = Obstacle(Reason.QUOTA_EXCEEDED, "no", NOW + 70 * SECOND)
    assert decide(job, observed(obstacle=quota), NOW + 60 * SECOND).change.reason is Reason.CAPACITY_TIMEOUT


def test_a_fallback_that_was_due_wakes_nobody_at_once_again():
    job = waiting_for_capacity(capacity={"fallback": {"afterWaitingSeconds": 30}})
    assert decide(job, observed(obstacle=short(90)), NOW + 29 * SECOND).wake_at == NOW + 30 * SECOND
    assert decide(job, observed(obstacle=short(90)), NOW + 30 * SECOND).wake_at is None


# ---- during an attempt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "running", "shutting-down", "stopping", "stopped", "unseen"])
def test_while_the_instance_is_not_dead_nothing_is_concluded(state):
    decision = decide(running(), observed(an_instance(state=state)), NOW)
    assert decision == Decision()


def test_an_instance_that_is_not_listed_yet_is_as_good_as_alive():
    assert decide(booting(), observed(), NOW).change is None


def test_an_instance_that_does_not_claim_the_job_in_time_ends_the_attempt():
    job = booting(startupDeadlineSeconds=60)
    assert decide(job, observed(an_instance()), NOW + 59 * SECOND) == Decision(wake_at=NOW + 60 * SECOND)
    decision = decide(job, observed(an_instance()), NOW + 60 * SECOND)
    assert (decision.change.outcome, decision.terminate) == (Outcome.STARTUP_TIMEOUT, {"i-1"})


def test_the_job_ends_at_its_active_deadline_and_its_instance_goes():
    decision = decide(running(activeDeadlineSeconds=100), observed(an_instance()), NOW + 100 * SECOND)
    assert decision == Decision(
        change=Verdict(Reason.DEADLINE_EXCEEDED, "activeDeadlineSeconds (100) have passed"),
        terminate=frozenset({"i-1"}),
    )


def test_of_two_jobs_that_name_one_instance_the_unclaimed_one_lets_go_and_terminates_nothing():
    decision = decide(booting(), observed(an_instance(), contested=True), NOW)
    assert (decision.change.outcome, decision.terminate) == (Outcome.NEVER_STARTED, frozenset())
    assert decide(claimed(), observed(an_instance(), contested=True), NOW).change is None


# ---- between attempts ---------------------------------------------------------------------------------------------


def backing_off():
    return after(running(backoffLimit=3), FAILURE)


def test_after_a_failure_the_instance_goes_and_the_next_attempt_waits():
    job = backing_off()
    decision = decide(job, observed(an_instance()), NOW)
    assert decision == Decision(terminate=frozenset({"i-1"}), wake_at=job.status.next_attempt_time)


def interrupted():
    job = after(running(), Noticed(NOW + 120 * SECOND))
    return after(job, Ended(Outcome.INTERRUPTED, "EC2 took the instance back"))


def test_after_an_interruption_the_next_attempt_is_not_bound_while_the_old_instance_shuts_down():
    offer = an_instance("i-2")
    dying = an_instance(state="shutting-down")
    assert decide(interrupted(), observed(dying, offer=offer), NOW) == Decision(keep_offer=True)


def test_after_an_interruption_the_next_attempt_is_bound_when_the_old_instance_is_dead():
    offer = an_instance("i-2")
    dead = an_instance(state="terminated")
    assert decide(interrupted(), observed(dead, offer=offer), NOW) == Decision(change=Bound(offer))


def test_when_the_agent_reported_the_end_shutting_down_is_enough_for_the_next_attempt():
    job = backing_off()
    dying = an_instance(state="shutting-down")
    assert decide(job, observed(dying), job.status.next_attempt_time) == Decision(launch=True)


# ---- after the verdict --------------------------------------------------------------------------------------------


def test_after_the_verdict_a_live_instance_is_terminated():
    assert decide(after(running(), SUCCESS), observed(an_instance()), NOW) == Decision(terminate=frozenset({"i-1"}))


@pytest.mark.parametrize("state", ["shutting-down", "terminated", "absent"])
def test_the_job_is_terminated_when_no_instance_remains(state):
    assert decide(after(running(), SUCCESS), observed(an_instance(state=state)), NOW) == Decision(change=Terminated())


def terminated():
    return after(running(ttlSecondsAfterFinished=60), SUCCESS, Terminated())


def test_the_finalizer_stays_until_the_mirror_shows_the_end():
    gone = an_instance(state="terminated")
    assert decide(terminated(), observed(gone, mirrored=False), NOW) == Decision()
    assert decide(terminated(), observed(gone, mirrored=True), NOW) == Decision(release=True)


def test_a_released_job_is_deleted_when_its_time_to_live_is_over():
    job = released(terminated())
    assert decide(job, observed(), NOW) == Decision(wake_at=NOW + 60 * SECOND)
    assert decide(job, observed(), NOW + 60 * SECOND) == Decision(delete=True)


# ---- deletion -----------------------------------------------------------------------------------------------------


def test_a_deleted_job_that_nobody_claimed_is_cancelled_first_and_its_instance_terminated():
    decision = decide(deleted(booting()), observed(an_instance()), NOW)
    assert decision == Decision(
        change=Verdict(Reason.CANCELLED, "The SpotJob was deleted"), terminate=frozenset({"i-1"})
    )


def test_the_container_of_a_deleted_job_has_its_grace_before_the_instance_goes():
    job = deleted(running(terminationGracePeriodSeconds=60))
    decision = decide(job, observed(an_instance()), NOW)
    assert decision.change == Stopping(NOW + 90 * SECOND, "The SpotJob was deleted; its container has 60 s to stop")
    stopping = after(job, decision.change)
    assert (stopping.status.phase, stopping.status.reason) == (Phase.RUNNING, Reason.STOPPING)
    assert decide(stopping, observed(an_instance()), NOW) == Decision(wake_at=NOW + 90 * SECOND)
    at_last = decide(stopping, observed(an_instance()), NOW + 90 * SECOND)
    assert (at_last.change, at_last.terminate) == (Verdict(Reason.CANCELLED, "The SpotJob was deleted"), {"i-1"})


def test_a_deleted_job_is_cancelled_at_once_when_its_container_has_stopped():
    job = after(deleted(running()), Ended(Outcome.CANCELLED, "The container was stopped by order", exit_code=143))
    assert (job.status.phase, job.status.reason) == (Phase.FINISHED_NOK, Reason.CANCELLED)
    assert decide(job, observed(an_instance()), NOW) == Decision(terminate=frozenset({"i-1"}))


def test_a_deleted_job_waits_until_its_instance_is_terminated_for_good():
    job = after(deleted(running()), Verdict(Reason.CANCELLED, "The SpotJob was deleted"))
    assert decide(job, observed(an_instance(state="shutting-down")), NOW) == Decision()
    assert decide(job, observed(an_instance(state="terminated")), NOW) == Decision(change=Terminated())


def test_a_deleted_job_that_never_launched_goes_at_once():
    assert decide(deleted(a_job(guarded=False)), observed(), NOW) == Decision()
    cancelled = after(deleted(a_job()), Verdict(Reason.CANCELLED, "deleted"), Terminated())
    assert decide(cancelled, observed(), NOW) == Decision(release=True)


def test_a_deleted_job_takes_no_offer():
    assert decide(deleted(a_job()), observed(offer=an_instance()), NOW).change == Verdict(
        Reason.CANCELLED, "The SpotJob was deleted"
    )


def test_every_wait_of_a_running_job_has_an_end():
    decision = decide(claimed(), observed(an_instance()), NOW)
    assert decision.wake_at == NOW + timedelta(seconds=600)

"""How the next instance is bought: spot, until the fallback says on-demand."""

from __future__ import annotations

import pytest

from spotjob.core.buying import capacity_type, fallback_at, taken_back
from spotjob.core.conditions import next_status
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, CapacityType, Drilled, Ended, Noticed, Waiting
from tests.builders import NOW, SECOND, a_job, after, an_instance, booting, running

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
AFTER_TWO = {"type": "spot", "fallback": {"afterInterruptions": 2}}
AFTER_A_MINUTE = {"type": "spot", "fallback": {"afterWaitingSeconds": 60}}


def interrupted(job: SpotJob) -> SpotJob:
    return after(job, Ended(Outcome.INTERRUPTED, "EC2 took the instance back"))


def again(job: SpotJob, instance_id: str, **fields: object) -> SpotJob:
    return after(job, Bound(an_instance(instance_id, **fields)))


def test_spot_is_asked_for_until_so_many_interruptions():
    once = interrupted(running(capacity=AFTER_TWO))
    assert capacity_type(once, NOW) is SPOT
    assert capacity_type(interrupted(again(once, "i-2")), NOW) is ON_DEMAND


def test_the_spare_is_bought_as_the_attempt_that_follows_the_announced_interruption():
    second = again(interrupted(running(capacity=AFTER_TWO)), "i-2")
    assert capacity_type(second, NOW) is SPOT
    assert capacity_type(after(second, Noticed(NOW)), NOW) is ON_DEMAND


@pytest.mark.parametrize("outcome", [Outcome.HOST_LOST, Outcome.STARTUP_TIMEOUT, Outcome.CONTAINER_FAILED])
def test_what_is_no_interruption_does_not_escalate(outcome):
    job = running(capacity={"type": "spot", "fallback": {"afterInterruptions": 1}}, backoffLimit=3)
    assert capacity_type(after(job, Ended(outcome, exit_code=1)), NOW) is SPOT


def waiting(reason: Reason) -> SpotJob:
    return after(a_job(capacity=AFTER_A_MINUTE), Waiting(reason, "no", NOW))


def test_on_demand_is_asked_for_when_spot_capacity_was_short_for_so_long():
    job = waiting(Reason.INSUFFICIENT_CAPACITY)
    assert fallback_at(job) == NOW + 60 * SECOND
    assert capacity_type(job, NOW + 59 * SECOND) is SPOT
    assert capacity_type(job, NOW + 60 * SECOND) is ON_DEMAND


@pytest.mark.parametrize("reason", [Reason.QUOTA_EXCEEDED, Reason.THROTTLED, Reason.CLASS_NOT_READY])
def test_another_wait_is_no_shortage_of_the_market(reason):
    assert fallback_at(waiting(reason)) is None
    assert capacity_type(waiting(reason), NOW + 3600 * SECOND) is SPOT


@pytest.mark.parametrize("reason", [Reason.QUOTA_EXCEEDED, Reason.THROTTLED, Reason.CLASS_NOT_READY])
def test_trouble_with_on_demand_does_not_turn_a_wait_that_fell_back_to_spot_again(reason):
    late = NOW + 60 * SECOND
    job = after(waiting(Reason.INSUFFICIENT_CAPACITY), Waiting(reason, "no", late), at=late)
    assert (job.status.capacity_type, capacity_type(job, late)) == (ON_DEMAND, ON_DEMAND)


def test_the_attempt_after_one_on_demand_that_only_a_wait_had_escalated_is_spot_again():
    bought = Bound(an_instance(capacity_type=ON_DEMAND))
    job = after(waiting(Reason.INSUFFICIENT_CAPACITY), bought, Ended(Outcome.HOST_LOST))
    assert capacity_type(job, NOW) is SPOT
    assert after(job, Waiting(Reason.QUOTA_EXCEEDED, "no", NOW)).status.capacity_type is SPOT


def test_the_fallback_shows_in_the_status_and_as_a_condition():
    job = again(interrupted(running(capacity={"type": "spot", "fallback": {"afterInterruptions": 1}})), "i-2")
    assert (job.status.capacity_type, conditions(job).get("FallenBack")) == (SPOT, None)
    fallen = after(interrupted(running(capacity=AFTER_TWO)), Bound(an_instance("i-3", capacity_type=ON_DEMAND)))
    assert (fallen.status.capacity_type, conditions(fallen)["FallenBack"]) == (ON_DEMAND, "True")
    assert "on-demand" in fallen.status.message


def test_a_job_that_waits_shows_what_it_waits_for():
    job = waiting(Reason.INSUFFICIENT_CAPACITY)
    assert job.status.capacity_type is SPOT
    later = next_status(job, Waiting(Reason.INSUFFICIENT_CAPACITY, "no", NOW), NOW + 60 * SECOND)
    assert later.capacity_type is ON_DEMAND


def test_a_job_that_asked_for_on_demand_has_not_fallen_back():
    job = after(a_job(capacity={"type": "on-demand"}), Bound(an_instance(capacity_type=ON_DEMAND)))
    assert "FallenBack" not in conditions(job)


def test_a_drill_says_nothing_about_the_pool():
    assert taken_back(after(running(), Noticed(NOW)).current)
    assert taken_back(interrupted(running()).current)
    assert not taken_back(after(running(), Drilled(NOW), Noticed(NOW)).current)
    assert not taken_back(booting().current)


def conditions(job: SpotJob) -> dict[str, str]:
    return {condition.type: condition.status for condition in job.status.conditions}

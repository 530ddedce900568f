from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from spotjob.core.claims import AlreadyYours, Refused, assignment_for, claim, heard, holds, orders_for
from spotjob.core.contract import Assignment, ClaimRequest, HeartbeatAnswer
from spotjob.core.reasons import Outcome
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Claimed, Drilled, Ended, Heard, Impaired, Noticed, Stopping
from tests.builders import NOW, a_job, after, an_instance, booting, deleted, running, suspended

NONCE = "0123456789abcdef"
HASH = hashlib.sha256(NONCE.encode()).hexdigest()


def asked(nonce: str = NONCE, uid: str = "uid-of-night", attempt: int = 1) -> ClaimRequest:
    return ClaimRequest(uid=uid, attempt=attempt, nonce=nonce)


def finished() -> SpotJob:
    return after(running(), Ended(Outcome.SUCCEEDED, exit_code=0))


def waiting_for_its_second_attempt() -> SpotJob:
    return after(running(backoffLimit=3), Ended(Outcome.CONTAINER_FAILED, exit_code=1))


def in_its_second_attempt() -> SpotJob:
    return after(waiting_for_its_second_attempt(), Bound(an_instance("i-2")))


def test_an_instance_is_assigned_the_attempt_that_names_it() -> None:
    assert assignment_for(booting("i-1"), "i-1") == Assignment(
        namespace="batch", name="night", uid="uid-of-night", attempt=1
    )


@pytest.mark.parametrize(
    "job",
    [a_job(), deleted(booting()), suspended(booting()), finished(), waiting_for_its_second_attempt()],
    ids=["unbound", "deleted", "suspended", "finished", "between attempts"],
)
def test_nothing_is_assigned_from_a_job_that_may_not_run(job: SpotJob) -> None:
    assert assignment_for(job, "i-1") is None


def test_the_instance_of_an_earlier_attempt_is_assigned_nothing() -> None:
    assert assignment_for(in_its_second_attempt(), "i-1") is None
    assert assignment_for(in_its_second_attempt(), "i-2") is not None


def test_the_first_nonce_wins() -> None:
    first = claim(booting("i-1"), "i-1", asked())
    assert first == Claimed(HASH)
    job = after(booting("i-1"), first)
    assert isinstance(claim(job, "i-1", asked(nonce="another-nonce-of-16")), Refused)


def test_the_same_nonce_may_repeat() -> None:
    job = after(booting("i-1"), Claimed(HASH))
    assert claim(job, "i-1", asked()) == AlreadyYours()


@pytest.mark.parametrize(
    ("job", "instance", "request_"),
    [
        (booting("i-1"), "i-2", asked()),
        (booting("i-1"), "i-1", asked(uid="uid-of-a-namesake")),
        (booting("i-1"), "i-1", asked(attempt=2)),
        (in_its_second_attempt(), "i-2", asked(attempt=1)),
        (in_its_second_attempt(), "i-1", asked(attempt=2)),
        (a_job(), "i-1", asked()),
    ],
    ids=["other instance", "other job", "attempt to come", "old attempt", "old instance", "unbound"],
)
def test_only_exactly_the_pair_that_was_assigned_can_be_claimed(
    job: SpotJob, instance: str, request_: ClaimRequest
) -> None:
    assert isinstance(claim(job, instance, request_), Refused)


@pytest.mark.parametrize(
    "job",
    [deleted(booting()), suspended(booting()), finished(), waiting_for_its_second_attempt()],
    ids=["deleted", "suspended", "finished", "attempt over"],
)
def test_a_job_that_may_not_run_cannot_be_claimed(job: SpotJob) -> None:
    assert isinstance(claim(job, "i-1", asked()), Refused)


def test_a_repeated_claim_of_a_deleted_job_is_refused_too() -> None:
    assert isinstance(claim(deleted(after(booting("i-1"), Claimed(HASH))), "i-1", asked()), Refused)


def test_a_token_holds_after_the_verdict_so_that_a_report_may_repeat() -> None:
    assert holds(finished(), "uid-of-night", 1, "i-1")


@pytest.mark.parametrize(
    ("uid", "attempt", "instance"),
    [("uid-of-a-namesake", 2, "i-2"), ("uid-of-night", 1, "i-1"), ("uid-of-night", 2, "i-1")],
)
def test_a_token_of_another_attempt_does_not_hold(uid: str, attempt: int, instance: str) -> None:
    assert not holds(in_its_second_attempt(), uid, attempt, instance)


def test_no_token_holds_for_a_job_without_an_attempt() -> None:
    assert not holds(a_job(), "uid-of-night", 1, "i-1")


def ordered(job: SpotJob | None) -> HeartbeatAnswer:
    return orders_for(job, "uid-of-night", 1, an_instance().id)


def test_a_running_container_goes_on() -> None:
    assert ordered(running()) == HeartbeatAnswer(order="continue")


@pytest.mark.parametrize(
    "job",
    [deleted(running()), finished(), waiting_for_its_second_attempt()],
    ids=["deleted", "finished", "attempt over"],
)
def test_a_container_whose_job_may_not_run_must_stop(job: SpotJob) -> None:
    assert ordered(job) == HeartbeatAnswer(order="stop", grace_seconds=30)


def test_a_suspension_is_ordered_once_the_status_says_so() -> None:
    assert ordered(suspended(running())).order == "continue"
    assert ordered(after(suspended(running()), Stopping(NOW, "suspended"))).order == "stop"


def test_the_stop_order_brings_the_grace_of_the_spec() -> None:
    assert ordered(deleted(running(terminationGracePeriodSeconds=90))).grace_seconds == 90


def test_the_agent_of_a_job_that_is_gone_must_stop() -> None:
    assert ordered(None).order == "stop"


def test_an_agent_of_another_attempt_must_stop() -> None:
    assert orders_for(running(), "uid-of-night", 2, an_instance().id).order == "stop"


def test_a_stop_order_stands_when_the_job_is_resumed_meanwhile() -> None:
    assert ordered(after(running(), Stopping(NOW, "suspended"))).order == "stop"


def test_a_drill_is_ordered_until_the_agent_has_given_notice() -> None:
    drilled = after(running(), Drilled(NOW + timedelta(seconds=60)))
    assert ordered(drilled) == HeartbeatAnswer(order="drill", reclaim_at=NOW + timedelta(seconds=60))
    assert ordered(after(drilled, Noticed(NOW + timedelta(seconds=60)))).order == "continue"


def test_a_heartbeat_writes_nothing() -> None:
    assert heard(running(), NOW) is None
    assert heard(None, NOW) is None


def test_a_heartbeat_is_noted_once_a_minute_while_the_status_checks_fail() -> None:
    doubted = after(running(), Impaired(NOW))
    assert heard(doubted, NOW) == Heard()
    once = after(doubted, Heard())
    assert heard(once, NOW + timedelta(seconds=59)) is None
    assert heard(once, NOW + timedelta(seconds=60)) == Heard()

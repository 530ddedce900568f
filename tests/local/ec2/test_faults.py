"""Faults, throttling and counting."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.local.ec2 import ApiError, Fault, ReplyLost, Simulator
from tests.local.ec2.builders import a_fleet, a_simulator, later, launch


def refusal(ec2: Simulator, action: str, **request: Any) -> str:
    with pytest.raises(ApiError) as caught:
        ec2.call(action, request)
    return caught.value.code


# ---- faults, throttling, counting


def test_a_fault_before_the_call_leaves_no_effect() -> None:
    ec2 = a_simulator()
    ec2.faults.order(Fault("CreateFleet", code="InternalError"))
    assert refusal(ec2, "CreateFleet", **a_fleet()) == "InternalError"
    assert ec2.instances() == []
    assert launch(ec2)


def test_a_fault_after_the_call_hides_its_effect_and_the_token_finds_it_again() -> None:
    ec2 = a_simulator()
    ec2.faults.order(Fault("CreateFleet", lost=True, when="after"))
    with pytest.raises(ReplyLost):
        ec2.call("CreateFleet", a_fleet(token="t"))
    assert len(ec2.instances()) == 1
    assert launch(ec2, token="t") == [ec2.instances()[0].id]


def test_a_fault_strikes_as_often_as_ordered_and_only_its_action() -> None:
    ec2 = a_simulator()
    ec2.faults.order(Fault("TerminateInstances", code="RequestLimitExceeded", times=2))
    (instance_id,) = launch(ec2)
    for _ in range(2):
        assert refusal(ec2, "TerminateInstances", InstanceIds=[instance_id]) == "RequestLimitExceeded"
    assert ec2.call("TerminateInstances", {"InstanceIds": [instance_id]})


def test_a_slow_call_answers_and_says_how_slow_it_was() -> None:
    ec2 = a_simulator()
    ec2.faults.order(Fault("DescribeInstances", delay_seconds=4))
    reply = ec2.serve("DescribeInstances", {})
    assert (reply.answer, reply.delay_seconds) == ({"Reservations": []}, 4)


def test_throttling_refuses_what_exceeds_the_burst_and_refills() -> None:
    ec2 = a_simulator()
    ec2.throttle.on = True
    for _ in range(50):
        launch(ec2)
    with pytest.raises(ApiError) as caught:
        launch(ec2)
    assert (caught.value.code, caught.value.status) == ("RequestLimitExceeded", 503)
    later(ec2, 1)
    for _ in range(5):
        launch(ec2)
    assert refusal(ec2, "CreateFleet", **a_fleet()) == "RequestLimitExceeded"


def test_unfiltered_lists_are_throttled_sooner_than_filtered_ones() -> None:
    ec2 = a_simulator()
    ec2.throttle.on = True
    for _ in range(50):
        ec2.call("DescribeInstances", {})
    assert refusal(ec2, "DescribeInstances") == "RequestLimitExceeded"
    assert ec2.call("DescribeInstances", {"MaxResults": 5}) == {"Reservations": []}


def test_every_call_that_arrives_is_counted() -> None:
    ec2 = a_simulator()
    ec2.faults.order(Fault("CreateFleet", code="InternalError"))
    refusal(ec2, "CreateFleet", **a_fleet())
    launch(ec2)
    assert ec2.calls == {"CreateLaunchTemplate": 1, "CreateFleet": 2}


def test_a_call_that_is_not_simulated_says_so() -> None:
    assert refusal(a_simulator(), "RunInstances") == "UnsupportedOperation"


def test_a_dry_run_has_no_effect() -> None:
    ec2 = a_simulator()
    assert refusal(ec2, "CreateFleet", **a_fleet(), DryRun=True) == "DryRunOperation"
    assert ec2.instances() == []

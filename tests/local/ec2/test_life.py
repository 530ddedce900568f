"""The life of an instance on a virtual clock: boot, shutdown, interruption, oblivion."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spotjob.core.states import InstanceState
from spotjob.local.ec2 import ApiError, Simulator
from tests.local.ec2.builders import (
    START,
    a_fleet,
    a_simulator,
    a_template,
    described,
    ids,
    later,
    launch,
    listed,
    on_demand,
    spot_request,
    state,
)


def a_running_instance(ec2: Simulator) -> str:
    (instance_id,) = launch(ec2)
    later(ec2, 30)
    ec2.take_events()
    return instance_id


def terminate(ec2: Simulator, *instance_ids: str) -> list[tuple[str, str]]:
    answer = ec2.call("TerminateInstances", {"InstanceIds": list(instance_ids)})
    return [(one["PreviousState"]["Name"], one["CurrentState"]["Name"]) for one in answer["TerminatingInstances"]]


def events(ec2: Simulator) -> list[tuple[str, str]]:
    return [(event["detail-type"], event["detail"].get("state", "")) for event in ec2.take_events()]


def test_an_instance_runs_after_the_boot_time_and_not_before() -> None:
    ec2 = a_simulator(boot=30)
    (instance_id,) = launch(ec2)
    later(ec2, 29)
    assert state(ec2, instance_id) == "pending"
    later(ec2, 1)
    assert state(ec2, instance_id) == "running"


def test_an_instance_without_a_boot_time_stays_pending() -> None:
    ec2 = a_simulator(boot=None)
    (instance_id,) = launch(ec2)
    later(ec2, 100_000)
    assert state(ec2, instance_id) == "pending"


def test_termination_passes_through_shutting_down() -> None:
    ec2 = a_simulator(shutdown_seconds=20)
    instance_id = a_running_instance(ec2)
    assert terminate(ec2, instance_id) == [("running", "shutting-down")]
    later(ec2, 19)
    assert state(ec2, instance_id) == "shutting-down"
    later(ec2, 1)
    raw = described(ec2, instance_id)
    assert raw["State"] == {"Code": 48, "Name": "terminated"}
    assert raw["StateReason"]["Code"] == "Client.UserInitiatedShutdown"
    assert raw["StateTransitionReason"] == "User initiated (2026-01-01 12:00:30 GMT)"
    assert spot_request(ec2, instance_id)["Status"]["Code"] == "instance-terminated-by-user"


def test_an_instance_terminated_while_pending_never_runs() -> None:
    ec2 = a_simulator(boot=30, shutdown_seconds=50)
    (instance_id,) = launch(ec2)
    terminate(ec2, instance_id)
    later(ec2, 40)
    assert state(ec2, instance_id) == "shutting-down"


def test_termination_may_be_repeated() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    terminate(ec2, instance_id)
    assert terminate(ec2, instance_id) == [("shutting-down", "shutting-down")]
    later(ec2, 60)
    assert terminate(ec2, instance_id) == [("terminated", "terminated")]


def test_one_unknown_id_keeps_all_of_them_alive() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound: The instance ID 'i-unknown' does not exist"):
        terminate(ec2, instance_id, "i-unknown")
    assert state(ec2, instance_id) == "running"


def test_a_terminated_instance_is_forgotten_after_an_hour_and_its_spot_request_later() -> None:
    ec2 = a_simulator(shutdown_seconds=0)
    instance_id = a_running_instance(ec2)
    terminate(ec2, instance_id)
    later(ec2, 3599)
    assert listed(ec2) == [instance_id]
    later(ec2, 1)
    assert listed(ec2) == []
    assert spot_request(ec2, instance_id)["State"] == "closed"
    later(ec2, 4 * 3600)
    assert ec2.call("DescribeSpotInstanceRequests", {})["SpotInstanceRequests"] == []


def test_a_guest_that_powers_off_terminates_its_instance() -> None:
    ec2 = a_simulator(shutdown_seconds=5)
    instance_id = a_running_instance(ec2)
    ec2.power_off(instance_id)
    assert state(ec2, instance_id) == "shutting-down"
    later(ec2, 5)
    raw = described(ec2, instance_id)
    assert raw["State"]["Name"] == "terminated"
    assert raw["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_a_guest_that_powers_off_only_stops_an_instance_whose_template_does_not_say_terminate() -> None:
    ec2 = a_simulator(shutdown_seconds=5)
    ec2.call("CreateLaunchTemplate", a_template("lingering", InstanceInitiatedShutdownBehavior="stop"))
    (instance_id,) = launch(ec2, template="lingering")
    later(ec2, 30)
    ec2.power_off(instance_id)
    assert state(ec2, instance_id) == "stopping"
    later(ec2, 5)
    assert state(ec2, instance_id) == "stopped"
    terminate(ec2, instance_id)
    later(ec2, 5)
    assert state(ec2, instance_id) == "terminated"


def test_with_a_machine_attached_an_instance_is_terminated_only_when_the_machine_has_halted() -> None:
    ec2 = a_simulator(shutdown_seconds=5, machine_halts=True)
    instance_id = a_running_instance(ec2)
    terminate(ec2, instance_id)
    later(ec2, 1000)
    assert state(ec2, instance_id) == "shutting-down"
    ec2.halted(instance_id)
    later(ec2, 0)
    assert state(ec2, instance_id) == "terminated"


def test_a_fresh_id_is_unknown_for_the_visibility_delay() -> None:
    ec2 = a_simulator(visibility_seconds=3)
    (instance_id,) = launch(ec2)
    assert listed(ec2, instance_id=instance_id) == []
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound"):
        described(ec2, instance_id)
    with pytest.raises(ApiError, match=r"InvalidInstanceID\.NotFound"):
        terminate(ec2, instance_id)
    later(ec2, 3)
    assert listed(ec2, instance_id=instance_id) == [instance_id]


# ---- interruptions


def test_the_spot_request_says_terminated_while_the_instance_still_runs() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    ec2.interrupt(instance_id, warning_seconds=120)
    request = spot_request(ec2, instance_id)
    assert (request["State"], request["Status"]["Code"]) == ("closed", "instance-terminated-no-capacity")
    assert state(ec2, instance_id) == "running"
    later(ec2, 119)
    assert state(ec2, instance_id) == "running"


def test_the_spot_request_may_also_be_marked_for_termination() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    ec2.interrupt(instance_id, 120, "marked-for-termination")
    request = spot_request(ec2, instance_id)
    assert (request["State"], request["Status"]["Code"]) == ("active", "marked-for-termination")
    later(ec2, 120)
    assert spot_request(ec2, instance_id)["Status"]["Code"] == "instance-terminated-no-capacity"


def test_after_the_warning_the_instance_is_reclaimed() -> None:
    ec2 = a_simulator(shutdown_seconds=10)
    instance_id = a_running_instance(ec2)
    ec2.interrupt(instance_id, warning_seconds=120)
    later(ec2, 120)
    assert state(ec2, instance_id) == "shutting-down"
    later(ec2, 10)
    raw = described(ec2, instance_id)
    assert raw["State"]["Name"] == "terminated"
    assert raw["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_the_interruption_warning_event_names_the_zone_where_the_region_should_be() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    ec2.interrupt(instance_id)
    (event,) = ec2.take_events()
    assert event["detail-type"] == "EC2 Spot Instance Interruption Warning"
    assert event["resources"] == [f"arn:aws:ec2:us-east-1a:instance/{instance_id}"]
    assert event["detail"] == {"instance-id": instance_id, "instance-action": "terminate"}
    assert event["time"] == "2026-01-01T12:00:30Z"


def test_a_reclaim_without_notice_leaves_no_warning() -> None:
    ec2 = a_simulator(shutdown_seconds=10)
    instance_id = a_running_instance(ec2)
    ec2.reclaim(instance_id)
    later(ec2, 10)
    assert events(ec2) == [
        ("EC2 Instance State-change Notification", "shutting-down"),
        ("EC2 Instance State-change Notification", "terminated"),
    ]
    assert ec2.instance(instance_id).reclaim_at is None


def test_a_rebalance_recommendation_changes_nothing_but_what_is_said() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    ec2.recommend_rebalance(instance_id)
    assert events(ec2) == [("EC2 Instance Rebalance Recommendation", "")]
    assert state(ec2, instance_id) == "running"


def test_an_instance_that_ended_during_the_warning_keeps_its_own_reason() -> None:
    ec2 = a_simulator()
    instance_id = a_running_instance(ec2)
    ec2.interrupt(instance_id, warning_seconds=120)
    ec2.power_off(instance_id)
    later(ec2, 200)
    assert described(ec2, instance_id)["StateReason"]["Code"] == "Client.InstanceInitiatedShutdown"


def test_on_demand_instances_are_not_interrupted() -> None:
    ec2 = a_simulator()
    (instance_id,) = ids(ec2.call("CreateFleet", on_demand(a_fleet())))
    with pytest.raises(ApiError, match="not a Spot Instance"):
        ec2.interrupt(instance_id)


# ---- the clock


def test_one_long_step_and_many_short_ones_come_to_the_same() -> None:
    def history(step: float) -> object:
        ec2 = a_simulator(shutdown_seconds=7)
        (instance_id,) = launch(ec2)
        ec2.interrupt(instance_id, warning_seconds=45)
        passed = 0.0
        while passed < 120:
            later(ec2, step)
            passed += step
        return ec2.take_events(), described(ec2, instance_id)

    assert history(120) == history(0.5)


def test_time_does_not_go_back() -> None:
    ec2 = a_simulator()
    later(ec2, 60)
    ec2.advance(START)
    assert ec2.now == START + timedelta(seconds=60)


def test_the_next_event_is_known_in_advance() -> None:
    ec2 = a_simulator(boot=30)
    assert ec2.next_event_at is None
    (instance_id,) = launch(ec2)
    assert ec2.next_event_at == START + timedelta(seconds=30)
    assert ec2.instance(instance_id).state is InstanceState.PENDING

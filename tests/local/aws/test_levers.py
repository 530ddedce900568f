"""The levers under /_spotjob/."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotjob.local.aws_server import AwsServer
from tests.local.aws.account import (
    RecordedMachines,
    instance,
    launch,
    launch_and_boot,
    metadata,
    pull,
    send,
    shown,
    until,
)
from tests.local.ec2.builders import a_fleet, ids


def test_a_notice_shows_in_the_metadata_and_the_reclaim_follows(
    server: AwsServer, boto: Any, machines: RecordedMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    # Until the notice is read: what has terminated has no metadata.
    monkeypatch.setattr(machines, "holds_on", True)
    pull(server, "interrupt", instanceId=instance_id, warningSeconds=1)
    status, notice = metadata(server, instance_id, "meta-data/spot/instance-action")
    assert (status, json.loads(notice)["action"]) == (200, "terminate")
    until(lambda: instance_id in machines.halting)
    machines.halting[instance_id]()
    until(lambda: instance(server, instance_id).state == "terminated")
    assert instance(server, instance_id).reason[0] == "Server.SpotInstanceTermination"


def test_a_reclaim_comes_without_notice(server: AwsServer, boto: Any, machines: RecordedMachines) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    pull(server, "reclaim", instanceId=instance_id)
    until(lambda: instance(server, instance_id).state == "terminated")


def test_a_rebalance_recommendation_shows_in_the_metadata(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    item = "meta-data/events/recommendations/rebalance"
    assert metadata(server, instance_id, item)[0] == 404
    pull(server, "rebalance", instanceId=instance_id)
    assert "noticeTime" in json.loads(metadata(server, instance_id, item)[1])


def test_capacity_is_taken_away_and_given_back(server: AwsServer, boto: Any) -> None:
    subnet = shown(server, "network")["subnets"][0]["id"]
    pull(server, "capacity", instanceType="*", availabilityZone="us-east-1a", capacityType="spot", count=0)
    assert ids(boto.create_fleet(**a_fleet(SubnetId=subnet))) == []
    pull(server, "capacity", instanceType="*", availabilityZone="us-east-1a", capacityType="spot", count=None)
    assert len(ids(boto.create_fleet(**a_fleet(SubnetId=subnet)))) == 1


def test_a_fault_is_ordered_and_taken_back(server: AwsServer, boto: Any) -> None:
    pull(server, "fault", action="DescribeInstances", code="InternalError", times=5)
    with pytest.raises(ClientError, match="InternalError"):
        boto.describe_instances()
    assert send(server, "DELETE", "/_spotjob/faults")[0] == 200
    assert boto.describe_instances()["Reservations"]


def test_the_boot_time_can_be_changed(server: AwsServer, boto: Any) -> None:
    pull(server, "boot-seconds", seconds=3600)
    slow = launch(server, boto)
    pull(server, "boot-seconds", seconds=0)
    fast = launch(server, boto)
    until(lambda: instance(server, fast).state == "running")
    assert instance(server, slow).state == "pending"


def test_status_checks_fail_and_hold_again_by_order(server: AwsServer, boto: Any, machines: RecordedMachines) -> None:
    instance_id = launch_and_boot(server, boto, machines)

    def check() -> str:
        seen = boto.describe_instance_status(InstanceIds=[instance_id])["InstanceStatuses"][0]
        return str(seen["SystemStatus"]["Status"])

    pull(server, "impair", instanceId=instance_id)
    assert check() == "impaired"
    pull(server, "impair", instanceId=instance_id, on=False)
    assert check() == "ok"


def test_the_console_of_a_terminated_instance_can_be_made_late(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    pull(server, "console-seconds", seconds=3600)
    boto.terminate_instances(InstanceIds=[instance_id])
    until(lambda: instance(server, instance_id).state == "terminated")
    pull(server, "console-seconds", seconds=0)
    assert boto.get_console_output(InstanceId=instance_id)["Output"] == ""


def test_instances_are_listed_and_calls_are_counted(server: AwsServer, boto: Any) -> None:
    before = shown(server, "counts").get("CreateFleet", 0)
    instance_id = launch(server, boto)
    (row,) = [one for one in shown(server, "instances") if one["id"] == instance_id]
    assert (row["type"], row["zone"], row["capacityType"]) == ("m6i.large", "us-east-1a", "spot")
    assert row["tags"]["from"] == "template"
    assert shown(server, "counts")["CreateFleet"] == before + 1


@pytest.mark.parametrize(
    ("lever", "order", "status", "says"),
    [
        ("interrupt", {"instanceId": "i-unknown"}, 404, "i-unknown"),
        ("interrupt", {}, 400, "instanceId"),
        ("interrupt", {"instanceId": "i-1", "warningSeconds": -1}, 400, "warningSeconds"),
        ("capacity", {"count": -1}, 400, "count"),
        ("capacity", {"colour": "red"}, 400, "colour"),
        ("fault", {"action": "CreateFleet", "when": "sometimes"}, 400, "when"),
        ("unknown", {}, 404, "unknown"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_name(
    server: AwsServer, lever: str, order: dict[str, Any], status: int, says: str
) -> None:
    got, body = send(server, "POST", f"/_spotjob/{lever}", order)
    assert got == status
    assert says in body.decode()

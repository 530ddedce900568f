"""EC2 through boto3 and a real connection, as the operator uses it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import CapacityRule, Fault, Timing
from spotjob.local.machines import NoMachines
from tests.contract.ec2_clients import an_image, over_http
from tests.local.ec2.builders import a_fleet, a_template, error_codes, ids


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[AwsServer]:
    server = AwsServer(lambda _: NoMachines(), region="us-east-1", timing=Timing(boot_seconds=0, shutdown_seconds=0))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="boto", scope="module")
def _boto(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "ec2") as client:
        image = an_image(server.url)
        client.create_launch_template(**a_template("jobs", ImageId=image))
        yield client


@pytest.fixture(name="subnets", scope="module")
def _subnets(boto: Any) -> dict[str, str]:
    """Subnet by zone."""
    return {raw["AvailabilityZone"]: raw["SubnetId"] for raw in boto.describe_subnets()["Subnets"]}


@pytest.fixture(autouse=True)
def _clean(server: AwsServer) -> None:
    with server.centre.open() as ec2:
        ec2.set_capacity(CapacityRule())
        ec2.faults.clear()


def a_launch(subnets: dict[str, str], count: int = 1, **more: Any) -> dict[str, Any]:
    return a_fleet(count, SubnetId=subnets["us-east-1a"], **more)


def alive(server: AwsServer) -> int:
    with server.centre.open() as ec2:
        return sum(instance.alive for instance in ec2.instances())


def test_a_launch_runs_is_described_and_terminated(boto: Any, subnets: dict[str, str]) -> None:
    launched = ids(boto.create_fleet(**a_launch(subnets, 2, tags={"job": "round-trip"})))
    boto.get_waiter("instance_running").wait(InstanceIds=launched, WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    by_tag = boto.describe_instances(Filters=[{"Name": "tag:job", "Values": ["round-trip"]}])
    assert [raw["InstanceId"] for raw in by_tag["Reservations"][0]["Instances"]] == launched
    boto.terminate_instances(InstanceIds=launched)
    boto.get_waiter("instance_terminated").wait(InstanceIds=launched, WaiterConfig={"Delay": 1, "MaxAttempts": 10})


def test_boto3_s_paginator_sees_every_instance_once(boto: Any, subnets: dict[str, str]) -> None:
    launched = ids(boto.create_fleet(**a_launch(subnets, 12, tags={"job": "pages"})))
    wanted = [{"Name": "tag:job", "Values": ["pages"]}]
    pages = boto.get_paginator("describe_instances").paginate(Filters=wanted, PaginationConfig={"PageSize": 5})
    assert [raw["InstanceId"] for page in pages for r in page["Reservations"] for raw in r["Instances"]] == launched


def test_a_retry_after_a_lost_reply_launches_once(server: AwsServer, subnets: dict[str, str]) -> None:
    before = alive(server)
    with server.centre.open() as ec2:
        calls = ec2.calls["CreateFleet"]
        ec2.faults.order(Fault("CreateFleet", lost=True, when="after"))
    with over_http(server.url, "ec2", attempts=2) as retrying:
        assert len(ids(retrying.create_fleet(**a_launch(subnets, 3)))) == 3
    assert alive(server) == before + 3
    with server.centre.open() as ec2:
        assert ec2.calls["CreateFleet"] == calls + 2


def test_a_lost_reply_is_a_broken_connection(server: AwsServer, boto: Any) -> None:
    with server.centre.open() as ec2:
        ec2.faults.order(Fault("DescribeInstances", lost=True))
    with pytest.raises(ConnectionClosedError):
        boto.describe_instances()


def test_a_fault_before_the_call_launches_nothing(server: AwsServer, boto: Any, subnets: dict[str, str]) -> None:
    before = alive(server)
    with server.centre.open() as ec2:
        ec2.faults.order(Fault("CreateFleet", code="RequestLimitExceeded"))
    with pytest.raises(ClientError) as caught:
        boto.create_fleet(**a_launch(subnets))
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert alive(server) == before


def test_an_empty_pool_and_a_full_one_answer_together(server: AwsServer, boto: Any, subnets: dict[str, str]) -> None:
    with server.centre.open() as ec2:
        ec2.set_capacity(CapacityRule("m6i.large", count=0))
    answer = boto.create_fleet(**a_launch(subnets, 2, types=("m6i.large", "m6a.large")))
    assert len(ids(answer)) == 2
    assert error_codes(answer) == ["InsufficientInstanceCapacity"]


def test_an_interruption_shows_in_the_spot_request(server: AwsServer, boto: Any, subnets: dict[str, str]) -> None:
    (instance_id,) = ids(boto.create_fleet(**a_launch(subnets)))
    with server.centre.open() as ec2:
        ec2.interrupt(instance_id, warning_seconds=0)
    boto.get_waiter("instance_terminated").wait(InstanceIds=[instance_id], WaiterConfig={"Delay": 1, "MaxAttempts": 10})
    wanted = [{"Name": "instance-id", "Values": [instance_id]}]
    (request,) = boto.describe_spot_instance_requests(Filters=wanted)["SpotInstanceRequests"]
    assert request["Status"]["Code"] == "instance-terminated-no-capacity"
    (raw,) = boto.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"]
    assert raw["StateReason"]["Code"] == "Server.SpotInstanceTermination"


def test_an_image_or_a_subnet_that_does_not_exist_is_refused(boto: Any, subnets: dict[str, str]) -> None:
    assert error_codes(boto.create_fleet(**a_launch(subnets, ImageId="ami-unknown"))) == ["InvalidAMIID.NotFound"]
    assert error_codes(boto.create_fleet(**a_fleet(SubnetId="subnet-unknown"))) == ["InvalidSubnetID.NotFound"]


def test_instance_types_are_filtered_and_paged(boto: Any) -> None:
    wanted = [{"Name": "instance-type", "Values": ["m6i.*"]}, {"Name": "bare-metal", "Values": ["false"]}]
    pages = boto.get_paginator("describe_instance_types").paginate(Filters=wanted, PaginationConfig={"PageSize": 5})
    names = [raw["InstanceType"] for page in pages for raw in page["InstanceTypes"]]
    assert "m6i.large" in names
    assert "m6i.metal" not in names
    assert len(names) == len(set(names)) > 5


def test_offerings_name_the_zones_of_a_type(boto: Any) -> None:
    wanted = [{"Name": "instance-type", "Values": ["m6i.large"]}]
    answer = boto.describe_instance_type_offerings(LocationType="availability-zone", Filters=wanted)
    zones = {raw["Location"] for raw in answer["InstanceTypeOfferings"]}
    assert {"us-east-1a", "us-east-1b"} <= zones


def test_what_neither_side_can_do_is_said_and_not_left_to_moto(boto: Any) -> None:
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        boto.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)


def test_another_region_is_refused(server: AwsServer) -> None:
    with (
        over_http(server.url, "ec2", region="eu-west-1") as elsewhere,
        pytest.raises(ClientError, match="us-east-1 only"),
    ):
        elsewhere.describe_instances()


def test_many_clients_at_once_get_distinct_instances(server: AwsServer, boto: Any, subnets: dict[str, str]) -> None:
    def one(number: int) -> list[str]:
        return ids(boto.create_fleet(**a_launch(subnets, 5, token=f"together-{number}")))

    with ThreadPoolExecutor(8) as threads:
        launched = [instance_id for found in threads.map(one, range(16)) for instance_id in found]
    assert len(set(launched)) == 80

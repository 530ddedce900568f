"""The wire against botocore: what boto3 sends arrives whole, and what the simulator answers is what boto3 shows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from spotjob.local import catalogue, ec2_wire
from spotjob.local.ec2 import ApiError, Simulator
from tests.contract.ec2_clients import in_process
from tests.local.ec2.builders import START, a_fleet, a_simulator, a_template, later, launch


@pytest.fixture(name="ec2")
def _ec2() -> Simulator:
    return a_simulator(boot=1, shutdown_seconds=1)


@pytest.fixture(name="boto")
def _boto(ec2: Simulator) -> Iterator[Any]:
    with in_process(ec2) as client:
        yield client


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in answer.items() if key != "ResponseMetadata"}


def test_a_fleet_request_arrives_as_it_was_made(ec2: Simulator, boto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[Any] = []
    monkeypatch.setattr(ec2, "call", lambda action, request: arrived.append((action, request)) or {})
    volume = [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 50, "Encrypted": True, "DeleteOnTermination": True}}]
    request = a_fleet(
        3,
        types=("m6i.large", "m6a.large"),
        zones=("us-east-1a", "us-east-1b"),
        token="t",
        tags={"quote": '"<&>" ü'},
        Priority=1.5,
        MaxPrice="0.1",
        BlockDeviceMappings=volume,
    )
    boto.create_fleet(**request)
    assert arrived == [("CreateFleet", request)]


def test_a_template_request_arrives_as_it_was_made(ec2: Simulator, boto: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived: list[Any] = []
    monkeypatch.setattr(ec2, "call", lambda action, request: arrived.append(request) or {})
    request = a_template(
        "whole",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1, "HttpEndpoint": "enabled"},
        SecurityGroupIds=["sg-1", "sg-2"],
        IamInstanceProfile={"Name": "jobs"},
    )
    boto.create_launch_template(ClientToken="t", **request)
    assert arrived == [request | {"ClientToken": "t"}]


def test_answers_reach_boto3_unchanged(ec2: Simulator, boto: Any) -> None:
    options = {"MetadataOptions": {"HttpTokens": "required"}, "IamInstanceProfile": {"Name": "jobs"}}
    ec2.call("CreateLaunchTemplate", a_template("whole", SecurityGroupIds=["sg-1"], **options))
    ids = launch(ec2, 3, template="whole", tags={"quote": '"<&>" ü'})
    later(ec2, 2)
    ec2.call("TerminateInstances", {"InstanceIds": ids[:1]})
    ec2.advance(ec2.now + timedelta(seconds=5))
    for method, action, request in (
        ("describe_instances", "DescribeInstances", {"MaxResults": 5}),
        ("describe_instance_status", "DescribeInstanceStatus", {"IncludeAllInstances": True}),
        ("describe_spot_instance_requests", "DescribeSpotInstanceRequests", {}),
        ("describe_launch_templates", "DescribeLaunchTemplates", {"LaunchTemplateNames": ["whole"]}),
    ):
        assert shown(getattr(boto, method)(**request)) == ec2.call(action, request), method


def test_a_fleet_s_answer_reaches_boto3_unchanged(ec2: Simulator, boto: Any) -> None:
    request = a_fleet(2, token="t", types=("m6i.large", "bad.large"), ImageId="ami-1")
    request["LaunchTemplateConfigs"][0]["Overrides"][1]["ImageId"] = "malformed"
    answer = shown(boto.create_fleet(**request))
    assert answer["Errors"][0]["ErrorCode"] == "InvalidAMIID.Malformed"
    assert answer == ec2.call("CreateFleet", request)


def test_the_console_is_base64_on_the_wire_and_text_in_boto3(ec2: Simulator, boto: Any) -> None:
    (instance_id,) = launch(ec2)
    assert boto.get_console_output(InstanceId=instance_id).keys().isdisjoint({"Output", "Timestamp"})
    ec2.instance(instance_id).console_posted = ("exit code 7 ü\n", START)
    answer = boto.get_console_output(InstanceId=instance_id)
    assert (answer["Output"], answer["Timestamp"]) == ("exit code 7 ü\n", START)


def test_an_error_is_a_client_error_with_code_message_and_status(boto: Any) -> None:
    with pytest.raises(ClientError) as caught:
        boto.terminate_instances(InstanceIds=["i-<unknown>"])
    assert caught.value.response["Error"] == {
        "Code": "InvalidInstanceID.NotFound",
        "Message": "The instance ID 'i-<unknown>' does not exist",
    }
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ApiError, match="UnknownParameter"):
        ec2_wire.parse({"Action": "CreateFleet", "Version": "2016-11-15", "Colour": "red"})


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(ApiError, match="InvalidAction"):
        ec2_wire.parse({"Action": "LaunchRocket"})


def test_a_query_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ApiError, match="MalformedQueryString"):
        ec2_wire.parse({"Action": "DescribeInstances", "MaxResults": "many"})


def test_an_answer_that_the_model_does_not_know_is_an_error() -> None:
    with pytest.raises(KeyError):
        ec2_wire.serialize("DescribeInstances", {"Colour": "red"})


def test_every_catalogue_entry_fits_the_model() -> None:
    for action, describe in catalogue.ACTIONS.items():
        answer = describe("us-east-1", {"LocationType": "availability-zone"})
        assert ec2_wire.serialize(action, answer).count(b"<item>") > 1000

"""The Describe calls, launch templates, tags and the console."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from spotjob.local.ec2 import ApiError, Simulator
from tests.local.ec2.builders import START, a_simulator, a_template, described, later, launch, listed, tags


def pages(ec2: Simulator, size: int, **request: Any) -> list[list[str]]:
    """Every page of DescribeInstances."""
    found, token = [], None
    while True:
        one = request | {"MaxResults": size} | ({"NextToken": token} if token else {})
        answer = ec2.call("DescribeInstances", one)
        found.append([raw["InstanceId"] for group in answer["Reservations"] for raw in group["Instances"]])
        token = answer.get("NextToken")
        if token is None:
            return found


def template_names(ec2: Simulator, **request: Any) -> list[str]:
    return [raw["LaunchTemplateName"] for raw in ec2.call("DescribeLaunchTemplates", request)["LaunchTemplates"]]


def refusal(ec2: Simulator, action: str, **request: Any) -> str:
    with pytest.raises(ApiError) as caught:
        ec2.call(action, request)
    return caught.value.code


# ---- DescribeInstances


def test_pages_hold_every_instance_once_and_in_launch_order() -> None:
    ec2 = a_simulator()
    launched = launch(ec2, 7) + launch(ec2, 5)
    found = pages(ec2, 5)
    assert [len(one) for one in found] == [5, 5, 2]
    assert [instance_id for one in found for instance_id in one] == launched


def test_a_page_of_exactly_the_rest_is_the_last() -> None:
    ec2 = a_simulator()
    launch(ec2, 10)
    assert [len(one) for one in pages(ec2, 5)] == [5, 5]


def test_pages_survive_that_the_last_instance_of_a_page_stops_to_match() -> None:
    ec2 = a_simulator()
    launched = launch(ec2, 8)
    pending = [{"Name": "instance-state-name", "Values": ["pending"]}]
    first = ec2.call("DescribeInstances", {"Filters": pending, "MaxResults": 5})
    ec2.call("TerminateInstances", {"InstanceIds": [launched[4]]})
    rest = ec2.call("DescribeInstances", {"Filters": pending, "MaxResults": 5, "NextToken": first["NextToken"]})
    assert [raw["InstanceId"] for raw in rest["Reservations"][0]["Instances"]] == launched[5:]


def test_ids_and_pages_exclude_each_other() -> None:
    ec2 = a_simulator()
    (instance_id,) = launch(ec2)
    code = refusal(ec2, "DescribeInstances", InstanceIds=[instance_id], MaxResults=5)
    assert code == "InvalidParameterCombination"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tag:job", "one"),
        ("tag:job", "o?e"),
        ("tag-key", "job"),
        ("instance-state-name", "pending"),
        ("client-token", "first"),
        ("instance-lifecycle", "spot"),
        ("instance-type", "m6i.*"),
    ],
)
def test_a_filter_finds_the_instance_and_only_that(name: str, value: str) -> None:
    ec2 = a_simulator()
    (other,) = launch(ec2, types=("c6i.large",), token="second")
    later(ec2, 60)
    (wanted,) = launch(ec2, tags={"job": "one"}, token="first")
    answer = ec2.call("DescribeInstances", {"Filters": [{"Name": name, "Values": [value]}]})
    found = [raw["InstanceId"] for group in answer["Reservations"] for raw in group["Instances"]]
    assert wanted in found
    assert (other in found) == (name == "instance-lifecycle")


def test_an_unknown_id_in_a_filter_is_just_missing() -> None:
    ec2 = a_simulator()
    launch(ec2)
    assert listed(ec2, instance_id="i-unknown") == []


def test_an_unknown_filter_is_refused() -> None:
    code = refusal(a_simulator(), "DescribeInstances", Filters=[{"Name": "colour", "Values": ["red"]}])
    assert code == "InvalidParameterValue"


def test_status_checks_show_running_instances_only_and_an_impaired_one_as_such() -> None:
    ec2 = a_simulator(boot=30)
    (instance_id,) = launch(ec2)
    assert ec2.call("DescribeInstanceStatus", {})["InstanceStatuses"] == []
    later(ec2, 30)
    ec2.impair(instance_id)
    (status,) = ec2.call("DescribeInstanceStatus", {})["InstanceStatuses"]
    assert status["InstanceStatus"]["Status"] == "impaired"


@pytest.mark.parametrize("check", ["instance-status.status", "system-status.status"])
def test_impaired_instances_are_picked_by_filter_until_their_checks_hold_again(check: str) -> None:
    ec2 = a_simulator(boot=0)
    one, _ = launch(ec2, 2)
    later(ec2, 0)
    filters = [{"Name": check, "Values": ["impaired"]}]

    def impaired() -> list[str]:
        answer = ec2.call("DescribeInstanceStatus", {"Filters": filters, "MaxResults": 1000})
        return [raw["InstanceId"] for raw in answer["InstanceStatuses"]]

    assert impaired() == []
    ec2.impair(one)
    assert impaired() == [one]
    ec2.impair(one, on=False)
    assert impaired() == []


def test_status_checks_cannot_be_picked_by_tag() -> None:
    ec2 = a_simulator()
    filters = [{"Name": "tag:from", "Values": ["template"]}]
    assert refusal(ec2, "DescribeInstanceStatus", Filters=filters) == "InvalidParameterValue"


def test_pages_of_status_checks_are_full_though_other_instances_lie_between() -> None:
    ec2 = a_simulator(boot=0)
    launched = launch(ec2, 12)
    later(ec2, 0)
    ec2.call("TerminateInstances", {"InstanceIds": launched[:6]})
    answer = ec2.call("DescribeInstanceStatus", {"MaxResults": 6})
    assert [raw["InstanceId"] for raw in answer["InstanceStatuses"]] == launched[6:]
    assert "NextToken" not in answer


def test_spot_requests_are_picked_by_status_code_and_tag() -> None:
    ec2 = a_simulator(boot=0)
    one, _ = launch(ec2, 2)
    ec2.interrupt(one)

    def picked(**filters: str) -> list[str]:
        wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
        answer = ec2.call("DescribeSpotInstanceRequests", {"Filters": wanted, "MaxResults": 1000})
        return [raw["InstanceId"] for raw in answer["SpotInstanceRequests"]]

    assert picked(status_code="instance-terminated-no-capacity", **{"tag:kind": "request"}) == [one]
    assert picked(status_code="instance-terminated-no-capacity", **{"tag:kind": "other"}) == []
    assert len(picked(status_code="fulfilled")) == 1


def test_created_tags_show_and_can_be_filtered_by() -> None:
    ec2 = a_simulator()
    (instance_id,) = launch(ec2)
    ec2.call("CreateTags", {"Resources": [instance_id], "Tags": [{"Key": "late", "Value": "yes"}]})
    assert tags(described(ec2, instance_id))["late"] == "yes"
    assert listed(ec2, **{"tag:late": "yes"}) == [instance_id]


def test_reserved_tags_cannot_be_created() -> None:
    ec2 = a_simulator()
    resources = launch(ec2)
    assert refusal(ec2, "CreateTags", Resources=resources, Tags=[{"Key": "aws:x"}]) == "InvalidParameterValue"


def console(ec2: Simulator, instance_id: str, **request: Any) -> tuple[str | None, datetime | None]:
    """The text and its time, None for what the answer lacks."""
    answer = ec2.call("GetConsoleOutput", {"InstanceId": instance_id, **request})
    return answer.get("Output"), answer.get("Timestamp")


def test_an_instance_that_has_not_run_yet_has_no_console() -> None:
    ec2 = a_simulator()
    (instance_id,) = launch(ec2)
    assert console(ec2, instance_id) == (None, None)


def test_the_console_is_that_of_the_last_change_of_state_with_its_time() -> None:
    ec2 = a_simulator(boot=30, shutdown_seconds=20)
    (instance_id,) = launch(ec2)
    later(ec2, 30)
    booted = ec2.now
    ec2.instance(instance_id).console = "exit code 7\n"
    later(ec2, 100)
    assert console(ec2, instance_id) == ("", booted), "nobody looks at a running machine unasked"
    ec2.call("TerminateInstances", {"InstanceIds": [instance_id]})
    ec2.instance(instance_id).console += "powered off\n"
    later(ec2, 20)
    terminated = ec2.now
    later(ec2, 1000)
    assert console(ec2, instance_id) == ("exit code 7\npowered off\n", terminated)


def test_a_terminated_instance_keeps_its_console_for_an_hour() -> None:
    ec2 = a_simulator(boot=0, shutdown_seconds=0)
    (instance_id,) = launch(ec2)
    ec2.call("TerminateInstances", {"InstanceIds": [instance_id]})
    later(ec2, 3599)
    assert console(ec2, instance_id)[0] is not None
    later(ec2, 1)
    assert refusal(ec2, "GetConsoleOutput", InstanceId=instance_id) == "InvalidInstanceID.NotFound"


def test_a_console_can_be_late_and_says_when_it_was_taken() -> None:
    ec2 = a_simulator(boot=0, shutdown_seconds=10, console_seconds=60)
    (instance_id,) = launch(ec2)
    later(ec2, 100)
    running_since = START
    ec2.instance(instance_id).console = "the end\n"
    ec2.call("TerminateInstances", {"InstanceIds": [instance_id]})
    later(ec2, 10)
    terminated = ec2.now
    later(ec2, 59)
    assert console(ec2, instance_id) == ("", running_since)
    later(ec2, 1)
    assert console(ec2, instance_id) == ("the end\n", terminated)


def test_the_latest_console_can_be_had_from_a_running_machine_only() -> None:
    ec2 = a_simulator(boot=0)
    (instance_id,) = launch(ec2)
    later(ec2, 5)
    ec2.instance(instance_id).console = "half way\n"
    assert console(ec2, instance_id, Latest=True) == ("half way\n", ec2.now)
    ec2.call("TerminateInstances", {"InstanceIds": [instance_id]})
    assert refusal(ec2, "GetConsoleOutput", InstanceId=instance_id, Latest=True) == "UnsupportedOperation"


def test_of_a_console_the_last_64_kb_are_kept() -> None:
    ec2 = a_simulator(boot=0)
    (instance_id,) = launch(ec2)
    later(ec2, 0)
    ec2.instance(instance_id).console = "first" + "x" * 65536 + "last"
    text, _ = console(ec2, instance_id, Latest=True)
    assert text is not None
    assert (len(text), text[:4], text[-4:]) == (65536, "xxxx", "last")


# ---- launch templates


def test_a_launch_template_is_found_by_name_tag_and_page() -> None:
    ec2 = a_simulator()
    tagged = [{"ResourceType": "launch-template", "Tags": [{"Key": "cluster", "Value": "a"}]}]
    for name in ("one", "two", "three"):
        ec2.call("CreateLaunchTemplate", a_template(name) | {"TagSpecifications": tagged})
    assert template_names(ec2, LaunchTemplateNames=["two"]) == ["two"]
    assert template_names(ec2, Filters=[{"Name": "tag:cluster", "Values": ["a"]}]) == ["one", "three", "two"]
    first = ec2.call("DescribeLaunchTemplates", {"MaxResults": 3})
    assert template_names(ec2, MaxResults=3, NextToken=first["NextToken"]) == ["two"]


def test_a_launch_template_name_is_taken_once() -> None:
    code = refusal(a_simulator(), "CreateLaunchTemplate", **a_template("jobs"))
    assert code == "InvalidLaunchTemplateName.AlreadyExistsException"


def test_a_deleted_launch_template_is_gone() -> None:
    ec2 = a_simulator()
    ec2.call("DeleteLaunchTemplate", {"LaunchTemplateName": "jobs"})
    gone = "InvalidLaunchTemplateName.NotFoundException"
    assert refusal(ec2, "DescribeLaunchTemplates", LaunchTemplateNames=["jobs"]) == gone
    assert refusal(ec2, "DeleteLaunchTemplate", LaunchTemplateName="jobs") == gone

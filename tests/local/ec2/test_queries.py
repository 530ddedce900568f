"""The Describe calls, launch templates, tags, console; faults, throttling and counting."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.local.ec2 import ApiError, Fault, ReplyLost, Simulator
from tests.local.ec2.builders import a_fleet, a_simulator, a_template, described, later, launch, listed, tags


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


def test_the_console_is_shown_as_written() -> None:
    ec2 = a_simulator()
    (instance_id,) = launch(ec2)
    ec2.instance(instance_id).console = "exit code 7\n"
    assert ec2.call("GetConsoleOutput", {"InstanceId": instance_id})["Output"] == "exit code 7\n"


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

"""Builders for the EC2 simulator's tests: each states only what matters to the test."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from spotjob.local.ec2 import Simulator, Surroundings, Timing

START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
ZONES = {"subnet-a": "us-east-1a", "subnet-b": "us-east-1b", "subnet-c": "us-east-1c"}


def a_simulator(
    *, seed: int = 1, boot: float | None = 30, surroundings: Surroundings | None = None, **timing: Any
) -> Simulator:
    """A region with one launch template, `jobs`."""
    ec2 = Simulator(START, seed, timing=Timing(boot_seconds=boot, **timing), surroundings=surroundings)
    ec2.call("CreateLaunchTemplate", a_template())
    return ec2


def a_template(name: str = "jobs", **data: Any) -> dict[str, Any]:
    defaults = {
        "ImageId": "ami-1",
        "UserData": base64.b64encode(b"#!/bin/sh\n").decode(),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": [{"Key": "from", "Value": "template"}]},
            {"ResourceType": "spot-instances-request", "Tags": [{"Key": "kind", "Value": "request"}]},
        ],
    }
    return {"LaunchTemplateName": name, "LaunchTemplateData": defaults | data}


def a_fleet(
    count: int = 1,
    *,
    types: Sequence[str] = ("m6i.large",),
    zones: Sequence[str] = ("us-east-1a",),
    token: str = "",
    strategy: str = "price-capacity-optimized",
    tags: Mapping[str, str] | None = None,
    template: str = "jobs",
    **overrides: Any,
) -> dict[str, Any]:
    """A CreateFleet request over every combination of types and zones."""
    by_zone = {zone: subnet for subnet, zone in ZONES.items()}
    request: dict[str, Any] = {
        "Type": "instant",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": template, "Version": "$Latest"},
                "Overrides": [
                    {"InstanceType": kind, "SubnetId": by_zone[zone], "AvailabilityZone": zone} | overrides
                    for kind in types
                    for zone in zones
                ],
            }
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": count, "DefaultTargetCapacityType": "spot"},
        "SpotOptions": {"AllocationStrategy": strategy},
    }
    if token:
        request["ClientToken"] = token
    if tags:
        pairs = [{"Key": key, "Value": value} for key, value in tags.items()]
        request["TagSpecifications"] = [{"ResourceType": "instance", "Tags": pairs}]
    return request


def on_demand(request: Mapping[str, Any]) -> dict[str, Any]:
    """The same request for on-demand instances."""
    target = dict(request["TargetCapacitySpecification"]) | {"DefaultTargetCapacityType": "on-demand"}
    rest = {key: value for key, value in request.items() if key != "SpotOptions"}
    return rest | {"TargetCapacitySpecification": target}


def launch(ec2: Simulator, count: int = 1, **fleet: Any) -> list[str]:
    """Launch and return the ids."""
    return ids(ec2.call("CreateFleet", a_fleet(count, **fleet)))


def ids(answer: Mapping[str, Any]) -> list[str]:
    return [instance_id for group in answer["Instances"] for instance_id in group["InstanceIds"]]


def error_codes(answer: Mapping[str, Any]) -> list[str]:
    return [error["ErrorCode"] for error in answer["Errors"]]


def later(ec2: Simulator, seconds: float) -> None:
    ec2.advance(ec2.now + timedelta(seconds=seconds))


def described(ec2: Simulator, instance_id: str) -> dict[str, Any]:
    """The instance as DescribeInstances shows it."""
    found = ec2.call("DescribeInstances", {"InstanceIds": [instance_id]})["Reservations"]
    raw: dict[str, Any] = found[0]["Instances"][0]
    return raw


def listed(ec2: Simulator, **filters: str) -> list[str]:
    """The ids that DescribeInstances lists under these filters (`instance_type` means `instance-type`)."""
    wanted = [{"Name": name.replace("_", "-"), "Values": [value]} for name, value in filters.items()]
    answer = ec2.call("DescribeInstances", {"Filters": wanted})
    return [raw["InstanceId"] for group in answer["Reservations"] for raw in group["Instances"]]


def state(ec2: Simulator, instance_id: str) -> str:
    return str(described(ec2, instance_id)["State"]["Name"])


def spot_request(ec2: Simulator, instance_id: str) -> dict[str, Any]:
    request = {"Filters": [{"Name": "instance-id", "Values": [instance_id]}]}
    raw: dict[str, Any] = ec2.call("DescribeSpotInstanceRequests", request)["SpotInstanceRequests"][0]
    return raw


def tags(raw: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in raw["Tags"]}

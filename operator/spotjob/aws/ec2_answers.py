"""EC2's answers, narrowed to our words: pure functions from boto3's dicts to the frozen types of the ports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from spotjob.aws.calls import Raw
from spotjob.aws.errors import fault_from
from spotjob.core.plan import CLASS_TAG, SHAPE_TAG
from spotjob.core.ports import Console, FleetAnswer
from spotjob.core.signs import NOTICE
from spotjob.core.states import CapacityType, Instance, InstanceState, Pool

RECLAIM_CODES = (
    "marked-for-termination",
    "marked-for-stop",
    "marked-for-stop-by-experiment",
    "instance-terminated-by-price",
    "instance-terminated-no-capacity",
    "instance-terminated-by-experiment",
    "instance-terminated-capacity-oversubscribed",
    "instance-stopped-by-price",
    "instance-stopped-no-capacity",
    "instance-stopped-by-experiment",
    "instance-stopped-capacity-oversubscribed",
    "capacity-oversubscribed",
)
"""Status codes of a Spot request whose instance EC2 takes back, or has taken back (aws-facts 2.11). The instance may
still run: `instance-terminated-no-capacity` is seen up to two minutes before the end."""

NEVER = datetime(1970, 1, 1, tzinfo=UTC)
"""For a console that EC2 has not fetched yet."""


def instance_from(raw: Raw, region: str) -> Instance:
    """One instance of DescribeInstances."""
    tags = {tag["Key"]: tag["Value"] for tag in raw.get("Tags", [])}
    request_id = raw.get("SpotInstanceRequestId", "")
    spot = bool(request_id) or raw.get("InstanceLifecycle") == "spot"
    return Instance(
        id=raw["InstanceId"],
        region=region,
        state=InstanceState(raw["State"]["Name"]),
        launch_time=raw["LaunchTime"].astimezone(UTC),
        instance_type=raw.get("InstanceType", ""),
        availability_zone=raw.get("Placement", {}).get("AvailabilityZone", ""),
        capacity_type=CapacityType.SPOT if spot else CapacityType.ON_DEMAND,
        spot_instance_request_id=request_id,
        shape=tags.get(SHAPE_TAG, ""),
        job_class=tags.get(CLASS_TAG, ""),
        state_reason=raw.get("StateReason", {}).get("Code", ""),
    )


def fleet_answer_from(raw: Raw, request: Mapping[str, Any], region: str, asked: datetime) -> FleetAnswer:
    """CreateFleet's answer: both lists may be absent, and both may be full."""
    tags = _instance_tags(request)
    instances = tuple(
        Instance(
            id=instance_id,
            region=region,
            state=InstanceState.PENDING,
            launch_time=asked,
            instance_type=pool.instance_type,
            availability_zone=pool.availability_zone,
            capacity_type=pool.capacity_type,
            shape=tags.get(SHAPE_TAG, ""),
            job_class=tags.get(CLASS_TAG, ""),
        )
        for pool, ids in ((_pool_of(each, request), each["InstanceIds"]) for each in raw.get("Instances", []))
        for instance_id in ids
    )
    faults = tuple(
        fault_from(each.get("ErrorCode", ""), each.get("ErrorMessage", ""), _whole(_pool_of(each, request)))
        for each in raw.get("Errors", [])
    )
    return FleetAnswer(instances, faults)


def _pool_of(entry: Raw, request: Mapping[str, Any]) -> Pool:
    """Which pool an instance or an error is about. EC2 may leave out what the request had said."""
    override = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {})
    bought = entry.get("Lifecycle") or request["TargetCapacitySpecification"]["DefaultTargetCapacityType"]
    return Pool(
        entry.get("InstanceType") or override.get("InstanceType", ""),
        entry.get("AvailabilityZone") or override.get("AvailabilityZone") or _zone_of(override, request),
        CapacityType(bought),
    )


def _whole(pool: Pool) -> Pool | None:
    """The pool, unless EC2 named only half of it."""
    return pool if pool.instance_type and pool.availability_zone else None


def _zone_of(override: Raw, request: Mapping[str, Any]) -> str:
    """The zone that the request gave for the override's subnet."""
    sent = request["LaunchTemplateConfigs"][0]["Overrides"]
    zones = {each["SubnetId"]: str(each["AvailabilityZone"]) for each in sent}
    return zones.get(override.get("SubnetId", ""), "")


def _instance_tags(request: Mapping[str, Any]) -> dict[str, str]:
    specifications = [each for each in request["TagSpecifications"] if each["ResourceType"] == "instance"]
    return {tag["Key"]: tag["Value"] for each in specifications for tag in each["Tags"]}


def reclaims_from(requests: Iterable[Raw]) -> dict[str, datetime]:
    """Requests of DescribeSpotInstanceRequests with one of RECLAIM_CODES: instance id -> about when it goes."""
    return {
        raw["InstanceId"]: raw["Status"]["UpdateTime"].astimezone(UTC) + NOTICE
        for raw in requests
        if raw.get("InstanceId")
    }


def console_from(raw: Raw) -> Console:
    """GetConsoleOutput. boto3 has decoded the text; before the first one EC2 answers neither text nor time."""
    updated_at = raw["Timestamp"].astimezone(UTC) if "Timestamp" in raw else NEVER
    return Console(raw.get("Output", ""), updated_at)

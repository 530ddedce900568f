"""What the simulator remembers of instances, spot requests and launch templates, and how EC2 words it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from spotjob.core.states import CapacityType, InstanceState, Pool

STATE_CODES = {
    InstanceState.PENDING: 0,
    InstanceState.RUNNING: 16,
    InstanceState.SHUTTING_DOWN: 32,
    InstanceState.TERMINATED: 48,
    InstanceState.STOPPING: 64,
    InstanceState.STOPPED: 80,
}
SPOT_MESSAGES = {
    "fulfilled": "Your spot request is fulfilled.",
    "marked-for-termination": "Your Spot Instance is marked for termination.",
    "instance-terminated-no-capacity": "Your Spot instance was terminated because there is no Spot capacity available.",
    "instance-terminated-by-user": "Your Spot instance was terminated by user.",
}


def state_of(state: InstanceState) -> dict[str, Any]:
    """EC2's InstanceState structure."""
    return {"Code": STATE_CODES[state], "Name": str(state)}


def tag_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


@dataclass(slots=True)
class Template:
    """A launch template. It has exactly one version."""

    id: str
    name: str
    data: Mapping[str, Any]
    """RequestLaunchTemplateData as it came."""
    created: datetime
    tags: dict[str, str]

    def tags_for(self, kind: str) -> dict[str, str]:
        """The tags that this template puts on what it launches, by resource type."""
        return tags_for(self.data.get("TagSpecifications", ()), kind)

    def describe(self) -> dict[str, Any]:
        return {
            "LaunchTemplateId": self.id,
            "LaunchTemplateName": self.name,
            "CreateTime": self.created,
            "CreatedBy": "arn:aws:iam::123456789012:root",
            "DefaultVersionNumber": 1,
            "LatestVersionNumber": 1,
            "Tags": tag_list(self.tags),
        }


def tags_for(specifications: Any, kind: str) -> dict[str, str]:
    """Flatten TagSpecifications to the tags of one resource type."""
    return {
        tag["Key"]: tag.get("Value", "")
        for specification in specifications
        if specification.get("ResourceType") == kind
        for tag in specification.get("Tags", ())
    }


@dataclass(slots=True)
class SpotRequest:
    """The one-time spot request behind one spot instance."""

    id: str
    instance_id: str
    pool: Pool
    image_id: str
    created: datetime
    updated: datetime
    tags: dict[str, str]
    state: str = "active"
    code: str = "fulfilled"

    def become(self, state: str, code: str, now: datetime) -> None:
        self.state, self.code, self.updated = state, code, now

    def describe(self) -> dict[str, Any]:
        return {
            "SpotInstanceRequestId": self.id,
            "InstanceId": self.instance_id,
            "State": self.state,
            "Status": {"Code": self.code, "Message": SPOT_MESSAGES[self.code], "UpdateTime": self.updated},
            "Type": "one-time",
            "CreateTime": self.created,
            "InstanceInterruptionBehavior": "terminate",
            "LaunchedAvailabilityZone": self.pool.availability_zone,
            "LaunchSpecification": {"ImageId": self.image_id, "InstanceType": self.pool.instance_type},
            "ProductDescription": "Linux/UNIX",
            "Tags": tag_list(self.tags),
        }


@dataclass(slots=True)
class Ec2Instance:
    """One instance, from its launch until EC2 forgets it."""

    serial: int
    """Launch order: what pages are cut by."""
    id: str
    reservation: str
    pool: Pool
    data: Mapping[str, Any]
    """RequestLaunchTemplateData merged with the fleet's overrides."""
    launched: datetime
    tags: dict[str, str]
    client_token: str
    spot_request: SpotRequest | None = None
    state: InstanceState = InstanceState.PENDING
    ends_as: InstanceState = InstanceState.TERMINATED
    """Where shutting-down or stopping leads."""
    shutdown_began: datetime | None = None
    reason: tuple[str, str] = ("", "")
    """StateReason: code and message."""
    transition: str = ""
    """StateTransitionReason."""
    reclaim_at: datetime | None = None
    """Set by the interruption notice."""
    rebalance_at: datetime | None = None
    """Set by the rebalance recommendation."""
    impaired: bool = False
    """Both status checks fail."""
    console: str = field(default="", repr=False)
    """All that the machine has written to its serial console so far."""
    console_posted: tuple[str, datetime] | None = field(default=None, repr=False)
    """What EC2 shows of it without `Latest`: the text at the last change of state, and the time of that change."""

    @property
    def alive(self) -> bool:
        """Neither terminated nor on the way there."""
        return self.state not in (InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)

    @property
    def status_check(self) -> str:
        """What DescribeInstanceStatus says of the instance and of its system."""
        if self.state is not InstanceState.RUNNING:
            return "not-applicable"
        return "impaired" if self.impaired else "ok"

    @property
    def spot(self) -> bool:
        return self.pool.capacity_type is CapacityType.SPOT

    @property
    def instance_profile(self) -> str:
        """Name of the instance profile, empty when there is none."""
        profile = self.data.get("IamInstanceProfile", {})
        return str(profile.get("Name") or profile.get("Arn", "").rpartition("/")[2])

    def describe(self) -> dict[str, Any]:
        """EC2's Instance structure, without the keys that EC2 leaves out too."""
        return self._always() | self._by_launch() | self._by_state()

    def _always(self) -> dict[str, Any]:
        return {
            "InstanceId": self.id,
            "ImageId": self.data.get("ImageId", ""),
            "InstanceType": self.pool.instance_type,
            "State": state_of(self.state),
            "LaunchTime": self.launched,
            "Placement": {"AvailabilityZone": self.pool.availability_zone, "Tenancy": "default"},
            "StateTransitionReason": self.transition,
            "ClientToken": self.client_token,
            "Tags": tag_list(self.tags),
        }

    def _by_launch(self) -> dict[str, Any]:
        raw: dict[str, Any] = {"SecurityGroups": [{"GroupId": group} for group in security_groups(self.data)]}
        if self.spot_request is not None:
            raw |= {"InstanceLifecycle": "spot", "SpotInstanceRequestId": self.spot_request.id}
        if self.instance_profile:
            raw["IamInstanceProfile"] = {
                "Arn": f"arn:aws:iam::123456789012:instance-profile/{self.instance_profile}",
                "Id": "AIPASIMULATED",
            }
        if "MetadataOptions" in self.data:
            raw["MetadataOptions"] = {"State": "applied"} | dict(self.data["MetadataOptions"])
        return raw

    def _by_state(self) -> dict[str, Any]:
        raw: dict[str, Any] = {}
        code, message = self.reason
        if code:
            raw["StateReason"] = {"Code": code, "Message": message}
        if self.state is not InstanceState.TERMINATED and "SubnetId" in self.data:
            raw["SubnetId"] = self.data["SubnetId"]
        return raw


def security_groups(data: Mapping[str, Any]) -> list[str]:
    """Group ids of launch data, from either place where they may stand."""
    groups = list(data.get("SecurityGroupIds", ()))
    for interface in data.get("NetworkInterfaces", ()):
        groups.extend(interface.get("Groups", ()))
    return groups

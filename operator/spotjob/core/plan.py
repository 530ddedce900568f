"""Requests to EC2 that launch instances, built whole: the line that sends them adds nothing.

One launch template per class generation, AMI, user data and way of buying; one CreateFleet(instant) per batch over
many pools. Names derive from what is sent, so that equal names always mean equal contents.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotjob.core.ports import LaunchTemplate, Place, Subnet
from spotjob.core.quantities import parse_quantity
from spotjob.core.resources import SpotJobClass, SpotJobClassSpec, Volume
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType, Pool

CLUSTER_TAG = "spotjob.cluster"
"""The cluster's name: IAM policies scope on it."""
CLUSTER_UID_TAG = "spotjob.cluster-uid"
"""The uid of namespace kube-system: sweep and poll act on it."""
CLASS_TAG = "spotjob.class"
"""The SpotJobClass, whose limit the instance counts against."""
SHAPE_TAG = "spotjob.shape"
"""Which jobs an instance may serve. No tag key holds a slash, or tags in IMDS would forbid the launch."""

SPLIT_FROM = 10
"""A batch of this size is launched by two calls over disjoint pools, so that one reclaim cannot take it all."""
IO2_IOPS = 3000
"""io2 must be given a figure; this is what gp3 has for nothing."""


# ---- launch template ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Disk:
    """The root volume of an instance."""

    device: str
    size_gib: int
    type: str
    encrypted: bool

    def mapping(self) -> dict[str, Any]:
        """As BlockDeviceMappings takes it: the same members in a launch template and in an override."""
        iops = {"Iops": IO2_IOPS} if self.type == "io2" else {}
        ebs = {"VolumeSize": self.size_gib, "VolumeType": self.type, "Encrypted": self.encrypted, **iops}
        return {"DeviceName": self.device, "Ebs": {**ebs, "DeleteOnTermination": True}}


def class_disk(volume: Volume, place: Place) -> Disk:
    """The root volume that the class prescribes."""
    return Disk(place.root_device, volume.size_gib, volume.type, volume.encrypted)


def larger_disk(spec: SpotJobSpec, job_class: SpotJobClassSpec, place: Place) -> Disk | None:
    """The root volume of a job whose ephemeral-storage exceeds the class's volume; None when the class's will do."""
    wanted = parse_quantity(spec.resources.requests.ephemeral_storage or "0")
    gib = math.ceil(wanted / 2**30)
    volume = job_class.volume
    return class_disk(volume.model_copy(update={"size_gib": gib}), place) if gib > volume.size_gib else None


def launch_template(
    job_class: SpotJobClass,
    place: Place,
    architecture: str,
    user_data: str,
    *,
    user_data_key: str,
    capacity_type: CapacityType,
    tags: Mapping[str, str],
) -> LaunchTemplate:
    """Everything about an instance but its type, zone and shape.

    `user_data` is the script in plain text. `user_data_key` stands for its meaning in the template's name, since
    a gzip inside it differs between Python versions. `tags` are those of `tags_of`.
    """
    spec = job_class.spec
    data = {
        "ImageId": place.image_id,
        "SecurityGroupIds": list(spec.security_groups),
        **({"IamInstanceProfile": {"Name": spec.instance_profile}} if spec.instance_profile else {}),
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": _metadata_options(spec),
        "BlockDeviceMappings": [class_disk(spec.volume, place).mapping()],
        "TagSpecifications": _tag_specifications(_tagged_by_template(capacity_type), tags),
    }
    name = f"spotjob-{_digest([data, user_data_key, architecture])}"
    encoded = base64.b64encode(user_data.encode()).decode()
    return LaunchTemplate(name=name, data={**data, "UserData": encoded}, tags=tags)


def tags_of(job_class: SpotJobClass, cluster_name: str, cluster_uid: str) -> dict[str, str]:
    """Tags on everything that is launched for a class. Ours win over the administrator's."""
    ours = {CLUSTER_TAG: cluster_name, CLUSTER_UID_TAG: cluster_uid, CLASS_TAG: job_class.name}
    return {**job_class.spec.tags, **ours}


def _metadata_options(spec: SpotJobClassSpec) -> dict[str, Any]:
    """IMDSv2 only. A container is one hop further than its host, so hop limit 1 keeps it out."""
    return {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 2 if spec.metadata_access == "instance-role" else 1,
        "InstanceMetadataTags": "disabled",
    }


def _tagged_by_template(capacity_type: CapacityType) -> list[str]:
    """What CreateFleet cannot tag. EC2 refuses to tag a spot request that an on-demand launch does not make."""
    spot = ["spot-instances-request"] if capacity_type is CapacityType.SPOT else []
    return ["network-interface", *spot]


# ---- CreateFleet --------------------------------------------------------------------------------------------------


def shape_of(template_name: str, pools: Iterable[Pool], capacity_type: CapacityType, disk: Disk | None = None) -> str:
    """What two jobs must have in common to be served by the same instances, as 16 hex digits."""
    named = sorted([pool.instance_type, pool.availability_zone] for pool in pools)
    return _digest([template_name, named, capacity_type, disk.mapping() if disk else None])


def fleet_request(
    template_name: str,
    pools: Sequence[Pool],
    subnets: Iterable[Subnet],
    count: int,
    capacity_type: CapacityType,
    shape: str,
    client_token: str,
    tags: Mapping[str, str],
    disk: Disk | None = None,
) -> dict[str, Any]:
    """The whole CreateFleet request for `count` instances of one shape.

    No MinTargetCapacity: part of a batch is better than nothing. Every pool's zone must have a subnet; the first
    one given is used, as EC2 refuses a pool that is named twice.
    """
    return {
        "Type": "instant",
        "ClientToken": client_token,
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": template_name, "Version": "$Latest"},
                "Overrides": _overrides(pools, subnets, disk),
            }
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": count,
            "DefaultTargetCapacityType": capacity_type.value,
        },
        **_allocation(capacity_type),
        "TagSpecifications": _tag_specifications(["instance", "volume", "fleet"], {**tags, SHAPE_TAG: shape}),
    }


def _overrides(pools: Iterable[Pool], subnets: Iterable[Subnet], disk: Disk | None) -> list[dict[str, Any]]:
    """One per pool. Subnet and zone both, so that EC2's errors name the zone."""
    subnet_in = {subnet.availability_zone: subnet.id for subnet in reversed(list(subnets))}
    devices = {"BlockDeviceMappings": [disk.mapping()]} if disk else {}
    return [
        {
            "InstanceType": pool.instance_type,
            "SubnetId": subnet_in[pool.availability_zone],
            "AvailabilityZone": pool.availability_zone,
            **devices,
        }
        for pool in pools
    ]


def _allocation(capacity_type: CapacityType) -> dict[str, Any]:
    """Spot: the deepest pools first, then the cheapest. EC2's own default is the cheapest, which is soon reclaimed."""
    match capacity_type:
        case CapacityType.SPOT:
            return {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"}}
        case CapacityType.ON_DEMAND:
            return {"OnDemandOptions": {"AllocationStrategy": "lowest-price"}}


def _tag_specifications(kinds: Iterable[str], tags: Mapping[str, str]) -> list[dict[str, Any]]:
    listed = [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
    return [{"ResourceType": kind, "Tags": listed} for kind in kinds]


def _digest(what: Any) -> str:
    """16 hex digits of canonical JSON."""
    return hashlib.sha256(json.dumps(what, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]


# ---- splitting a batch --------------------------------------------------------------------------------------------


def split(pools: Sequence[Pool], count: int) -> list[tuple[tuple[Pool, ...], int]]:
    """The calls that launch a batch: which pools each may use, and how many instances it asks for.

    The two halves of a large batch share no pool, and each keeps every zone and every type that has two pools.
    """
    if count < SPLIT_FROM or len(pools) < 2:
        return [(tuple(pools), count)]
    one, other = _halves(pools)
    return [(one, count - count // 2), (other, count // 2)]


def _halves(pools: Sequence[Pool]) -> tuple[tuple[Pool, ...], tuple[Pool, ...]]:
    """Euler's way: types and zones are the two sides of a graph, pools its edges.

    Follow trails through it and deal their edges to the halves in turn. Each visit to a type or zone then spends one
    edge on either half; trails that close are even, as every cycle of a two-sided graph is.
    """
    edges: dict[str, list[Pool]] = defaultdict(list)
    for pool in pools:
        edges[pool.instance_type].append(pool)
        edges[pool.availability_zone].append(pool)
    halves: tuple[list[Pool], list[Pool]] = ([], [])
    while ends := [end for end in edges if edges[end]]:
        # Odd ends first: begun elsewhere, a trail would end there and leave its start with two edges in one half.
        start = min(ends, key=lambda end: (len(edges[end]) % 2 == 0, end))
        turn = len(halves[0]) > len(halves[1])
        for pool in _trail(edges, start):
            halves[turn].append(pool)
            turn = not turn
    position = {pool: n for n, pool in enumerate(pools)}
    return tuple(sorted(halves[0], key=position.__getitem__)), tuple(sorted(halves[1], key=position.__getitem__))


def _trail(edges: Mapping[str, list[Pool]], start: str) -> Iterable[Pool]:
    """Walk until no edge leads on, and take away every edge that was walked."""
    here = start
    while edges[here]:
        pool = edges[here][-1]
        ends = {pool.instance_type, pool.availability_zone}
        for end in ends:
            edges[end].remove(pool)
        yield pool
        (here,) = ends - {here}

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.plan import Disk, fleet_request, larger_disk, launch_template, shape_of, split, tags_of
from spotjob.core.ports import LaunchTemplate, Place, Subnet
from spotjob.core.resources import SpotJobClass
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType, Pool

SPOT, ON_DEMAND = CapacityType.SPOT, CapacityType.ON_DEMAND
SUBNETS = (Subnet("subnet-a", "us-east-1a"), Subnet("subnet-b", "us-east-1b"))
PLACE = Place(image_id="ami-1", subnets=SUBNETS, instance_types=(), offered=frozenset())


def a_class(**spec: Any) -> SpotJobClass:
    default = {
        "region": "us-east-1",
        "subnets": {"ids": ["subnet-a"]},
        "securityGroups": ["sg-1", "sg-2"],
        "apiURL": "https://api.example.com",
    }
    return SpotJobClass.model_validate({"metadata": {"name": "standard"}, "spec": {**default, **spec}})


def a_template(
    job_class: SpotJobClass | None = None,
    place: Place = PLACE,
    architecture: str = "amd64",
    user_data: str = "#!/bin/sh\n",
    user_data_key: str = "key",
    capacity_type: CapacityType = SPOT,
    cluster_uid: str = "uid-1",
) -> LaunchTemplate:
    return launch_template(
        job_class or a_class(),
        place,
        architecture,
        user_data,
        user_data_key=user_data_key,
        capacity_type=capacity_type,
        tags=tags_of(job_class or a_class(), "prod", cluster_uid),
    )


def pools_of(types: str, zones: str, capacity_type: CapacityType = SPOT) -> list[Pool]:
    return [Pool(f"{t}6i.large", f"us-east-1{zone}", capacity_type) for t in types for zone in zones]


OUR_TAGS = [
    {"Key": "spotjob.class", "Value": "standard"},
    {"Key": "spotjob.cluster", "Value": "prod"},
    {"Key": "spotjob.cluster-uid", "Value": "uid-1"},
]


# ---- launch template ----------------------------------------------------------------------------------------------


def test_a_launch_template_holds_all_that_an_instance_needs_and_nothing_of_a_job() -> None:
    template = a_template(user_data="#!/bin/sh\necho é\n")
    assert template.data == {
        "ImageId": "ami-1",
        "SecurityGroupIds": ["sg-1", "sg-2"],
        "InstanceInitiatedShutdownBehavior": "terminate",
        "MetadataOptions": {
            "HttpEndpoint": "enabled",
            "HttpTokens": "required",
            "HttpPutResponseHopLimit": 1,
            "InstanceMetadataTags": "disabled",
        },
        "BlockDeviceMappings": [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 30, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ],
        "TagSpecifications": [
            {"ResourceType": "network-interface", "Tags": OUR_TAGS},
            {"ResourceType": "spot-instances-request", "Tags": OUR_TAGS},
        ],
        "UserData": base64.b64encode("#!/bin/sh\necho é\n".encode()).decode(),
    }
    assert template.tags == {
        "spotjob.class": "standard",
        "spotjob.cluster": "prod",
        "spotjob.cluster-uid": "uid-1",
    }


def test_a_class_may_give_a_profile_a_volume_tags_and_access_to_the_metadata_service() -> None:
    job_class = a_class(
        instanceProfile="jobs",
        volume={"sizeGiB": 100, "type": "io2", "encrypted": False},
        tags={"team": "data", "spotjob.cluster": "another"},
        metadataAccess="instance-role",
    )
    data = a_template(job_class).data
    assert data["IamInstanceProfile"] == {"Name": "jobs"}
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert data["BlockDeviceMappings"][0]["Ebs"] == {
        "VolumeSize": 100,
        "VolumeType": "io2",
        "Encrypted": False,
        "Iops": 3000,
        "DeleteOnTermination": True,
    }
    assert data["TagSpecifications"][0]["Tags"] == [*OUR_TAGS, {"Key": "team", "Value": "data"}]


def test_an_on_demand_template_tags_no_spot_request() -> None:
    kinds = [each["ResourceType"] for each in a_template(capacity_type=ON_DEMAND).data["TagSpecifications"]]
    assert kinds == ["network-interface"]


def test_the_root_volume_is_mapped_to_the_device_of_the_ami() -> None:
    place = Place("ami-1", SUBNETS, (), frozenset(), root_device="/dev/sda1")
    assert a_template(place=place).data["BlockDeviceMappings"][0]["DeviceName"] == "/dev/sda1"


def test_the_name_follows_from_what_is_sent() -> None:
    assert a_template().name == a_template().name
    others = [
        a_template(a_class(securityGroups=["sg-2"])),
        a_template(place=Place("ami-2", SUBNETS, (), frozenset())),
        a_template(architecture="arm64"),
        a_template(user_data_key="another"),
        a_template(capacity_type=ON_DEMAND),
        a_template(cluster_uid="uid-2"),
    ]
    names = {template.name for template in [a_template(), *others]}
    assert len(names) == 7
    assert all(name.startswith("spotjob-") and len(name) == 24 for name in names)


def test_the_name_does_not_depend_on_how_the_user_data_was_packed() -> None:
    assert a_template(user_data="gzip of 3.11").name == a_template(user_data="gzip of 3.14").name


# ---- disks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "gib"),
    [(None, None), ("20Gi", None), ("30Gi", None), ("31Gi", 31), ("30.1Gi", 31), ("100G", 94), ("1Ti", 1024)],
)
def test_the_disk_grows_only_when_the_class_has_too_little(wanted: str | None, gib: int | None) -> None:
    requests = {"ephemeral-storage": wanted} if wanted else {}
    spec = SpotJobSpec.model_validate({"image": "busybox", "resources": {"requests": requests}})
    disk = larger_disk(spec, a_class().spec, PLACE)
    assert disk == (Disk("/dev/xvda", gib, "gp3", encrypted=True) if gib else None)


# ---- shape --------------------------------------------------------------------------------------------------------


def test_equal_launches_have_equal_shapes_whatever_the_order_of_their_pools() -> None:
    pools = pools_of("mc", "ab")
    assert shape_of("t", pools, SPOT) == shape_of("t", pools[::-1], SPOT)


def test_whatever_changes_the_launch_changes_the_shape() -> None:
    pools, disk = pools_of("mc", "ab"), Disk("/dev/xvda", 100, "gp3", encrypted=True)
    shapes = {
        shape_of("t", pools, SPOT),
        shape_of("u", pools, SPOT),
        shape_of("t", pools[1:], SPOT),
        shape_of("t", pools, ON_DEMAND),
        shape_of("t", pools, SPOT, disk),
    }
    assert len(shapes) == 5


# ---- CreateFleet --------------------------------------------------------------------------------------------------


def test_a_fleet_request_names_every_pool_once() -> None:
    request = fleet_request(
        "spotjob-1", pools_of("mc", "ab"), SUBNETS, 3, SPOT, "shape-1", "token-1", tags_of(a_class(), "prod", "uid-1")
    )
    tags = [*OUR_TAGS, {"Key": "spotjob.shape", "Value": "shape-1"}]
    assert request == {
        "Type": "instant",
        "ClientToken": "token-1",
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateName": "spotjob-1", "Version": "$Latest"},
                "Overrides": [
                    {"InstanceType": "m6i.large", "SubnetId": "subnet-a", "AvailabilityZone": "us-east-1a"},
                    {"InstanceType": "m6i.large", "SubnetId": "subnet-b", "AvailabilityZone": "us-east-1b"},
                    {"InstanceType": "c6i.large", "SubnetId": "subnet-a", "AvailabilityZone": "us-east-1a"},
                    {"InstanceType": "c6i.large", "SubnetId": "subnet-b", "AvailabilityZone": "us-east-1b"},
                ],
            }
        ],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 3, "DefaultTargetCapacityType": "spot"},
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
        "TagSpecifications": [
            {"ResourceType": "instance", "Tags": tags},
            {"ResourceType": "volume", "Tags": tags},
            {"ResourceType": "fleet", "Tags": tags},
        ],
    }


def test_an_on_demand_fleet_has_no_spot_options() -> None:
    request = fleet_request("t", pools_of("m", "a", ON_DEMAND), SUBNETS, 1, ON_DEMAND, "s", "token", {})
    assert request["TargetCapacitySpecification"]["DefaultTargetCapacityType"] == "on-demand"
    assert request["OnDemandOptions"] == {"AllocationStrategy": "lowest-price"}
    assert "SpotOptions" not in request


def test_only_one_subnet_of_a_zone_is_used() -> None:
    subnets = [*SUBNETS, Subnet("subnet-a2", "us-east-1a")]
    request = fleet_request("t", pools_of("m", "ab"), subnets, 1, SPOT, "s", "token", {})
    used = [override["SubnetId"] for override in request["LaunchTemplateConfigs"][0]["Overrides"]]
    assert used == ["subnet-a", "subnet-b"]


def test_a_larger_disk_rides_on_every_override() -> None:
    disk = Disk("/dev/xvda", 100, "gp3", encrypted=True)
    request = fleet_request("t", pools_of("m", "ab"), SUBNETS, 1, SPOT, "s", "token", {}, disk)
    for override in request["LaunchTemplateConfigs"][0]["Overrides"]:
        assert override["BlockDeviceMappings"] == [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 100, "VolumeType": "gp3", "Encrypted": True, "DeleteOnTermination": True},
            }
        ]


# ---- splitting a batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pools", "count"), [(pools_of("mc", "ab"), 9), (pools_of("m", "a"), 100)])
def test_small_batches_and_single_pools_are_not_split(pools: list[Pool], count: int) -> None:
    assert split(pools, count) == [(tuple(pools), count)]


def test_a_batch_of_ten_is_dealt_over_a_chequerboard() -> None:
    m_a, m_b, c_a, c_b = pools_of("mc", "ab")
    (one, five), (other, also_five) = split([m_a, m_b, c_a, c_b], 10)
    assert {frozenset(one), frozenset(other)} == {frozenset({m_a, c_b}), frozenset({m_b, c_a})}
    assert (five, also_five) == (5, 5)


@given(st.sets(st.sampled_from(pools_of("abcdefgh", "abcdef")), min_size=2), st.integers(10, 1000))
def test_neither_half_loses_a_zone_or_type_that_has_two_pools(chosen: set[Pool], count: int) -> None:
    pools = sorted(chosen)
    (one, first), (other, second) = split(pools, count)
    assert sorted([*one, *other]) == pools
    assert one
    assert other
    assert first + second == count
    assert 0 <= first - second <= 1
    for named in (lambda pool: pool.instance_type, lambda pool: pool.availability_zone):
        for end in {named(pool) for pool in pools}:
            shares = [sum(named(pool) == end for pool in half) for half in (one, other)]
            assert abs(shares[0] - shares[1]) <= 1

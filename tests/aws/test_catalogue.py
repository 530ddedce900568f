"""What a class resolves to, and a whole launch as it is planned from that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
import pytest

from spotjob.aws.catalogue import instance_type_from
from spotjob.aws.ec2 import BotoEc2
from spotjob.core import plan
from spotjob.core.offerings import Refused, admissible
from spotjob.core.ports import Ec2, Ec2Error, Ec2Unanswered, InstanceType
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJobClass
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Fault, Simulator
from tests.aws.clock import ManualClock

ECS_IMAGE = "ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"


@pytest.fixture
def ec2(region: Callable[[ManualClock], BotoEc2], clock: ManualClock, simulator: Simulator) -> Ec2:
    return region(clock)


@pytest.fixture
def network(server: AwsServer) -> dict[str, Any]:
    return server.moto.network()


@pytest.fixture
def a_class(network: dict[str, Any]) -> Callable[..., SpotJobClass]:
    """Builds a class in the default VPC; says only what matters to the test."""

    def build(allow: tuple[str, ...] = ("m6i.large", "c6i.*"), **spec: Any) -> SpotJobClass:
        default = {
            "region": "us-east-1",
            "subnets": {"ids": [each["id"] for each in network["subnets"][:2]]},
            "securityGroups": [network["securityGroup"]],
            "apiURL": "https://api.example.com",
            "instanceTypes": {"allow": allow},
        }
        return SpotJobClass.model_validate({"metadata": {"name": "standard"}, "spec": {**default, **spec}})

    return build


AClass = Callable[..., SpotJobClass]


async def test_a_class_resolves_to_an_ami_subnets_and_the_types_that_it_can_use(
    ec2: Ec2, a_class: AClass, network: dict[str, Any]
) -> None:
    place = await ec2.place(a_class())
    assert place.image_id.startswith("ami-")
    assert place.root_device == "/dev/xvda"
    assert [(s.id, s.availability_zone) for s in place.subnets] == [
        (each["id"], each["availabilityZone"]) for each in network["subnets"][:2]
    ]
    names = {each.name for each in place.instance_types}
    assert {"m6i.large", "c6i.large", "c6i.metal"} <= names
    assert all(name == "m6i.large" or name.startswith("c6i.") for name in names)
    assert {zone for _, zone in place.offered} == {"us-east-1a", "us-east-1b"}


async def test_a_class_that_allows_everything_gets_the_whole_current_generation(ec2: Ec2, a_class: AClass) -> None:
    types = (await ec2.place(a_class(allow=()))).instance_types
    assert len(types) > 500, "more than one page"
    assert len({each.name for each in types}) == len(types)
    assert all(each.current_generation for each in types)
    assert next(each for each in types if each.name == "g6.12xlarge") == InstanceType(
        "g6.12xlarge", 48, 196_608, 4, frozenset({"amd64"}), current_generation=True, spot=True
    )


async def test_subnets_can_be_chosen_by_tags_and_the_emptiest_one_of_a_zone_is_taken(
    ec2: Ec2, session: object, a_class: AClass, network: dict[str, Any], cluster_uid: str
) -> None:
    raw = boto3.client("ec2", "us-east-1")
    vpc = raw.describe_subnets(SubnetIds=[network["subnets"][0]["id"]])["Subnets"][0]["VpcId"]
    raw.associate_vpc_cidr_block(VpcId=vpc, CidrBlock="172.30.0.0/16")
    tags = [{"ResourceType": "subnet", "Tags": [{"Key": "use", "Value": cluster_uid}]}]
    made = {
        cidr: raw.create_subnet(VpcId=vpc, CidrBlock=cidr, AvailabilityZone=zone, TagSpecifications=tags)["Subnet"]
        for cidr, zone in {
            "172.30.0.0/28": "us-east-1a",
            "172.30.1.0/24": "us-east-1a",
            "172.30.2.0/28": "us-east-1c",
        }.items()
    }
    place = await ec2.place(a_class(subnets={"tags": {"use": cluster_uid}}))
    for each in made.values():
        raw.delete_subnet(SubnetId=each["SubnetId"])
    raw.close()
    assert [subnet.id for subnet in place.subnets] == [
        made["172.30.1.0/24"]["SubnetId"],
        made["172.30.2.0/28"]["SubnetId"],
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"amiAlias": "ami-0123456789abcdef0"}, "ami-0123456789abcdef0"),
        ({"amiAlias": "ssm:/no/such/parameter"}, "SSM parameter /no/such/parameter: ParameterNotFound"),
        (
            {"amiAlias": "ssm:/aws/service/global-infrastructure/regions/us-east-1/longName"},
            "holds no AMI id but 'US East",
        ),
        ({"subnets": {"ids": ["subnet-0123456789abcdef0"]}}, "subnet-0123456789abcdef0"),
        ({"subnets": {"tags": {"no": "such tag"}}}, "no subnet has the tags {'no': 'such tag'}"),
    ],
    ids=["AMI", "parameter", "parameter without AMI", "subnet", "subnet tag"],
)
async def test_what_does_not_exist_is_rejected_by_name(
    ec2: Ec2, a_class: AClass, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(Ec2Error) as refused:
        await ec2.place(a_class(**spec))
    assert refused.value.fault.reason is Reason.LAUNCH_REJECTED
    assert message in refused.value.fault.message


async def test_a_resolved_class_is_kept_for_an_hour_and_its_ami_for_a_day(
    ec2: Ec2, a_class: AClass, simulator: Simulator, clock: ManualClock
) -> None:
    await ec2.place(a_class())
    clock.advance(3599)
    await ec2.place(a_class())
    assert (simulator.calls["DescribeSubnets"], simulator.calls["GetParameter"]) == (1, 1)
    clock.advance(2)
    await ec2.place(a_class())
    assert (simulator.calls["DescribeSubnets"], simulator.calls["GetParameter"]) == (2, 1)
    clock.advance(86_400)
    await ec2.place(a_class())
    assert (simulator.calls["DescribeSubnets"], simulator.calls["GetParameter"]) == (3, 2)


async def test_a_change_of_what_is_resolved_is_seen_at_once_and_another_change_costs_nothing(
    ec2: Ec2, a_class: AClass, simulator: Simulator
) -> None:
    await ec2.place(a_class())
    await ec2.place(a_class(maxConcurrent=7))
    assert simulator.calls["DescribeSubnets"] == 1
    place = await ec2.place(a_class(allow=("m7i.large",)))
    assert [each.name for each in place.instance_types] == ["m7i.large"]


async def test_a_class_that_cannot_be_resolved_is_left_alone_for_half_a_minute(
    ec2: Ec2, a_class: AClass, simulator: Simulator, clock: ManualClock
) -> None:
    simulator.faults.order(Fault("DescribeSubnets", "UnauthorizedOperation", "denied", 403))
    for _ in range(100):
        with pytest.raises(Ec2Error, match="UnauthorizedOperation: denied"):
            await ec2.place(a_class())
    assert simulator.calls["DescribeSubnets"] == 1
    clock.advance(31)
    assert (await ec2.place(a_class())).subnets


async def test_no_answer_while_resolving_is_no_rejection(ec2: Ec2, a_class: AClass, simulator: Simulator) -> None:
    simulator.faults.order(Fault("DescribeSubnets", "InternalError", status=500, times=3))
    with pytest.raises(Ec2Unanswered):
        await ec2.place(a_class())


async def test_a_launch_as_it_is_planned_is_one_that_ec2_takes(
    ec2: Ec2, a_class: AClass, cluster_uid: str, server: AwsServer
) -> None:
    job_class = a_class(
        instanceProfile="jobs", tags={"team": "data"}, volume={"type": "io2"}, metadataAccess="instance-role"
    )
    place = await ec2.place(job_class)
    spec = SpotJobSpec.model_validate(
        {"image": "busybox", "resources": {"requests": {"cpu": 2, "memory": "3Gi", "ephemeral-storage": "50Gi"}}}
    )
    pools = admissible(spec, job_class.spec, place, CapacityType.SPOT)
    assert not isinstance(pools, Refused)
    tags = plan.tags_of(job_class, "prod", cluster_uid)
    template = plan.launch_template(
        job_class, place, "amd64", "#!/bin/sh\n", user_data_key="k", capacity_type=CapacityType.SPOT, tags=tags
    )
    disk = plan.larger_disk(spec, job_class.spec, place)
    await ec2.ensure_launch_template(template)
    request = plan.fleet_request(
        template.name, pools, place.subnets, 2, CapacityType.SPOT, "shape-1", cluster_uid, tags, disk
    )
    answer = await ec2.create_fleet(request)
    assert (len(answer.instances), answer.faults) == (2, ())
    with server.centre.open() as centre:
        made = centre.instance(answer.instances[0].id)
        assert made.tags["spotjob.shape"] == "shape-1"
        assert made.tags["team"] == "data"
        assert made.data["InstanceInitiatedShutdownBehavior"] == "terminate"


def test_a_type_whose_gpus_are_not_nvidias_has_none_to_ask_for() -> None:
    raw = {
        "InstanceType": "g4ad.xlarge",
        "VCpuInfo": {"DefaultVCpus": 4},
        "MemoryInfo": {"SizeInMiB": 16384},
        "GpuInfo": {"Gpus": [{"Name": "Radeon Pro V520", "Manufacturer": "AMD", "Count": 1}]},
        "ProcessorInfo": {"SupportedArchitectures": ["i386", "x86_64"]},
        "SupportedUsageClasses": ["on-demand"],
        "CurrentGeneration": True,
        "BareMetal": False,
    }
    assert instance_type_from(raw) == InstanceType(
        "g4ad.xlarge", 4, 16384, 0, frozenset({"amd64"}), current_generation=True, spot=False
    )

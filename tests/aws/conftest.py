"""The local AWS server in this process, and boto3 pointed at it through the environment, as in a pod."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from spotjob.aws.calls import Calls, Threads
from spotjob.aws.clients import Session
from spotjob.aws.ec2 import BotoEc2
from spotjob.aws.ecs import BotoEcs, EcsRegions
from spotjob.core import plan
from spotjob.core.ports import Ec2, LaunchTemplate, Subnet
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import CapacityRule, Simulator, Timing
from spotjob.local.machines import NoMachines
from tests.aws.clock import ManualClock
from tests.aws.ecs_wire import EcsServer, FakeEcs
from tests.aws.launches import Launches

REGION = "us-east-1"


@pytest.fixture(scope="package")
def server() -> Iterator[AwsServer]:
    server = AwsServer(lambda _: NoMachines(), region=REGION, timing=Timing(boot_seconds=0, shutdown_seconds=0))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="package")
def session(server: AwsServer) -> Iterator[Session]:
    """boto3 finds the server through the environment, as it does in a pod."""
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            environment.setenv(name, value)
        yield Session()


@pytest.fixture
def simulator(server: AwsServer) -> Iterator[Simulator]:
    """The levers. Every pool is full and no fault is on order, before and after."""
    with server.centre.open() as ec2:
        ec2.faults.clear()
        ec2.calls.clear()
    yield ec2
    with server.centre.open() as ec2:
        ec2.faults.clear()
        ec2.set_capacity(CapacityRule())


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="package")
def region(session: Session) -> Iterator[Callable[[ManualClock], BotoEc2]]:
    """Makes the port Ec2 anew, with nothing remembered, on clients that are shared: those take a second to make."""
    launches = Calls(partial(session.client, "ec2", REGION, 1), 8, "launches")
    looks = Calls(partial(session.client, "ec2", REGION, 3), 8, "looks")
    ssm = Calls(partial(session.client, "ssm", REGION, 3), 8, "ssm")
    yield lambda clock: BotoEc2(REGION, launches, looks, ssm, clock)
    for calls in (launches, looks, ssm):
        calls.close()


@pytest.fixture(scope="package")
def dynamodb(session: Session) -> Iterator[Threads]:
    threads = Threads(partial(session.client, "dynamodb", REGION, 4), 8, "dynamodb")
    yield threads
    threads.close()


@pytest.fixture
def cluster_uid() -> str:
    """A cluster of its own for every test, so that they share an account without meeting."""
    return f"uid-{uuid.uuid4()}"


@pytest.fixture
def launches(server: AwsServer, simulator: Simulator, cluster_uid: str) -> Launches:
    network = server.moto.network()
    tags = [{"Key": plan.CLUSTER_UID_TAG, "Value": cluster_uid}]
    data = {
        "ImageId": "ami-05fb4f257abd42992",
        "SecurityGroupIds": [network["securityGroup"]],
        "TagSpecifications": [{"ResourceType": "spot-instances-request", "Tags": tags}],
    }
    template = LaunchTemplate(f"spotjob-{cluster_uid}", data, {plan.CLUSTER_UID_TAG: cluster_uid})
    subnets = tuple(Subnet(each["id"], each["availabilityZone"]) for each in network["subnets"])
    return Launches(template, subnets)


@pytest.fixture
async def ec2(region: Callable[[ManualClock], BotoEc2], clock: ManualClock, launches: Launches) -> Ec2:
    """EC2 with the launch template in place."""
    made = region(clock)
    await made.ensure_launch_template(launches.template)
    return made


# ---- ECS, on a server of its own ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ecs_server() -> Iterator[EcsServer]:
    server = EcsServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def world(ecs_server: EcsServer) -> FakeEcs:
    ecs_server.ecs = FakeEcs()
    return ecs_server.ecs


@pytest.fixture(scope="module")
def keys(ecs_server: EcsServer) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": ecs_server.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def shared(keys: None) -> Iterator[EcsRegions]:
    """Clients take half a second to make."""
    regions = EcsRegions(Session())
    yield regions
    regions.close()


@pytest.fixture
def regions(shared: EcsRegions, world: FakeEcs) -> EcsRegions:
    """Nothing is remembered of other tests but the clients."""
    shared._regions.clear()
    return shared


@pytest.fixture
def ecs(regions: EcsRegions) -> BotoEcs:
    return regions.region("us-east-1")

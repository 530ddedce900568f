"""The port Ec2 on boto3, over HTTP against the EC2 simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spotjob.aws.calls import Raw, pages
from spotjob.aws.clients import BotoAws, Session
from spotjob.aws.ec2 import BotoEc2
from spotjob.core import plan
from spotjob.core.ports import Ec2, Ec2Error, Ec2Unanswered, LaunchTemplate, Subnet
from spotjob.core.reasons import Reason
from spotjob.core.states import CapacityType, InstanceState, Pool
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import CapacityRule, Fault, Simulator
from tests.aws.clock import ManualClock

UNKNOWN = "i-0123456789abcdef0"
A, B = Pool("m6i.large", "us-east-1a"), Pool("m6i.large", "us-east-1b")


@dataclass(frozen=True)
class Launches:
    """What the launcher would bring: a template, and requests for it."""

    template: LaunchTemplate
    subnets: tuple[Subnet, ...]

    def request(
        self,
        count: int = 1,
        token: str = "",
        pools: tuple[Pool, ...] = (A, B),
        capacity: CapacityType = A.capacity_type,
    ) -> Mapping[str, Any]:
        token = f"{self.template.name[-30:]}-{token}"
        tags = {**self.template.tags, plan.CLASS_TAG: "standard"}
        return plan.fleet_request(self.template.name, pools, self.subnets, count, capacity, "shape-1", token, tags)


@pytest.fixture
def launches(server: AwsServer, simulator: Simulator, cluster_uid: str) -> Launches:
    network = server.moto.network()
    data = {"ImageId": "ami-05fb4f257abd42992", "SecurityGroupIds": [network["securityGroup"]]}
    template = LaunchTemplate(f"spotjob-{cluster_uid}", data, {plan.CLUSTER_UID_TAG: cluster_uid})
    subnets = tuple(Subnet(each["id"], each["availabilityZone"]) for each in network["subnets"])
    return Launches(template, subnets)


Region = Callable[[ManualClock], BotoEc2]


@pytest.fixture
async def ec2(region: Region, clock: ManualClock, launches: Launches) -> Ec2:
    """EC2 with the launch template in place."""
    made = region(clock)
    await made.ensure_launch_template(launches.template)
    return made


# ---- launch templates ---------------------------------------------------------------------------------------------


async def test_a_launch_template_is_made_once_and_then_taken_for_existing(
    ec2: Ec2, launches: Launches, simulator: Simulator, clock: ManualClock
) -> None:
    await ec2.ensure_launch_template(launches.template)
    assert simulator.calls["CreateLaunchTemplate"] == 1
    assert simulator.calls["DescribeLaunchTemplates"] == 1
    clock.advance(601)
    await ec2.ensure_launch_template(launches.template)
    assert simulator.calls["CreateLaunchTemplate"] == 1
    assert simulator.calls["DescribeLaunchTemplates"] == 2


async def test_two_replicas_may_make_the_same_template_at_once(
    region: Region, launches: Launches, cluster_uid: str
) -> None:
    replicas = [region(ManualClock()) for _ in range(2)]
    await asyncio.gather(*(each.ensure_launch_template(launches.template) for each in replicas))
    assert len(await replicas[0].list_launch_templates(cluster_uid)) == 1


async def test_templates_are_listed_by_cluster_and_deleted_by_name(
    ec2: Ec2, launches: Launches, cluster_uid: str
) -> None:
    ((name, created),) = await ec2.list_launch_templates(cluster_uid)
    assert name == launches.template.name
    assert datetime.now(UTC) - created < timedelta(minutes=1)
    await ec2.delete_launch_template(name)
    await ec2.delete_launch_template(name)
    assert await ec2.list_launch_templates(cluster_uid) == []


async def test_a_template_that_is_gone_is_made_again_for_the_next_launch(
    ec2: Ec2, region: Region, launches: Launches
) -> None:
    await region(ManualClock()).delete_launch_template(launches.template.name)
    with pytest.raises(Ec2Error) as refused:
        await ec2.create_fleet(launches.request(token="first"))
    assert refused.value.fault.reason is Reason.LAUNCHING
    await ec2.ensure_launch_template(launches.template)
    assert len((await ec2.create_fleet(launches.request(token="second"))).instances) == 1


# ---- launching ----------------------------------------------------------------------------------------------------


async def test_a_launch_brings_instances_with_their_pool_and_what_they_may_serve(
    ec2: Ec2, launches: Launches, clock: ManualClock
) -> None:
    answer = await ec2.create_fleet(launches.request(count=3))
    assert answer.faults == ()
    assert len({instance.id for instance in answer.instances}) == 3
    for instance in answer.instances:
        assert instance.pool in (A, B)
        assert (instance.region, instance.state) == ("us-east-1", InstanceState.PENDING)
        assert (instance.shape, instance.job_class) == ("shape-1", "standard")
        assert instance.launch_time == clock.now()


async def test_an_on_demand_launch_brings_on_demand_instances(ec2: Ec2, launches: Launches, cluster_uid: str) -> None:
    pool = Pool("m6i.large", "us-east-1a", CapacityType.ON_DEMAND)
    (instance,) = (await ec2.create_fleet(launches.request(pools=(pool,), capacity=pool.capacity_type))).instances
    assert instance.pool == pool
    (listed,) = await ec2.describe_cluster(cluster_uid)
    assert (listed.pool, listed.spot_instance_request_id) == (pool, "")


async def test_an_empty_pool_is_named_and_the_others_still_give(
    ec2: Ec2, launches: Launches, simulator: Simulator
) -> None:
    simulator.set_capacity(CapacityRule(availability_zone="us-east-1a", count=0))
    simulator.set_capacity(CapacityRule(availability_zone="us-east-1b", count=1))
    answer = await ec2.create_fleet(launches.request(count=2))
    assert [instance.pool for instance in answer.instances] == [B]
    assert {(fault.pool, fault.reason) for fault in answer.faults} >= {(A, Reason.INSUFFICIENT_CAPACITY)}


async def test_a_launch_without_any_capacity_is_an_answer_not_an_error(
    ec2: Ec2, launches: Launches, simulator: Simulator
) -> None:
    simulator.set_capacity(CapacityRule(count=0))
    answer = await ec2.create_fleet(launches.request())
    assert answer.instances == ()
    assert {fault.pool for fault in answer.faults} == {A, B}


async def test_a_lost_answer_is_found_again_with_the_same_token(
    ec2: Ec2, launches: Launches, simulator: Simulator, clock: ManualClock, cluster_uid: str
) -> None:
    simulator.faults.order(Fault("CreateFleet", lost=True, when="after"))
    asked = clock.now()
    with pytest.raises(Ec2Unanswered):
        await ec2.create_fleet(launches.request(count=2))
    clock.advance(45)
    answer = await ec2.create_fleet(launches.request(count=2))
    assert {i.id for i in answer.instances} == {i.id for i in await ec2.describe_cluster(cluster_uid)}
    assert {i.launch_time for i in answer.instances} == {asked}, "no instance is taken for younger than it is"


@pytest.mark.parametrize("code", ["InternalError", "ServiceUnavailable", "SomethingNew"])
async def test_after_a_server_error_nobody_knows_and_boto3_has_not_asked_twice(
    ec2: Ec2, launches: Launches, simulator: Simulator, code: str
) -> None:
    simulator.faults.order(Fault("CreateFleet", code, status=500))
    with pytest.raises(Ec2Unanswered, match=code):
        await ec2.create_fleet(launches.request())
    assert simulator.calls["CreateFleet"] == 1


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("RequestLimitExceeded", 503, Reason.THROTTLED),
        ("InsufficientInstanceCapacity", 500, Reason.INSUFFICIENT_CAPACITY),
        ("MaxFleetCountExceeded", 400, Reason.QUOTA_EXCEEDED),
        ("UnauthorizedOperation", 403, Reason.LAUNCH_REJECTED),
        ("InvalidAMIID.NotFound", 400, Reason.LAUNCH_REJECTED),
    ],
)
async def test_a_refused_launch_keeps_ec2s_words(
    ec2: Ec2, launches: Launches, simulator: Simulator, code: str, status: int, reason: Reason
) -> None:
    simulator.faults.order(Fault("CreateFleet", code, "EC2's own words", status))
    with pytest.raises(Ec2Error) as refused:
        await ec2.create_fleet(launches.request())
    assert (refused.value.fault.code, refused.value.fault.reason) == (code, reason)
    assert refused.value.fault.message == "EC2's own words"
    assert simulator.calls["CreateFleet"] == 1


async def test_after_a_throttled_launch_the_next_one_waits(
    ec2: Ec2, launches: Launches, simulator: Simulator, clock: ManualClock
) -> None:
    simulator.faults.order(Fault("CreateFleet", "RequestLimitExceeded", status=503))
    with pytest.raises(Ec2Error):
        await ec2.create_fleet(launches.request(token="first"))
    await ec2.create_fleet(launches.request(token="second"))
    assert clock.slept == [0.25]


async def test_forty_launches_go_out_at_once_and_then_four_a_second(
    ec2: Ec2, launches: Launches, clock: ManualClock
) -> None:
    for n in range(44):
        await ec2.create_fleet(launches.request(token=f"call-{n}"))
    assert clock.slept == [0.25] * 4


# ---- looking ------------------------------------------------------------------------------------------------------


async def test_a_listing_of_the_cluster_shows_ec2s_own_view(ec2: Ec2, launches: Launches, cluster_uid: str) -> None:
    (launched,) = (await ec2.create_fleet(launches.request())).instances
    (seen,) = await ec2.describe_cluster(cluster_uid)
    assert (seen.id, seen.pool, seen.region) == (launched.id, launched.pool, "us-east-1")
    assert (seen.shape, seen.job_class) == ("shape-1", "standard")
    assert seen.spot_instance_request_id.startswith("sir-")
    assert datetime.now(UTC) - seen.launch_time < timedelta(minutes=1)
    assert seen.launch_time.tzinfo is UTC


async def test_a_reclaimed_instance_says_so(ec2: Ec2, launches: Launches, server: AwsServer, cluster_uid: str) -> None:
    (launched,) = (await ec2.create_fleet(launches.request())).instances
    with server.centre.open() as centre:
        centre.reclaim(launched.id)
    (seen,) = await ec2.describe_cluster(cluster_uid)
    assert seen.reclaimed
    assert seen.state_reason == "Server.SpotInstanceTermination"


async def test_another_clusters_instances_are_not_listed(ec2: Ec2, launches: Launches) -> None:
    await ec2.create_fleet(launches.request())
    assert await ec2.describe_cluster("another-cluster") == []


async def test_a_long_listing_is_read_to_its_end(
    ec2: Ec2, launches: Launches, simulator: Simulator, cluster_uid: str
) -> None:
    await ec2.create_fleet(launches.request(count=1100))
    simulator.calls.clear()
    assert len({instance.id for instance in await ec2.describe_cluster(cluster_uid)}) == 1100
    assert simulator.calls["DescribeInstances"] == 2


async def test_a_listing_with_a_page_that_fails_fails_as_a_whole() -> None:
    async def call(**request: Any) -> Raw:
        if "NextToken" in request:
            raise Ec2Unanswered("lost")
        return {"Items": [1], "NextToken": "2"}

    with pytest.raises(Ec2Unanswered, match="lost"):
        _ = [page async for page in pages(call)]


async def test_a_listing_that_never_ends_is_given_up() -> None:
    async def call(**_: Any) -> Raw:
        return {"NextToken": "again"}

    with pytest.raises(Ec2Unanswered, match="no end"):
        _ = [page async for page in pages(call)]


async def test_a_look_is_repeated_when_ec2_fails_for_a_moment(ec2: Ec2, simulator: Simulator, cluster_uid: str) -> None:
    simulator.faults.order(Fault("DescribeInstances", "InternalError", status=500, times=2))
    assert await ec2.describe_cluster(cluster_uid) == []
    assert simulator.calls["DescribeInstances"] == 3


async def test_ids_that_ec2_does_not_know_are_missing_and_many_ids_go_in_several_calls(
    ec2: Ec2, launches: Launches, simulator: Simulator
) -> None:
    ids = [instance.id for instance in (await ec2.create_fleet(launches.request(count=201))).instances]
    found = await ec2.describe_ids([*ids, UNKNOWN])
    assert {instance.id for instance in found} == set(ids)
    assert simulator.calls["DescribeInstances"] == 2


async def test_asking_for_no_id_asks_nothing(ec2: Ec2, simulator: Simulator) -> None:
    assert await ec2.describe_ids([]) == []
    assert await ec2.terminate([]) == {}
    assert simulator.calls["DescribeInstances"] == simulator.calls["TerminateInstances"] == 0


# ---- terminating --------------------------------------------------------------------------------------------------


async def test_terminated_instances_are_reported_with_their_new_state(
    ec2: Ec2, launches: Launches, simulator: Simulator
) -> None:
    ids = [instance.id for instance in (await ec2.create_fleet(launches.request(count=2))).instances]
    states = await ec2.terminate([*ids, ids[0]])
    assert states.keys() == set(ids)
    assert set(states.values()) <= {InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED}
    assert simulator.calls["TerminateInstances"] == 1


async def test_an_unknown_id_does_not_keep_the_others_alive(ec2: Ec2, launches: Launches, simulator: Simulator) -> None:
    ids = [instance.id for instance in (await ec2.create_fleet(launches.request(count=20))).instances]
    states = await ec2.terminate([*ids[:7], UNKNOWN, *ids[7:]])
    assert states.keys() == set(ids)
    assert simulator.calls["TerminateInstances"] < 12, "the culprit is found by halving"


async def test_a_denied_instance_is_reported_after_the_others_were_terminated(
    ec2: Ec2, launches: Launches, simulator: Simulator, cluster_uid: str
) -> None:
    one, other = [i.id for i in (await ec2.create_fleet(launches.request(count=2))).instances]
    # The call for both fails, and then the first of the single ones.
    simulator.faults.order(Fault("TerminateInstances", "UnauthorizedOperation", "no tag", 403, times=2))
    with pytest.raises(Ec2Error, match="UnauthorizedOperation: no tag"):
        await ec2.terminate([one, other])
    ending = [i.id for i in await ec2.describe_cluster(cluster_uid) if i.state.ending]
    assert len(ending) == 1


async def test_a_throttled_termination_is_not_taken_apart(ec2: Ec2, launches: Launches, simulator: Simulator) -> None:
    ids = [instance.id for instance in (await ec2.create_fleet(launches.request(count=2))).instances]
    simulator.faults.order(Fault("TerminateInstances", "RequestLimitExceeded", status=503, times=100))
    with pytest.raises(Ec2Error) as refused:
        await ec2.terminate(ids)
    assert refused.value.fault.reason is Reason.THROTTLED
    assert simulator.calls["TerminateInstances"] == 3, "boto3's own attempts, and no more"


# ---- no EC2 at all ------------------------------------------------------------------------------------------------


async def test_an_endpoint_that_is_not_there_is_no_answer(
    session: Session, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    aws = BotoAws(Session(), clock)
    with pytest.raises(Ec2Unanswered, match="Could not connect"):
        await aws.ec2("us-east-1").create_fleet(
            plan.fleet_request("spotjob-1", [], [], 1, CapacityType.SPOT, "shape", "token", {})
        )
    aws.close()


async def test_missing_credentials_are_the_operators_trouble_and_the_job_waits(
    session: Session, monkeypatch: pytest.MonkeyPatch, clock: ManualClock
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    aws = BotoAws(Session(), clock)
    with pytest.raises(Ec2Error, match="Unable to locate credentials") as refused:
        await aws.ec2("us-east-1").describe_cluster("uid")
    assert refused.value.fault.reason is Reason.LAUNCHING
    aws.close()


async def test_each_region_is_set_up_once(session: Session, clock: ManualClock) -> None:
    aws = BotoAws(session, clock)
    assert aws.ec2("us-east-1") is aws.ec2("us-east-1")
    assert aws.ec2("eu-west-1").region == "eu-west-1"
    aws.close()

"""The port Ec2 on boto3, over HTTP against the EC2 simulator: launch templates and launches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from spotjob.aws.clients import BotoAws, Session
from spotjob.aws.ec2 import BotoEc2
from spotjob.core import plan
from spotjob.core.ports import Ec2, Ec2Error, Ec2Unanswered
from spotjob.core.reasons import Reason
from spotjob.core.states import CapacityType, InstanceState, Pool
from spotjob.local.ec2 import CapacityRule, Fault, Simulator
from tests.aws.clock import ManualClock
from tests.aws.launches import A, B, Launches

Region = Callable[[ManualClock], BotoEc2]


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

"""The port Ec2 on boto3, over HTTP against the EC2 simulator: looking at instances and terminating them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spotjob.aws.calls import Raw, pages
from spotjob.aws.ec2 import IDS_PER_FILTER
from spotjob.aws.ec2_answers import NEVER, RECLAIM_CODES
from spotjob.core.ports import Console, Ec2, Ec2Error, Ec2Unanswered
from spotjob.core.reasons import Reason
from spotjob.core.states import InstanceState
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Fault, Simulator
from tests.aws.launches import Launches

UNKNOWN = "i-0123456789abcdef0"


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


# ---- reclaims, status checks, the console -------------------------------------------------------------------------


async def test_an_instance_under_notice_is_told_with_about_the_time_of_its_end(
    ec2: Ec2, launches: Launches, server: AwsServer, cluster_uid: str
) -> None:
    one, _ = (await ec2.create_fleet(launches.request(count=2))).instances
    assert await ec2.describe_reclaims(cluster_uid) == {}
    with server.centre.open() as centre:
        centre.interrupt(one.id, warning_seconds=120, spot_code="marked-for-termination")
        noticed = centre.now
    ((reclaimed, at),) = (await ec2.describe_reclaims(cluster_uid)).items()
    assert reclaimed == one.id
    assert abs(at - noticed - timedelta(minutes=2)) < timedelta(seconds=2)
    assert at.tzinfo is UTC


async def test_an_instance_that_was_taken_back_is_told_and_one_that_we_terminated_is_not(
    ec2: Ec2, launches: Launches, server: AwsServer, cluster_uid: str
) -> None:
    reclaimed, ended = (await ec2.create_fleet(launches.request(count=2))).instances
    with server.centre.open() as centre:
        centre.reclaim(reclaimed.id)
    await ec2.terminate([ended.id])
    assert (await ec2.describe_reclaims(cluster_uid)).keys() == {reclaimed.id}


async def test_reclaims_of_another_cluster_are_not_told(ec2: Ec2, launches: Launches, server: AwsServer) -> None:
    (launched,) = (await ec2.create_fleet(launches.request())).instances
    with server.centre.open() as centre:
        centre.reclaim(launched.id)
    assert await ec2.describe_reclaims("another-cluster") == {}


def test_no_code_of_an_ordinary_life_or_of_our_own_calls_counts_as_a_reclaim() -> None:
    ours = {"fulfilled", "instance-terminated-by-user", "spot-instance-terminated-by-user", "instance-stopped-by-user"}
    assert ours.isdisjoint(RECLAIM_CODES)
    assert len(RECLAIM_CODES) <= IDS_PER_FILTER


async def test_failing_status_checks_are_told_while_they_fail(
    ec2: Ec2, launches: Launches, server: AwsServer, cluster_uid: str
) -> None:
    one, _ = (await ec2.create_fleet(launches.request(count=2))).instances
    with server.centre.open() as centre:
        centre.impair(one.id)
    assert await ec2.describe_impaired() == {one.id}
    with server.centre.open() as centre:
        centre.impair(one.id, on=False)
    assert await ec2.describe_impaired() == set()


async def test_a_console_is_text_and_says_when_it_was_taken(ec2: Ec2, launches: Launches, server: AwsServer) -> None:
    (launched,) = (await ec2.create_fleet(launches.request())).instances
    taken = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
    with server.centre.open() as centre:
        centre.instance(launched.id).console_posted = ("exit ü\r\n", taken)
    assert await ec2.console_output(launched.id) == Console("exit ü\r\n", taken)


async def test_a_console_that_ec2_has_not_taken_yet_is_empty_and_old(
    ec2: Ec2, launches: Launches, server: AwsServer
) -> None:
    (launched,) = (await ec2.create_fleet(launches.request())).instances
    with server.centre.open() as centre:
        centre.instance(launched.id).console_posted = None
    assert await ec2.console_output(launched.id) == Console("", NEVER)


async def test_an_instance_that_ec2_has_forgotten_has_no_console(ec2: Ec2) -> None:
    assert await ec2.console_output(UNKNOWN) is None


@pytest.mark.parametrize(
    ("action", "look"),
    [
        ("DescribeSpotInstanceRequests", lambda ec2: ec2.describe_reclaims("uid")),
        ("DescribeInstanceStatus", lambda ec2: ec2.describe_impaired()),
        ("GetConsoleOutput", lambda ec2: ec2.console_output(UNKNOWN)),
    ],
)
async def test_these_looks_fail_as_the_others_do(
    ec2: Ec2, simulator: Simulator, action: str, look: Callable[[Ec2], Awaitable[object]]
) -> None:
    simulator.faults.order(Fault(action, "UnauthorizedOperation", "no", 403))
    with pytest.raises(Ec2Error, match="UnauthorizedOperation"):
        await look(ec2)
    simulator.faults.order(Fault(action, "InternalError", status=500, times=3))
    with pytest.raises(Ec2Unanswered):
        await look(ec2)

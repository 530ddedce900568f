"""Two clusters of one name in one account: they are told apart by the uid of their namespace kube-system alone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from spotjob.core.plan import CLUSTER_UID_TAG, SHAPE_TAG
from spotjob.core.states import InstanceState
from tests.simulation.world import World

THEIRS = "uid-of-another-kube-system"
HOUR = 3600.0


class Account:
    """What was asked of EC2, by both clusters."""

    def __init__(self, *worlds: World) -> None:
        self.fleets: list[Mapping[str, Any]] = []
        self.terminated: set[str] = set()
        self.deleted: set[str] = set()
        """Names of launch templates."""
        for world in worlds:
            world.network.passing.append(self._told)

    def _told(self, action: str, request: Mapping[str, Any]) -> None:
        if action == "CreateFleet":
            self.fleets.append(request)
        self.terminated |= set(request.get("InstanceIds", ())) if action == "TerminateInstances" else set()
        self.deleted |= {request["LaunchTemplateName"]} if action == "DeleteLaunchTemplate" else set()


def launched_alike(world: World, request: Mapping[str, Any], uid: str | None) -> str:
    """One more instance as this request made them, with the same name, class and shape, and another cluster's uid."""
    tags = [
        {**each, "Tags": [_with_uid(tag, uid) for tag in each["Tags"] if uid or tag["Key"] != CLUSTER_UID_TAG]}
        for each in request["TagSpecifications"]
    ]
    capacity = {**request["TargetCapacitySpecification"], "TotalTargetCapacity": 1}
    one = {**request, "TagSpecifications": tags, "TargetCapacitySpecification": capacity}
    reply = world.ec2.serve("CreateFleet", {**one, "ClientToken": f"{uid}-{len(world.ec2.instances())}"})
    assert reply.answer is not None, reply.error
    [made] = reply.answer["Instances"]
    return str(made["InstanceIds"][0])


def _with_uid(tag: Mapping[str, str], uid: str | None) -> Mapping[str, str]:
    return {**tag, "Value": str(uid)} if tag["Key"] == CLUSTER_UID_TAG else tag


def two_clusters(run_seconds: float) -> tuple[World, World]:
    """Ours, and one of the same name beside it."""
    ours = World(run_seconds, tick_seconds=2)
    return ours, World(run_seconds, tick_seconds=2, beside=ours, cluster_uid=THEIRS)


def template_of(request: Mapping[str, Any]) -> str:
    [config] = request["LaunchTemplateConfigs"]
    return str(config["LaunchTemplateSpecification"]["LaunchTemplateName"])


def state_of(world: World, instance_id: str) -> InstanceState:
    return world.ec2.instance(instance_id).state


@pytest.mark.parametrize("uid", [THEIRS, None], ids=["of another cluster", "without a uid"])
async def test_a_foreign_instance_of_our_name_and_shape_is_never_bound_or_terminated(uid: str | None):
    async with World(run_seconds=2 * HOUR, tick_seconds=2) as ours:
        account = Account(ours)
        first = ours.cluster.apply("first")
        await ours.until(lambda: ours.cluster.phases()["Running"] == 1)
        # It is young and free: if it were ours, the next job would get it and nothing would be launched.
        foreign = launched_alike(ours, account.fleets[0], uid)
        mine = ours.ec2.instance(ours.cluster.job(first).status.instance_id).tags
        assert ours.ec2.instance(foreign).tags[SHAPE_TAG] == mine[SHAPE_TAG]
        await asyncio.sleep(15)  # the poller looks, and the instance runs
        second = ours.cluster.apply("second")
        await ours.until(lambda: ours.cluster.phases()["Running"] == 2)
        assert ours.cluster.job(second).status.instance_id != foreign
        # It grows old and its status checks fail, which EC2 shows to everybody, and leaders come and go.
        ours.ec2.impair(foreign)
        await asyncio.sleep(ours.window_seconds + 120)
        await ours.kill_operators()
        ours.start_operator()
        await asyncio.sleep(HOUR / 2)
        assert state_of(ours, foreign) is InstanceState.RUNNING
        assert foreign not in account.terminated


async def test_an_instance_of_ours_that_is_just_like_it_is_bound_when_young_and_reaped_when_old():
    """What the test above sees is due to the uid and to nothing else."""
    async with World(run_seconds=2 * HOUR, tick_seconds=2) as ours:
        account = Account(ours)
        ours.cluster.apply("first")
        await ours.until(lambda: ours.cluster.phases()["Running"] == 1)
        young = launched_alike(ours, account.fleets[0], ours.cluster_uid)
        await asyncio.sleep(15)
        second = ours.cluster.apply("second")
        await ours.until(lambda: ours.cluster.phases()["Running"] == 2)
        assert ours.cluster.job(second).status.instance_id == young
        ours.agents_work = False
        old = launched_alike(ours, account.fleets[0], ours.cluster_uid)
        await ours.until(lambda: old in account.terminated, seconds=ours.window_seconds + 90)


async def test_a_cluster_reaps_its_own_instances_and_leaves_its_namesakes_alone():
    ours, theirs = two_clusters(run_seconds=HOUR)
    account = Account(ours, theirs)
    ours.agents_work = False
    async with ours:
        ours.cluster.apply("night")
        await ours.until(lambda: ours.ec2.calls["CreateFleet"] == 1)
        await ours.kill_operators()
        ours.cluster.jobs.clear()
        [abandoned] = [i.id for i in ours.ec2.instances()]
        async with theirs:
            key = theirs.cluster.apply("night")
            await theirs.until(lambda: theirs.cluster.phases()["Running"] == 1)
            live = theirs.cluster.job(key).status.instance_id
            await asyncio.sleep(HOUR / 2)
            # Their sweep had time enough, and ours has nobody yet who takes it away.
            assert state_of(ours, abandoned) is InstanceState.RUNNING
            ours.start_operator()
            await ours.until(lambda: not ours.ec2.instance(abandoned).alive, seconds=60)
            await asyncio.sleep(600)
            assert account.terminated == {abandoned}
            assert state_of(theirs, live) is InstanceState.RUNNING
            await theirs.until(lambda: theirs.cluster.phases()["TerminatedOK"] == 1, seconds=HOUR)
            assert theirs.runs[key] == 1


async def test_a_cluster_deletes_its_own_unused_launch_templates_and_leaves_its_namesakes_alone():
    ours, theirs = two_clusters(run_seconds=5)
    account = Account(ours, theirs)
    async with ours, theirs:
        ours.cluster.apply("night")
        theirs.cluster.apply("night")
        await ours.until(lambda: ours.cluster.phases()["TerminatedOK"] + theirs.cluster.phases()["TerminatedOK"] == 2)
        one, other = sorted(map(template_of, account.fleets))
        assert one != other
        await theirs.kill_operators()
        await asyncio.sleep(1.5 * HOUR)
        assert len(account.deleted) == 1
        theirs.start_operator()
        await asyncio.sleep(HOUR / 4)
        assert account.deleted == {one, other}

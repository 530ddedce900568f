"""Which pools a launch asks for, after what happened to earlier attempts there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spotjob.controller.fleet import LESSON_KEPT, Fleet
from spotjob.controller.orders import Order
from spotjob.core.ports import FleetAnswer, LaunchTemplate, Subnet
from spotjob.core.reasons import Outcome
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import Bound, CapacityType, Drilled, Ended, Noticed, Pool
from tests.aws.clock import ManualClock
from tests.builders import NOW, a_job, after, an_instance
from tests.simulation.account import a_class

ONE, TWO = Pool("m6i.large", "us-east-1a"), Pool("m6i.large", "us-east-1b")
SUBNETS = (Subnet("subnet-a", "us-east-1a"), Subnet("subnet-b", "us-east-1b"))


class Ec2:
    """Takes every launch and remembers which zones it named."""

    def __init__(self) -> None:
        self.zones: list[str] = []

    def ec2(self, region: str) -> Ec2:
        return self

    async def ensure_launch_template(self, template: LaunchTemplate) -> None:
        pass

    async def create_fleet(self, request: Mapping[str, Any]) -> FleetAnswer:
        overrides = request["LaunchTemplateConfigs"][0]["Overrides"]
        self.zones = [override["AvailabilityZone"] for override in overrides]
        return FleetAnswer()


class Leading:
    """A lease that never ends."""

    def leading(self) -> bool:
        return True


def an_order(*pools: Pool) -> Order:
    template = LaunchTemplate("spotjob-1", {}, {})
    return Order("shape", a_class("default"), template, pools, SUBNETS, CapacityType.SPOT, None, {})


def ran_in(pool: Pool, *changes: Any) -> Attempt:
    bound = Bound(an_instance(instance_type=pool.instance_type, availability_zone=pool.availability_zone))
    job: SpotJob = after(a_job(backoffLimit=9), bound, *changes)
    assert job.current is not None
    return job.current


async def zones_after(*attempts: Attempt, pools: tuple[Pool, ...] = (ONE, TWO), later: float = 0) -> list[str]:
    clock, ec2 = ManualClock(NOW), Ec2()
    fleet = Fleet(ec2, clock, Leading())  # type: ignore[arg-type]
    for attempt in attempts:
        fleet.learn_from(attempt)
    clock.advance(later)
    await fleet.launch(an_order(*pools), 1, desperate=False)
    return ec2.zones


A, B = "us-east-1a", "us-east-1b"


async def test_at_first_every_pool_is_asked() -> None:
    assert await zones_after() == [A, B]


@pytest.mark.parametrize("outcome", [Outcome.HOST_LOST, Outcome.STARTUP_TIMEOUT, Outcome.REGISTRY_UNAVAILABLE])
async def test_after_a_launch_error_another_pool_is_asked(outcome: Outcome) -> None:
    assert await zones_after(ran_in(ONE, Ended(outcome))) == [B]


async def test_a_pool_whose_host_failed_is_asked_when_there_is_no_other() -> None:
    assert await zones_after(ran_in(ONE, Ended(Outcome.HOST_LOST)), pools=(ONE,)) == [A]


async def test_a_launch_error_is_forgotten_after_a_while() -> None:
    lost = ran_in(ONE, Ended(Outcome.HOST_LOST))
    assert await zones_after(lost, later=LESSON_KEPT.total_seconds() + 1) == [A, B]


async def test_the_pool_of_an_instance_under_notice_is_not_asked() -> None:
    assert await zones_after(ran_in(ONE, Noticed(NOW))) == [B]


async def test_a_failed_container_and_a_drill_say_nothing_about_the_pool() -> None:
    failed = ran_in(ONE, Ended(Outcome.CONTAINER_FAILED, exit_code=1))
    drilled = ran_in(ONE, Drilled(NOW), Noticed(NOW))
    assert await zones_after(failed, drilled) == [A, B]


async def test_a_reclaim_of_long_ago_says_nothing_about_the_pool() -> None:
    clock, ec2 = ManualClock(NOW + LESSON_KEPT * 2), Ec2()
    fleet = Fleet(ec2, clock, Leading())  # type: ignore[arg-type]
    fleet.learn_from(ran_in(ONE, Noticed(NOW), Ended(Outcome.INTERRUPTED)))
    await fleet.launch(an_order(ONE, TWO), 1, desperate=False)
    assert ec2.zones == [A, B]

"""One launch: which pools are asked, in how many calls, and what the answers teach about the pools."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spotjob.controller.lease import Lease
from spotjob.controller.orders import Order, Orders
from spotjob.core import plan
from spotjob.core.buying import taken_back
from spotjob.core.offerings import Unavailable
from spotjob.core.ports import Clock, Ec2, Ec2Error, Ec2Unanswered, Fault, FleetAnswer
from spotjob.core.reasons import Budget, Reason
from spotjob.core.resources import Attempt
from spotjob.core.states import Instance, Pool

log = logging.getLogger(__name__)

LESSON_KEPT = timedelta(minutes=3)
"""How long the end of an attempt counts against its pool."""
REPEATS = 3
"""How often a call without an answer is repeated, with the same ClientToken."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one launch brought."""

    instances: tuple[Instance, ...]
    faults: tuple[Fault, ...]
    try_other_pools: bool
    """Nothing but capacity was missing, and pools remain that were not asked."""


class Fleet:
    """Asks EC2 for instances, and remembers for a while which pools had none."""

    def __init__(self, orders: Orders, clock: Clock, lease: Lease) -> None:
        self._orders, self._clock, self._lease = orders, clock, lease
        self._unavailable = Unavailable()
        self._distrusted: dict[
            Pool, datetime
        ] = {}  # until when; pools whose hosts failed, used if nothing else is left
        self.template_used: dict[str, datetime] = {}
        """When each launch template was last launched from."""

    def reclaimed(self, pool: Pool) -> None:
        """EC2 takes an instance of this pool back, so it will hardly give another one."""
        self._unavailable = self._unavailable.marked(pool, self._clock.now())

    def learn_from(self, attempt: Attempt) -> None:
        """What a job's newest attempt says about its pool, while it is fresh."""
        now = self._clock.now()
        if attempt.ended_at is not None and now - attempt.ended_at > LESSON_KEPT:
            return
        pool = Pool(attempt.instance_type or "", attempt.availability_zone or "", attempt.capacity_type)
        if taken_back(attempt):
            self.reclaimed(pool)
        elif attempt.outcome is not None and attempt.outcome.budget is Budget.LAUNCH_ERRORS:
            self._distrusted[pool] = now + LESSON_KEPT

    async def launch(self, order: Order, count: int, desperate: bool) -> Answer:
        """Ask for `count` instances. When `desperate`, pools that had none lately are asked too."""
        available = self._unavailable.without(order.pools, self._clock.now())
        pools = order.pools if desperate and not available else available
        if not pools and self._unavailable.hopeless(order.pools, self._clock.now()):
            message = "EC2 supports none of the admissible instance types in these zones with this AMI"
            return Answer((), (Fault("Unsupported", message, Reason.LAUNCH_REJECTED),), False)
        if not pools:
            message = "every admissible capacity pool had no instance within the last minutes"
            return Answer((), (Fault("InsufficientInstanceCapacity", message, Reason.INSUFFICIENT_CAPACITY),), False)
        parts = plan.split(self._trusted(pools), count)
        answers = await asyncio.gather(*(self._call(order, some, n) for some, n in parts))
        instances = tuple(i for answer in answers for i in answer.instances)
        faults = tuple(f for answer in answers for f in answer.faults)
        return Answer(instances, faults, self._learn(order, faults))

    def _trusted(self, pools: Sequence[Pool]) -> Sequence[Pool]:
        """Another pool than the one whose host failed, if there is one."""
        now = self._clock.now()
        return [pool for pool in pools if self._distrusted.get(pool, now) <= now] or pools

    def _learn(self, order: Order, faults: Sequence[Fault]) -> bool:
        """Remember the pools that had nothing; whether it is worth asking the others at once."""
        now = self._clock.now()
        before = self._unavailable.without(order.pools, now)
        self._unavailable = self._unavailable.after(faults, now)
        after = self._unavailable.without(order.pools, now)
        only_capacity = all(f.reason is Reason.INSUFFICIENT_CAPACITY for f in faults)
        return only_capacity and bool(after) and after != before

    async def _call(self, order: Order, pools: Sequence[Pool], count: int) -> FleetAnswer:
        ec2 = self._orders.ec2(order.job_class.spec.region)
        request = plan.fleet_request(
            order.template.name,
            pools,
            order.subnets,
            count,
            capacity_type=order.capacity_type,
            shape=order.shape,
            client_token=self._clock.token(),
            tags=order.tags,
            disk=order.disk,
        )
        self.template_used[order.template.name] = self._clock.now()
        try:
            self._must_lead()
            await ec2.ensure_launch_template(order.template)
            return await self._until_answered(ec2, request)
        except Ec2Error as error:
            return FleetAnswer(faults=(error.fault,))
        except Ec2Unanswered as error:
            return FleetAnswer(faults=(Fault("NoAnswer", f"EC2 gave no answer ({error})", Reason.LAUNCHING),))

    async def _until_answered(self, ec2: Ec2, request: Mapping[str, Any]) -> FleetAnswer:
        """Repeat a call that got no answer with the same token: what it may have launched comes with the repeat."""
        for attempt in range(REPEATS):
            try:
                self._must_lead()
                return await ec2.create_fleet(request)
            except Ec2Unanswered as error:
                log.warning("CreateFleet got no answer, repeating it: %s", error)
                await self._clock.sleep(0.5 * 2**attempt)
        self._must_lead()
        return await ec2.create_fleet(request)

    def _must_lead(self) -> None:
        """Asked right before each call: a pause may lie between any two of them. Raises Ec2Unanswered."""
        if not self._lease.leading():
            raise Ec2Unanswered("this operator does not lead now")

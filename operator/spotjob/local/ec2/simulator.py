"""EC2 in one region, as a pure model: no I/O, no clock, no threads, equal results for equal seeds and calls.

Requests and answers are dicts as boto3 takes and gives them. Use it in process with a clock of your own
(`advance`), or through spotjob.local.aws_server over HTTP.

    ec2 = Simulator(datetime(2026, 1, 1, tzinfo=UTC), seed=1)
    ec2.set_capacity(CapacityRule(instance_type="m6i.large", count=0))
    ec2.call("CreateFleet", {...})
    ec2.advance(ec2.now + timedelta(seconds=30))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spotjob.core.states import CapacityType, Pool
from spotjob.local.ec2 import fleet, lifecycle, queries, templates
from spotjob.local.ec2.errors import ApiError, ReplyLost, not_simulated
from spotjob.local.ec2.faults import Faults, Throttle
from spotjob.local.ec2.pools import CapacityRule
from spotjob.local.ec2.records import Ec2Instance
from spotjob.local.ec2.world import Surroundings, Timing, World

Request = Mapping[str, Any]
Answer = dict[str, Any]

_ACTIONS: Mapping[str, Callable[[World, Request], Answer]] = {
    "CreateFleet": fleet.create,
    "CreateLaunchTemplate": templates.create,
    "DescribeLaunchTemplates": templates.describe,
    "DeleteLaunchTemplate": templates.delete,
    "DescribeInstances": queries.describe_instances,
    "DescribeInstanceStatus": queries.describe_instance_status,
    "DescribeSpotInstanceRequests": queries.describe_spot_requests,
    "TerminateInstances": queries.terminate,
    "CreateTags": queries.create_tags,
    "GetConsoleOutput": queries.console_output,
}
ACTIONS = frozenset(_ACTIONS)
_IDEMPOTENT = frozenset({"CreateFleet", "CreateLaunchTemplate"})


@dataclass(frozen=True, slots=True)
class Reply:
    """What a call came to. `error` and `answer` exclude each other; neither is there when the reply is lost."""

    answer: Answer | None = None
    error: ApiError | None = None
    lost: bool = False
    delay_seconds: float = 0.0
    """The caller is to get the reply this much later."""


class Simulator:
    """The calls, and the levers that real EC2 does not have."""

    def __init__(
        self,
        start: datetime,
        seed: int,
        *,
        region: str = "us-east-1",
        timing: Timing | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        self._world = World(start, seed, region, timing or Timing(), surroundings or Surroundings())
        self._tokens: dict[tuple[str, str], tuple[str, Answer]] = {}
        self.faults = Faults()
        self.throttle = Throttle()
        self.calls: Counter[str] = Counter()
        """Calls that arrived, by action, refused ones too."""

    # ---- time

    @property
    def now(self) -> datetime:
        return self._world.now

    def advance(self, now: datetime) -> None:
        """Let time pass until `now`; what falls due happens on the way."""
        self._world.advance(now)

    @property
    def next_event_at(self) -> datetime | None:
        """When something will happen by itself."""
        return self._world.next_event_at

    @property
    def timing(self) -> Timing:
        return self._world.timing

    # ---- the API

    def call(self, action: str, request: Request) -> Answer:
        """One EC2 call. Raises ApiError, or ReplyLost; a fault's delay is ignored (use `serve` to see it)."""
        reply = self.serve(action, request)
        if reply.lost:
            raise ReplyLost(action)
        if reply.error is not None:
            raise reply.error
        return reply.answer or {}

    def serve(self, action: str, request: Request) -> Reply:
        """One EC2 call with all that can go wrong on its way."""
        self.calls[action] += 1
        fault = self.faults.take(action)
        if fault is None:
            return self._carry_out(action, request)
        spoiled = Reply(error=fault.error(), lost=fault.lost, delay_seconds=fault.delay_seconds)
        if fault.spoils and fault.when == "before":
            return spoiled
        reply = self._carry_out(action, request)
        if fault.spoils:
            return spoiled
        return Reply(reply.answer, reply.error, delay_seconds=fault.delay_seconds)

    def _carry_out(self, action: str, request: Request) -> Reply:
        try:
            if action not in _ACTIONS:
                raise not_simulated(action)
            self.throttle.admit(action, request, self.now)
            if request.get("DryRun"):
                raise ApiError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
            return Reply(answer=self._once(action, request))
        except ApiError as error:
            return Reply(error=error)

    def _once(self, action: str, request: Request) -> Answer:
        """Carry the call out, or repeat the answer that its ClientToken has already got."""
        token = request.get("ClientToken")
        if not token or action not in _IDEMPOTENT:
            return _ACTIONS[action](self._world, request)
        frozen = json.dumps(request, sort_keys=True, default=str)
        if (action, token) not in self._tokens:
            self._tokens[action, token] = (frozen, _ACTIONS[action](self._world, request))
        before, answer = self._tokens[action, token]
        if before != frozen:
            message = "The client token was used before with other parameters."
            raise ApiError("IdempotentParameterMismatch", message)
        return answer

    # ---- levers on capacity

    def set_capacity(self, rule: CapacityRule) -> None:
        """From now on, matching pools have this much capacity left."""
        self._world.pools.set_capacity(rule)

    def set_price(self, pool: Pool, price: float) -> None:
        """US dollars per hour."""
        self._world.pools.set_price(pool, price)

    def set_vcpu_quota(self, capacity_type: CapacityType, vcpus: int) -> None:
        """At most this many vCPUs of one capacity type at once."""
        self._world.pools.vcpu_quota[capacity_type] = vcpus

    # ---- levers on instances; each raises ApiError for an unknown id

    def interrupt(
        self,
        instance_id: str,
        warning_seconds: float = 120,
        spot_code: lifecycle.SpotCode = "instance-terminated-no-capacity",
    ) -> None:
        """Notice now, reclaim after the warning."""
        lifecycle.interrupt(self._world, self.instance(instance_id), warning_seconds, spot_code)

    def reclaim(self, instance_id: str) -> None:
        """Reclaim without notice."""
        lifecycle.reclaim(self._world, self.instance(instance_id))

    def recommend_rebalance(self, instance_id: str) -> None:
        lifecycle.recommend_rebalance(self._world, self.instance(instance_id))

    def impair(self, instance_id: str, on: bool = True) -> None:
        """Both status checks fail from now on, or hold again."""
        self.instance(instance_id).impaired = on

    def power_off(self, instance_id: str) -> None:
        """The guest powered itself off."""
        lifecycle.power_off(self._world, self.instance(instance_id))

    def halted(self, instance_id: str) -> None:
        """The attached machine is down (see Timing.machine_halts)."""
        lifecycle.halted(self._world, self.instance(instance_id))

    # ---- what can be seen from the data centre's side

    def instance(self, instance_id: str) -> Ec2Instance:
        """One instance, also while Describe does not show it yet."""
        return self._world.instance(instance_id)

    def instances(self) -> list[Ec2Instance]:
        """All instances, terminated ones too until EC2 forgets them."""
        return list(self._world.instances.values())

    def take_events(self) -> list[dict[str, Any]]:
        """The events since the last time, as EventBridge would deliver them, oldest first."""
        events, self._world.outbox = self._world.outbox, []
        return events

"""The simulated account on a virtual clock: the product's own EC2 adapter on the simulator, and a table in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextvars import copy_context
from datetime import UTC, datetime, timedelta
from typing import Any

from spotjob.aws.calls import Raw
from spotjob.aws.ec2 import BotoEc2
from spotjob.aws.errors import SERVER, fault_from
from spotjob.core.ports import Ec2Error, Ec2Unanswered, InstanceType, Place, Subnet
from spotjob.core.resources import SpotJobClass
from spotjob.local.ec2 import Reply, Simulator

TIMEOUT_SECONDS = 10.0
"""How long the operator waits for EC2."""
START = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)
ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
TYPES = tuple(
    InstanceType(name, 2, 8192, 0, frozenset({"amd64"}), current_generation=True, spot=True)
    for name in ("c6i.large", "m6i.large", "m6a.large")
)
PLACE = Place(
    image_id="ami-1",
    subnets=tuple(Subnet(f"subnet-{n}", zone) for n, zone in enumerate(ZONES)),
    instance_types=TYPES,
    offered=frozenset((t.name, zone) for t in TYPES for zone in ZONES),
)


def a_class(name: str, default: bool = False, **spec: Any) -> SpotJobClass:
    """A class in us-east-1. `spec` in wire names."""
    annotations = {"spotjob.dev/is-default-class": "true"} if default else {}
    metadata = {"name": name, "uid": f"uid-of-{name}", "resourceVersion": "1", "annotations": annotations}
    known = {"region": "us-east-1", "subnets": {"ids": ["subnet-0"]}, "securityGroups": ["sg-1"]}
    known |= {"apiURL": "http://127.0.0.1:8080", "maxConcurrent": 1000}
    return SpotJobClass.model_validate({"metadata": metadata, "spec": {**known, **spec}})


class LoopClock:
    """ports.Clock on the event loop's (virtual) time; chance is a counter."""

    def __init__(self) -> None:
        self._tokens = itertools.count(1)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def token(self) -> str:
        return f"{next(self._tokens):032x}"


class Network:
    """What lies between the operators and EC2."""

    def __init__(self) -> None:
        self.hidden: dict[str, float] = {}
        """Until when (loop time) no listing shows this instance, though it lives."""
        self.late: dict[str, float] = {}
        """The next call of an action arrives so many seconds late, when nobody waits for its answer any more."""
        self.leaving: list[Callable[[str], None]] = []
        """Told of every call as somebody makes it: its operation, such as create_fleet."""
        self.passing: list[Callable[[str, Mapping[str, Any]], None]] = []
        """Told of every call on its way: action and request."""

    def without_hidden(self, answer: Raw) -> Raw:
        if not self.hidden or "Reservations" not in answer:
            return answer
        now = asyncio.get_running_loop().time()
        shown = [
            {**each, "Instances": [i for i in each["Instances"] if self.hidden.get(i["InstanceId"], 0.0) <= now]}
            for each in answer["Reservations"]
        ]
        return {**answer, "Reservations": shown}


class SimulatedCalls:
    """Stands where boto3 does (aws.calls.Calls), and asks the simulator."""

    def __init__(self, ec2: Simulator, clock: LoopClock, network: Network) -> None:
        self._ec2, self._clock, self._network = ec2, clock, network
        self._outside = copy_context()

    async def call(self, operation: str, **request: Any) -> Raw:
        for told in self._network.leaving:
            told(operation)
        await asyncio.sleep(0.05)
        action = "".join(word.title() for word in operation.split("_"))
        for looking in self._network.passing:
            looking(action, request)
        if action in self._network.late:
            seconds = self._network.late.pop(action)
            asyncio.get_running_loop().call_later(seconds, self._serve, action, request, context=self._outside)
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise Ec2Unanswered(f"{operation}: no answer in time")
        reply = self._serve(action, request)
        await asyncio.sleep(reply.delay_seconds)
        if reply.lost:
            raise Ec2Unanswered(f"{operation}: the connection broke")
        if reply.error is not None:
            if reply.error.code in SERVER:
                raise Ec2Unanswered(f"{reply.error.code}: {reply.error.message}")
            raise Ec2Error(fault_from(reply.error.code, reply.error.message))
        return self._network.without_hidden(reply.answer or {})

    def _serve(self, action: str, request: Mapping[str, Any]) -> Reply:
        self._ec2.advance(self._clock.now())
        return self._ec2.serve(action, request)


class SimulatedEc2(BotoEc2):
    """The product's own EC2 adapter, on the simulator; every class resolves to the same place."""

    def __init__(self, ec2: Simulator, clock: LoopClock, network: Network) -> None:
        calls = SimulatedCalls(ec2, clock, network)
        super().__init__("us-east-1", calls, calls, calls, clock)  # type: ignore[arg-type]

    async def place(self, job_class: SpotJobClass) -> Place:
        return PLACE


class NoAnswer:
    """Stands where boto3 does when nothing answers: a region that does not exist."""

    async def call(self, operation: str, **_: Any) -> Raw:
        await asyncio.sleep(15)
        raise Ec2Unanswered(f"{operation}: no such host")


class SimulatedAws:
    """ports.Aws with one region; every other one does not answer."""

    def __init__(self, ec2: Simulator, clock: LoopClock, network: Network) -> None:
        self._one = SimulatedEc2(ec2, clock, network)
        none = NoAnswer()
        self._other = BotoEc2("us-nowhere-1", none, none, none, clock)  # type: ignore[arg-type]

    def ec2(self, region: str) -> BotoEc2:
        return self._one if region == "us-east-1" else self._other


class MemoryTable:
    """ports.Table."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.down = False

    async def open(self) -> MemoryTable:
        if self.down:
            raise ConnectionError("no table")
        return self

    async def put(self, item: Mapping[str, Any]) -> bool:
        if self.down:
            raise ConnectionError("no table")
        known = self.items.get(item["id"])
        if known is not None and known["version"] >= item["version"]:
            return False
        self.items[item["id"]] = dict(item)
        return True

    async def get(self, item_id: str) -> Mapping[str, Any] | None:
        return self.items.get(item_id)

    async def open_items(self) -> list[Mapping[str, Any]]:
        return [i for i in self.items.values() if not i["jobStatus"].startswith("Terminated")]

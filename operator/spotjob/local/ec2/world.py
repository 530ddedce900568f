"""The state of one simulated region, its clock, and its chance.

Nothing here waits or reads a clock: `advance` moves time, and everything that falls due on the way happens in
order, at its own time. Two worlds with one seed and one history are equal, ids included.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from spotjob.core.states import InstanceState
from spotjob.local.ec2.errors import no_such_instance
from spotjob.local.ec2.pools import Pools
from spotjob.local.ec2.records import Ec2Instance, SpotRequest, Template
from spotjob.local.timeline import Timeline

ACCOUNT = "123456789012"
_ALPHANUMERIC = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(slots=True)
class Timing:
    """How long things take, in seconds. May be changed at any time and counts from the next event on."""

    boot_seconds: float | None = 30.0
    """pending to running; None: pending for ever."""
    shutdown_seconds: float = 20.0
    """shutting-down to terminated at least."""
    visibility_seconds: float = 0.0
    """A fresh id is unknown to Describe and Terminate for this long (EC2 is eventually consistent)."""
    vanish_seconds: float = 3600.0
    """terminated to forgotten."""
    console_seconds: float = 0.0
    """GetConsoleOutput shows what an instance wrote until it ran, or was down, this much later."""
    machine_halts: bool = False
    """An instance is down only when `halted` says so: real hardware is attached."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What exists besides instances. None: anything may be named."""

    subnets: Mapping[str, str] | None = None
    """Subnet id to availability zone."""
    images: Container[str] | None = None
    security_groups: Container[str] | None = None


@dataclass
class World(Timeline):
    """Everything that the simulator remembers."""

    seed: int
    region: str
    timing: Timing
    surroundings: Surroundings
    instances: dict[str, Ec2Instance] = field(default_factory=dict)
    spot_requests: dict[str, SpotRequest] = field(default_factory=dict)
    templates: dict[str, Template] = field(default_factory=dict)
    pools: Pools = field(default_factory=Pools)
    outbox: list[dict[str, Any]] = field(default_factory=list)
    """Events as EventBridge delivers them, oldest first."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._chance = random.Random(self.seed)  # noqa: S311 -- ids of a simulation, to be repeatable

    # ---- names

    def new_id(self, prefix: str) -> str:
        """An id of 17 hex digits behind the prefix, as EC2 makes them."""
        return f"{prefix}-{self._chance.getrandbits(68):017x}"

    def new_spot_request_id(self) -> str:
        return "sir-" + "".join(self._chance.choices(_ALPHANUMERIC, k=8))

    def new_uuid(self) -> str:
        return str(uuid.UUID(int=self._chance.getrandbits(128), version=4))

    # ---- instances

    def visible(self, instance: Ec2Instance) -> bool:
        return self.now >= instance.launched + timedelta(seconds=self.timing.visibility_seconds)

    def listed(self) -> list[Ec2Instance]:
        """Every instance that Describe shows, in launch order."""
        return [instance for instance in self.instances.values() if self.visible(instance)]

    def instance(self, instance_id: str) -> Ec2Instance:
        """The instance, seen or not yet. Raises InvalidInstanceID.NotFound."""
        found = self.instances.get(instance_id)
        if found is None:
            raise no_such_instance(instance_id)
        return found

    def known(self, ids: list[str]) -> list[Ec2Instance]:
        """These instances as a call that names ids sees them: all, or InvalidInstanceID.NotFound for the unknown."""
        unique = dict.fromkeys(ids)
        unknown = [i for i in unique if i not in self.instances or not self.visible(self.instances[i])]
        if unknown:
            raise no_such_instance(*unknown)
        return [self.instances[i] for i in unique]

    # ---- events

    def emit(self, detail_type: str, instance: Ec2Instance, resource: str | None = None, **detail: str) -> None:
        """Put one event of source aws.ec2 into the outbox. Its shape: aws-facts 3.2."""
        self.outbox.append(
            {
                "version": "0",
                "id": self.new_uuid(),
                "detail-type": detail_type,
                "source": "aws.ec2",
                "account": ACCOUNT,
                "time": self.now.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "region": self.region,
                "resources": [resource or f"arn:aws:ec2:{self.region}:{ACCOUNT}:instance/{instance.id}"],
                "detail": {"instance-id": instance.id}
                | {key.replace("_", "-"): value for key, value in detail.items()},
            }
        )

    def enter(self, instance: Ec2Instance, state: InstanceState) -> None:
        """The instance is now in this state, and EventBridge hears of it."""
        instance.state = state
        self.emit("EC2 Instance State-change Notification", instance, state=str(state))

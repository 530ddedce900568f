"""CreateFleet with Type=instant: one attempt, synchronous, and 200 even when nothing could be launched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from spotjob.core.states import CapacityType
from spotjob.local.ec2 import lifecycle, offers
from spotjob.local.ec2.errors import ApiError, invalid, missing, not_simulated, refuse_unknown
from spotjob.local.ec2.offers import Offer
from spotjob.local.ec2.pools import UNLIMITED, vcpus
from spotjob.local.ec2.records import tags_for
from spotjob.local.ec2.world import World

_REQUEST_KEYS = frozenset(
    {
        "Type",
        "ClientToken",
        "DryRun",
        "LaunchTemplateConfigs",
        "TargetCapacitySpecification",
        "SpotOptions",
        "OnDemandOptions",
        "TagSpecifications",
    }
)
_TARGET_KEYS = frozenset(
    {"TotalTargetCapacity", "DefaultTargetCapacityType", "SpotTargetCapacity", "OnDemandTargetCapacity"}
)
_OPTION_KEYS = frozenset({"AllocationStrategy", "InstanceInterruptionBehavior"})
_MOST = 10_000
_QUOTA_ERRORS = {
    CapacityType.SPOT: ("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded"),
    CapacityType.ON_DEMAND: (
        "VcpuLimitExceeded",
        "You have requested more vCPU capacity than your current vCPU limit allows.",
    ),
}


def create(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """CreateFleet. The request is checked as a whole first; after that every trouble is one of the Errors."""
    refuse_unknown(request, _REQUEST_KEYS, "CreateFleet")
    if request.get("Type", "maintain") != "instant":
        raise not_simulated("fleets of another type than instant")
    wanted = _wanted(request)
    fleet = _Fleet(world, request)
    plans = [(kind, count, offers.read(world, request, kind)) for kind, count in wanted.items()]
    for kind, count, choice in plans:
        fleet.fill(offers.in_order(choice, world.pools, _strategy(request, kind), count), count)
    return {"FleetId": fleet.id, "Instances": fleet.launched, "Errors": fleet.errors}


def _wanted(request: Mapping[str, Any]) -> dict[CapacityType, int]:
    """How many instances of each capacity type the request wants."""
    target = request.get("TargetCapacitySpecification", {})
    refuse_unknown(target, _TARGET_KEYS, "TargetCapacitySpecification")
    if "TotalTargetCapacity" not in target:
        raise missing("TargetCapacitySpecification.TotalTargetCapacity")
    total = int(target["TotalTargetCapacity"])
    if not 1 <= total <= _MOST:
        raise invalid(f"TotalTargetCapacity must be between 1 and {_MOST}")
    counts = {
        CapacityType.SPOT: int(target.get("SpotTargetCapacity", 0)),
        CapacityType.ON_DEMAND: int(target.get("OnDemandTargetCapacity", 0)),
    }
    if sum(counts.values()) > total:
        raise invalid("The sum of the target capacities exceeds TotalTargetCapacity")
    counts[_default_type(target)] += total - sum(counts.values())
    return {kind: count for kind, count in counts.items() if count}


def _default_type(target: Mapping[str, Any]) -> CapacityType:
    name = target.get("DefaultTargetCapacityType", "on-demand")
    if name not in tuple(CapacityType):
        raise not_simulated(f"the capacity type {name}")
    return CapacityType(name)


def _strategy(request: Mapping[str, Any], kind: CapacityType) -> str:
    options = request.get("SpotOptions" if kind is CapacityType.SPOT else "OnDemandOptions", {})
    refuse_unknown(options, _OPTION_KEYS, "SpotOptions or OnDemandOptions")
    strategy = str(options.get("AllocationStrategy", "lowest-price"))
    if kind is CapacityType.ON_DEMAND and strategy not in ("lowest-price", "prioritized"):
        raise invalid(f"The allocation strategy '{strategy}' is invalid")
    return strategy


class _Fleet:
    """One fleet while it is being filled."""

    def __init__(self, world: World, request: Mapping[str, Any]) -> None:
        self._world = world
        self._tags = tags_for(request.get("TagSpecifications", ()), "instance")
        self._client_token = str(request.get("ClientToken", ""))
        self.id = f"fleet-{world.new_uuid()}"
        self.launched: list[dict[str, Any]] = []
        self.errors: list[dict[str, Any]] = []

    def fill(self, ordered: list[Offer], wanted: int) -> None:
        """Take from each pool what it has until enough is launched.

        Every pool that is or becomes empty is named in Errors, also when others made up for it: both parts of
        an answer can be non-empty (aws-facts, fact 1), and a client that reads only one of them is to be found out.
        """
        for offer in ordered:
            count, errors = self._admitted(offer, wanted)
            self.errors.extend(_error(offer, error) for error in errors)
            if count:
                self._launch(offer, count)
                wanted -= count

    def _admitted(self, offer: Offer, wanted: int) -> tuple[int, list[ApiError]]:
        """How many of the wanted instances this offer can give, and what stands in the way of more."""
        fault = offers.flaw(self._world, offer)
        if fault is not None:
            return 0, [fault]
        errors = []
        free, quota = self._world.pools.free(offer.pool), self._quota(offer)
        if free == 0 or free < wanted:
            errors.append(_no_capacity(offer, self._world.pools.empty_code(offer.pool)))
        if quota < min(free, wanted):
            errors.append(ApiError(*_QUOTA_ERRORS[offer.pool.capacity_type]))
        return min(wanted, free, quota), errors

    def _quota(self, offer: Offer) -> int:
        """How many more instances of this offer the vCPU quota admits."""
        kind = offer.pool.capacity_type
        limit = self._world.pools.vcpu_quota.get(kind)
        if limit is None:
            return UNLIMITED
        used = sum(vcpus(i.pool.instance_type) for i in self._alive() if i.pool.capacity_type is kind)
        return max(0, limit - used) // vcpus(offer.pool.instance_type)

    def _alive(self) -> Iterator[Any]:
        return (instance for instance in self._world.instances.values() if instance.alive)

    def _launch(self, offer: Offer, count: int) -> None:
        self._world.pools.take(offer.pool, count)
        reservation = self._world.new_id("r")
        tags = offer.template.tags_for("instance") | self._tags | self._marks(offer)
        spot_tags = offer.template.tags_for("spot-instances-request")
        ids = [
            lifecycle.launch(
                self._world,
                offer.pool,
                offer.data,
                tags=tags,
                spot_tags=spot_tags,
                reservation=reservation,
                client_token=self._client_token,
            ).id
            for _ in range(count)
        ]
        self.launched.append(_granted(offer, ids))

    def _marks(self, offer: Offer) -> dict[str, str]:
        """The tags that EC2 itself puts on a fleet's instances (aws-facts 2.2)."""
        return {
            "aws:ec2:fleet-id": self.id,
            "aws:ec2launchtemplate:id": offer.template.id,
            "aws:ec2launchtemplate:version": "1",
        }


def _granted(offer: Offer, ids: list[str]) -> dict[str, Any]:
    granted = {
        "LaunchTemplateAndOverrides": offer.described(),
        "Lifecycle": str(offer.pool.capacity_type),
        "InstanceIds": ids,
        "InstanceType": offer.pool.instance_type,
        "AvailabilityZone": offer.pool.availability_zone,
    }
    return granted | ({"SubnetId": offer.data["SubnetId"]} if "SubnetId" in offer.data else {})


def _no_capacity(offer: Offer, code: str) -> ApiError:
    where = f"{offer.pool.instance_type} capacity in the Availability Zone {offer.pool.availability_zone}"
    return ApiError(code, f"We currently do not have sufficient {where}.")


def _error(offer: Offer, error: ApiError) -> dict[str, Any]:
    return {
        "LaunchTemplateAndOverrides": offer.described(),
        "Lifecycle": str(offer.pool.capacity_type),
        "ErrorCode": error.code,
        "ErrorMessage": error.message,
    }

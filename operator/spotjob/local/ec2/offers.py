"""What one CreateFleet request asks for: one offer per capacity pool, in the order of the allocation strategy."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spotjob.core.states import CapacityType, Pool
from spotjob.local.ec2 import templates
from spotjob.local.ec2.errors import ApiError, invalid, missing, refuse_unknown
from spotjob.local.ec2.pools import Pools
from spotjob.local.ec2.records import Template, security_groups
from spotjob.local.ec2.world import World

_USER_DATA_LIMIT = 16384
_CONFIG_KEYS = frozenset({"LaunchTemplateSpecification", "Overrides"})
_LAUNCH_KEYS = ("InstanceType", "SubnetId", "ImageId", "BlockDeviceMappings", "KeyName", "IamInstanceProfile")
"""Override members that replace the template's."""
_OVERRIDE_KEYS = frozenset(_LAUNCH_KEYS) | {"AvailabilityZone", "Priority", "MaxPrice", "MetadataOptions", "Placement"}


@dataclass(frozen=True, slots=True)
class Offer:
    """One launch that the request admits: a pool, the template behind it, and the data to launch with."""

    order: int
    pool: Pool
    template: Template
    overrides: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def priority(self) -> float:
        """The lowest number goes first; offers without one come last."""
        return float(self.overrides.get("Priority", "inf"))

    def described(self) -> dict[str, Any]:
        """LaunchTemplateAndOverrides, as answers carry it."""
        specification = {"LaunchTemplateId": self.template.id, "Version": "1"}
        return {"LaunchTemplateSpecification": specification, "Overrides": dict(self.overrides)}


def read(world: World, request: Mapping[str, Any], capacity_type: CapacityType) -> list[Offer]:
    """Every offer of the request. Raises what EC2 refuses as a whole."""
    if not request.get("LaunchTemplateConfigs"):
        raise missing("LaunchTemplateConfigs")
    offers = [
        _offer(world, order, template, overrides, capacity_type)
        for order, (template, overrides) in enumerate(_pairs(world, request["LaunchTemplateConfigs"]))
    ]
    _refuse_duplicates(offers)
    return offers


def _pairs(world: World, configs: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Template, Mapping[str, Any]]]:
    for config in configs:
        refuse_unknown(config, _CONFIG_KEYS, "LaunchTemplateConfigs")
        template = templates.find_version(world, config.get("LaunchTemplateSpecification", {}))
        for overrides in config.get("Overrides") or [{}]:
            refuse_unknown(overrides, _OVERRIDE_KEYS, "Overrides")
            yield template, overrides


def _offer(
    world: World, order: int, template: Template, overrides: Mapping[str, Any], capacity_type: CapacityType
) -> Offer:
    data = dict(template.data) | {key: overrides[key] for key in _LAUNCH_KEYS if key in overrides}
    if "MetadataOptions" in overrides:
        data["MetadataOptions"] = dict(data.get("MetadataOptions", {})) | dict(overrides["MetadataOptions"])
    if "InstanceType" not in data:
        raise missing("InstanceType")
    pool = Pool(data["InstanceType"], _zone(world, overrides, data), capacity_type)
    return Offer(order, pool, template, overrides, data)


def _zone(world: World, overrides: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    subnets, subnet = world.surroundings.subnets, data.get("SubnetId", "")
    if subnets is not None and subnet in subnets:
        return subnets[subnet]
    placement = overrides.get("Placement") or data.get("Placement") or {}
    return str(overrides.get("AvailabilityZone") or placement.get("AvailabilityZone") or f"{world.region}a")


def _refuse_duplicates(offers: Sequence[Offer]) -> None:
    if len({offer.pool for offer in offers}) < len(offers):
        raise ApiError("InvalidFleetConfig", "The fleet configuration contains duplicate instance pools.")
    subnets: dict[str, str] = {}
    for offer in offers:
        subnet, zone = str(offer.data.get("SubnetId")), offer.pool.availability_zone
        if subnets.setdefault(zone, subnet) != subnet:
            raise ApiError("InvalidFleetConfig", f"The fleet configuration has more than one subnet in {zone}.")


Key = Callable[[Offer], tuple[float, ...]]


def in_order(offers: Sequence[Offer], pools: Pools, strategy: str, wanted: int) -> list[Offer]:
    """The offers in the order in which this strategy tries them. Raises InvalidParameterValue for an unknown one."""
    keys: dict[str, Key] = {
        "lowest-price": lambda o: (pools.price(o.pool), o.order),
        "prioritized": lambda o: (o.priority, o.order),
        "capacity-optimized": lambda o: (-pools.free(o.pool), o.order),
        "capacity-optimized-prioritized": lambda o: (-min(pools.free(o.pool), wanted), o.priority, o.order),
        # A pool that can serve the whole request is deep; among deep ones the cheapest goes first.
        "price-capacity-optimized": lambda o: (-min(pools.free(o.pool), wanted), pools.price(o.pool), o.order),
    }
    if strategy not in keys:
        raise invalid(f"The allocation strategy '{strategy}' is invalid")
    return sorted(offers, key=keys[strategy])


def flaw(world: World, offer: Offer) -> ApiError | None:
    """Why this offer cannot be launched at all, whatever the capacity. These come in the answer's Errors."""
    around, data = world.surroundings, offer.data
    image, subnet = str(data.get("ImageId", "")), data.get("SubnetId")
    if not image:
        return missing("ImageId")
    if not image.startswith(("ami-", "resolve:ssm:")):
        return ApiError("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    if around.images is not None and image.startswith("ami-") and image not in around.images:
        return ApiError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
    if around.subnets is not None and subnet is not None and subnet not in around.subnets:
        return ApiError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
    return _group_flaw(world, data) or _user_data_flaw(data) or _price_flaw(world, offer)


def _group_flaw(world: World, data: Mapping[str, Any]) -> ApiError | None:
    known = world.surroundings.security_groups
    unknown = [group for group in security_groups(data) if known is not None and group not in known]
    return ApiError("InvalidGroup.NotFound", f"The security group '{unknown[0]}' does not exist") if unknown else None


def _user_data_flaw(data: Mapping[str, Any]) -> ApiError | None:
    try:
        size = len(base64.b64decode(data.get("UserData", ""), validate=True))
    except binascii.Error:
        return ApiError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.")
    if size > _USER_DATA_LIMIT:
        return ApiError("InvalidUserData.Malformed", f"User data is limited to {_USER_DATA_LIMIT} bytes")
    return None


def _price_flaw(world: World, offer: Offer) -> ApiError | None:
    price = world.pools.price(offer.pool)
    if float(offer.overrides.get("MaxPrice", "inf")) >= price:
        return None
    message = f"Your Spot request price is lower than the minimum required Spot request fulfillment price of {price}."
    return ApiError("SpotMaxPriceTooLow", message)

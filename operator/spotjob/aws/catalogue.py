"""What a SpotJobClass resolves to in AWS: its AMI, one subnet per zone, and the instance types offered there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from spotjob.aws.calls import Calls, Raw, pages
from spotjob.core.ports import Clock, Ec2Error, Ec2Unanswered, Fault, InstanceType, Place, Subnet
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJobClassSpec
from spotjob.core.resources import Subnets as SubnetChoice

PLACE_SECONDS = 3600
"""How long a resolved class is kept."""
FAILURE_SECONDS = 30
"""How long a class that could not be resolved is left alone, so that its thousand jobs do not ask a thousand times."""
PARAMETER_SECONDS = 86_400
"""How long an AMI alias is kept: AWS publishes new AMIs every week or two."""

ARCHITECTURES = {"x86_64": "amd64", "arm64": "arm64"}
"""EC2's words and those of container images; other architectures (i386, Mac) cannot be asked for."""


class Catalogue:
    """Resolves classes in one region and remembers the answers."""

    def __init__(self, ec2: Calls, ssm: Calls, clock: Clock) -> None:
        self._ec2, self._ssm, self._clock = ec2, ssm, clock
        self._known: dict[str, tuple[float, Place | Ec2Error | Ec2Unanswered]] = {}
        self._parameters: dict[str, tuple[float, str]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def place(self, spec: SpotJobClassSpec) -> Place:
        """Raises Ec2Error (LAUNCH_REJECTED for what does not exist) and Ec2Unanswered."""
        key = spec.model_dump_json(include={"subnets", "ami_alias", "instance_types"})
        async with self._one_at_a_time:
            known = self._known.get(key)
            fresh = known is not None and known[0] > self._clock.monotonic()
            outcome = known[1] if known and fresh else await self._resolved(key, spec)
        if not isinstance(outcome, Place):
            raise outcome.with_traceback(None)
        return outcome

    async def _resolved(self, key: str, spec: SpotJobClassSpec) -> Place | Ec2Error | Ec2Unanswered:
        """Resolve and remember, a failure as well. What is no longer asked for is forgotten."""
        outcome: Place | Ec2Error | Ec2Unanswered
        try:
            outcome, seconds = await self._resolve(spec), PLACE_SECONDS
        except (Ec2Error, Ec2Unanswered) as error:
            outcome, seconds = error, FAILURE_SECONDS
        now = self._clock.monotonic()
        self._known = {k: kept for k, kept in self._known.items() if kept[0] > now}
        self._known[key] = (now + seconds, outcome)
        return outcome

    async def _resolve(self, spec: SpotJobClassSpec) -> Place:
        image_id, root_device = await self._image(spec.ami_alias)
        subnets = await self._subnets(spec.subnets)
        types = await self._instance_types(spec.instance_types.allow)
        offered = await self._offered({subnet.availability_zone for subnet in subnets})
        return Place(image_id, subnets, types, offered, root_device)

    # ---- AMI ----

    async def _image(self, alias: str) -> tuple[str, str]:
        """(AMI id, root device name)."""
        image_id = await self._parameter(alias.removeprefix("ssm:")) if alias.startswith("ssm:") else alias
        found = (await self._ec2.call("describe_images", ImageIds=[image_id]))["Images"]
        if not found or "RootDeviceName" not in found[0]:
            raise _missing(f"there is no AMI {image_id} with a root volume")
        return image_id, found[0]["RootDeviceName"]

    async def _parameter(self, name: str) -> str:
        until, value = self._parameters.get(name, (0.0, ""))
        if until <= self._clock.monotonic():
            value = await self._read_parameter(name)
            self._parameters[name] = (self._clock.monotonic() + PARAMETER_SECONDS, value)
        return value

    async def _read_parameter(self, name: str) -> str:
        try:
            answer = await self._ssm.call("get_parameter", Name=name)
        except Ec2Error as error:
            raise Ec2Error(Fault(error.fault.code, f"SSM parameter {name}: {error}", error.fault.reason)) from error
        value = str(answer["Parameter"]["Value"])
        if not value.startswith("ami-"):
            raise _missing(f"SSM parameter {name} holds no AMI id but {value[:40]!r}")
        return value

    # ---- subnets ----

    async def _subnets(self, choice: SubnetChoice) -> tuple[Subnet, ...]:
        """One per zone, the one with the most free addresses: a fleet may not use two in one zone."""
        every = pages(partial(self._ec2.call, "describe_subnets"), **_subnet_request(choice))
        found = [raw async for page in every for raw in page["Subnets"]]
        if not found:
            raise _missing(f"no subnet has the tags {dict(choice.tags or {})}")
        emptiest: dict[str, Raw] = {}
        for raw in sorted(found, key=lambda raw: (-raw.get("AvailableIpAddressCount", 0), raw["SubnetId"])):
            emptiest.setdefault(raw["AvailabilityZone"], raw)
        return tuple(Subnet(raw["SubnetId"], zone) for zone, raw in sorted(emptiest.items()))

    # ---- instance types ----

    async def _instance_types(self, allow: Iterable[str]) -> tuple[InstanceType, ...]:
        """Only what the class can use: EC2 understands its patterns, and lists over a thousand types otherwise."""
        filters = _filters({"instance-type": list(allow)} if allow else {"current-generation": ["true"]})
        every = pages(partial(self._ec2.call, "describe_instance_types"), Filters=filters, MaxResults=100)
        return tuple([instance_type_from(raw) async for page in every for raw in page["InstanceTypes"]])

    async def _offered(self, zones: Iterable[str]) -> frozenset[tuple[str, str]]:
        """(type, zone) pairs. Not filtered by type: only DescribeInstanceTypes documents patterns in that filter."""
        call = partial(self._ec2.call, "describe_instance_type_offerings", LocationType="availability-zone")
        every = pages(call, Filters=_filters({"location": sorted(zones)}), MaxResults=1000)
        listed = [raw async for page in every for raw in page["InstanceTypeOfferings"]]
        return frozenset((raw["InstanceType"], raw["Location"]) for raw in listed)


def instance_type_from(raw: Raw) -> InstanceType:
    """One entry of DescribeInstanceTypes. Only NVIDIA's GPUs count: jobs ask for nvidia.com/gpu."""
    gpus = raw.get("GpuInfo", {}).get("Gpus", [])
    supported = raw["ProcessorInfo"].get("SupportedArchitectures", [])
    return InstanceType(
        name=raw["InstanceType"],
        vcpus=raw["VCpuInfo"]["DefaultVCpus"],
        memory_mib=raw["MemoryInfo"]["SizeInMiB"],
        gpus=sum(gpu.get("Count", 0) for gpu in gpus if gpu.get("Manufacturer") == "NVIDIA"),
        architectures=frozenset(ARCHITECTURES[a] for a in supported if a in ARCHITECTURES),
        current_generation=raw.get("CurrentGeneration", False),
        spot="spot" in raw.get("SupportedUsageClasses", []),
        bare_metal=raw.get("BareMetal", False),
    )


def _subnet_request(choice: SubnetChoice) -> dict[str, Any]:
    """By ids, so that an unknown one is an error; or by tags."""
    if choice.ids:
        return {"SubnetIds": list(choice.ids)}
    tags = {f"tag:{key}": [value] for key, value in (choice.tags or {}).items()}
    return {"Filters": _filters({**tags, "state": ["available"]})}


def _filters(values: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    return [{"Name": name, "Values": listed} for name, listed in values.items()]


def _missing(text: str) -> Ec2Error:
    return Ec2Error(Fault("NotFound", text, Reason.LAUNCH_REJECTED))

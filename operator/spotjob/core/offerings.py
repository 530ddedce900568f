"""Which capacity pools may serve a job, and which of them to leave out for a while.

The filters run in a fixed order and each has words of its own, so that a job that nothing can serve is told which
wish ruled out the last candidates, and how far it would have to come down.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from spotjob.core.ports import Fault, InstanceType, Place
from spotjob.core.quantities import parse_quantity
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJobClassSpec
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType, Pool

MOST_TYPES = 60
"""Instance types per launch, as Karpenter: the body of CreateFleet is limited (aws-facts 2.5)."""
USABLE_MEMORY = Decimal("0.925")
"""Share of an instance's advertised memory that containers get; the host keeps 7.5 % (Karpenter's default)."""
LEAST_MEMORY_MIB = 1024
"""Smaller instances have no room for Docker and an image being unpacked."""

MIB = 1024 * 1024

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True)
class Refused:
    """No pool may serve the job. Waiting does not help: the message says which wish ruled out the last candidates."""

    message: str


def admissible(
    spec: SpotJobSpec, job_class: SpotJobClassSpec, place: Place, capacity_type: CapacityType
) -> tuple[Pool, ...] | Refused:
    """Every pool that may serve the job: the smallest types first, at most MOST_TYPES of them, all their zones."""
    types = place.instance_types
    for each in _filters(spec, job_class, place, capacity_type):
        left = tuple(t for t in types if each.keeps(t))
        if not left:
            return Refused(each.refusal(types))
        types = left
    smallest = sorted(types, key=lambda t: (t.vcpus, t.memory_mib, t.name))[:MOST_TYPES]
    zones = sorted({subnet.availability_zone for subnet in place.subnets})
    return tuple(
        Pool(t.name, zone, capacity_type) for t in smallest for zone in zones if (t.name, zone) in place.offered
    )


@dataclass(frozen=True, slots=True)
class _Filter:
    keeps: Callable[[InstanceType], bool]
    refusal: Callable[[Sequence[InstanceType]], str]
    """What to say when none of these candidates is kept."""


def _filters(
    spec: SpotJobSpec, job_class: SpotJobClassSpec, place: Place, capacity_type: CapacityType
) -> Iterator[_Filter]:
    yield from _of_the_class(job_class)
    yield from _of_the_job(spec)
    yield from _of_the_market(place, capacity_type)


def _of_the_class(job_class: SpotJobClassSpec) -> Iterator[_Filter]:
    allow, exclude = job_class.instance_types.allow, job_class.instance_types.exclude
    if allow:
        yield _Filter(lambda t: _matches(t.name, allow), lambda _: f"EC2 knows no instance type like {_or(allow)}")
    else:
        yield _Filter(lambda t: t.current_generation, lambda _: "EC2 knows no instance type of the current generation")
    # Bare metal takes longer to boot than an instance may stay unbound.
    yield _Filter(lambda t: not t.bare_metal, lambda _: "the class allows bare metal only, which is not supported")
    yield _Filter(
        lambda t: not _matches(t.name, exclude),
        lambda _: f"the class excludes every instance type that it allows ({_or(exclude)})",
    )


def _of_the_job(spec: SpotJobSpec) -> Iterator[_Filter]:
    wishes, named = spec.resources.requests, spec.instance_types
    if named:
        yield _Filter(
            lambda t: _matches(t.name, named), lambda _: f"the class admits no instance type like {_or(named)}"
        )
    architecture = spec.architecture
    yield _Filter(lambda t: architecture in t.architectures, lambda _: f"no admissible instance type is {architecture}")
    yield from _for_gpus(wishes.gpu, architecture, named)
    yield from _for_cpus(wishes.cpu, architecture)
    yield from _for_memory(wishes.memory, architecture)


def _for_gpus(wanted: int | None, architecture: str, named: Sequence[str]) -> Iterator[_Filter]:
    if wanted is not None:
        yield _Filter(
            lambda t: t.gpus >= wanted,
            lambda had: (
                f"no instance type has {wanted} nvidia.com/gpu in {architecture}; "
                f"the largest admissible has {max(t.gpus for t in had)}"
            ),
        )
    elif not named:
        yield _Filter(
            lambda t: t.gpus == 0,
            lambda _: "every admissible instance type has GPUs: request nvidia.com/gpu, or name instanceTypes",
        )


def _for_cpus(wanted: str | None, architecture: str) -> Iterator[_Filter]:
    if wanted is not None:
        cpus = parse_quantity(wanted)
        yield _Filter(
            lambda t: t.vcpus >= cpus,
            lambda had: (
                f"no instance type has {wanted} vcpus in {architecture}; "
                f"the largest admissible has {max(t.vcpus for t in had)}"
            ),
        )


def _for_memory(wanted: str | None, architecture: str) -> Iterator[_Filter]:
    size = parse_quantity(wanted or "0")
    yield _Filter(
        lambda t: t.memory_mib >= LEAST_MEMORY_MIB and _usable_memory(t) >= size,
        lambda had: (
            f"no instance type has {wanted or '1Gi'} of memory for the container in {architecture}; "
            f"the largest admissible has {int(max(_usable_memory(t) for t in had)) // MIB}Mi"
        ),
    )


def _of_the_market(place: Place, capacity_type: CapacityType) -> Iterator[_Filter]:
    zones = {subnet.availability_zone for subnet in place.subnets}
    if capacity_type is CapacityType.SPOT:
        yield _Filter(lambda t: t.spot, lambda had: f"{_and(had)} cannot be had as spot instances")
    yield _Filter(
        lambda t: any((t.name, zone) in place.offered for zone in zones),
        lambda had: f"EC2 does not offer {_and(had)} in {', '.join(sorted(zones))}",
    )


def _usable_memory(instance_type: InstanceType) -> Decimal:
    """Bytes that a container may have."""
    return instance_type.memory_mib * MIB * USABLE_MEMORY


def _matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether any pattern fits the whole name; `*` stands for any text, everything else for itself."""
    return any(re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) for pattern in patterns)


def _or(patterns: Sequence[str]) -> str:
    return _listed(patterns, " or ")


def _and(types: Iterable[InstanceType]) -> str:
    return _listed(sorted(t.name for t in types), " and ")


def _listed(names: Sequence[str], last: str) -> str:
    """A list for people: at most three names, and how many more there are."""
    shown = [*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else [*names]
    return last.join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


# ---- the pool memory ----------------------------------------------------------------------------------------------

SHORTAGE_TTL = timedelta(minutes=3)
"""How long a pool without capacity is left alone (Karpenter's figure, aws-facts 2.7)."""
UNSUPPORTED_TTL = timedelta(hours=1)
"""How long a pool is left alone that EC2 does not support."""

UNSUPPORTED = frozenset({"Unsupported"})
"""Codes that say: this type does not work in this zone, or not with this AMI."""
SUBNET_FULL = frozenset({"InsufficientFreeAddressesInSubnet"})
"""Codes that say: the whole subnet has no address left, whatever the type."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """What EC2 had not, lately. A new memory comes out of every lesson; an entry lapses at its time."""

    short: Mapping[Pool, datetime] = field(default_factory=dict)
    unsupported: Mapping[Pool, datetime] = field(default_factory=dict)
    full: Mapping[str, datetime] = field(default_factory=dict)
    """By zone: launches use one subnet per zone."""

    def after(self, faults: Iterable[Fault], now: datetime) -> Unavailable:
        """The memory with what these faults teach; those without a pool teach nothing."""
        short, unsupported, full = (_alive(known, now) for known in (self.short, self.unsupported, self.full))
        for fault in faults:
            if fault.pool is None:
                continue
            if fault.code in UNSUPPORTED:
                unsupported[fault.pool] = now + UNSUPPORTED_TTL
            elif fault.code in SUBNET_FULL:
                full[fault.pool.availability_zone] = now + SHORTAGE_TTL
            elif fault.reason is Reason.INSUFFICIENT_CAPACITY:
                short[fault.pool] = now + SHORTAGE_TTL
        return Unavailable(short, unsupported, full)

    def marked(self, pool: Pool, now: datetime) -> Unavailable:
        """The memory when EC2 takes an instance of this pool back: it will hardly give another one."""
        return Unavailable({**_alive(self.short, now), pool: now + SHORTAGE_TTL}, self.unsupported, self.full)

    def without(self, pools: Iterable[Pool], now: datetime) -> tuple[Pool, ...]:
        """Those of the pools that are worth asking for."""
        return tuple(pool for pool in pools if self.until(pool, now) is None)

    def until(self, pool: Pool, now: datetime) -> datetime | None:
        """When the pool is worth asking for again; None means now."""
        lapses = (self.short.get(pool), self.unsupported.get(pool), self.full.get(pool.availability_zone))
        return max((lapse for lapse in lapses if lapse is not None and lapse > now), default=None)

    def hopeless(self, pools: Iterable[Pool], now: datetime) -> bool:
        """EC2 supports none of these pools, so waiting does not help: the AMI, or the class, is wrong for them."""
        return all(self.unsupported.get(pool, now) > now for pool in pools)


def _alive(known: Mapping[_Key, datetime], now: datetime) -> dict[_Key, datetime]:
    return {key: until for key, until in known.items() if until > now}

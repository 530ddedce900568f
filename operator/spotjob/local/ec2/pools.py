"""Capacity pools: how many instances each can still start, at what price, and the account's vCPU quotas.

A pool is (instance type, availability zone, capacity type). Rules with wildcards fill a pool when it is first
looked at; a newer rule overrules older ones. Without a rule a pool never runs out.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase

from spotjob.core.states import CapacityType, Pool

ANY = "*"
UNLIMITED = 1_000_000_000
_SIZES = {"large": 2, "xlarge": 4, "metal": 96}


def vcpus(instance_type: str) -> int:
    """The vCPUs that a type's size name stands for: near enough for a quota (small burstable types have 2, not 1)."""
    size = instance_type.partition(".")[2]
    multiple = re.fullmatch(r"(\d+)xlarge", size)
    return 4 * int(multiple[1]) if multiple else _SIZES.get(size.partition("-")[0], 1)


@dataclass(frozen=True, slots=True)
class CapacityRule:
    """Matching pools can start `count` more instances (None: any number); then they answer `code`."""

    instance_type: str = ANY
    availability_zone: str = ANY
    capacity_type: str = ANY
    count: int | None = None
    code: str = "InsufficientInstanceCapacity"

    @property
    def scope(self) -> tuple[str, str, str]:
        return self.instance_type, self.availability_zone, self.capacity_type

    def matches(self, pool: Pool) -> bool:
        return (
            fnmatchcase(pool.instance_type, self.instance_type)
            and fnmatchcase(pool.availability_zone, self.availability_zone)
            and fnmatchcase(pool.capacity_type, self.capacity_type)
        )


class Pools:
    """The levers on capacity, and what is left of it."""

    def __init__(self) -> None:
        self._rules: list[CapacityRule] = []
        self._free: dict[Pool, int] = {}
        self._prices: dict[Pool, float] = {}
        self.vcpu_quota: dict[CapacityType, int] = {}
        """vCPUs that may run at once, by capacity type; no entry means no limit."""

    def set_capacity(self, rule: CapacityRule) -> None:
        self._rules = [old for old in self._rules if old.scope != rule.scope] + [rule]
        self._free = {pool: free for pool, free in self._free.items() if not rule.matches(pool)}

    def free(self, pool: Pool) -> int:
        """Instances that the pool can still start."""
        if pool not in self._free:
            count = self._rule(pool).count
            self._free[pool] = UNLIMITED if count is None else count
        return self._free[pool]

    def empty_code(self, pool: Pool) -> str:
        """The error code of this pool when it is empty."""
        return self._rule(pool).code

    def take(self, pool: Pool, count: int) -> None:
        if self.free(pool) < UNLIMITED:
            self._free[pool] -= count

    def give_back(self, pool: Pool) -> None:
        """An instance ended by its user frees its place. A reclaimed one does not: EC2 needed it elsewhere."""
        if self.free(pool) < UNLIMITED:
            self._free[pool] += 1

    def price(self, pool: Pool) -> float:
        """US dollars per hour. Without a lever: a made-up, stable figure, and on-demand three times the spot price."""
        if pool in self._prices:
            return self._prices[pool]
        scatter = zlib.crc32(f"{pool.instance_type}/{pool.availability_zone}".encode()) % 1000 / 1000
        spot = vcpus(pool.instance_type) * 0.01 * (1 + scatter)
        return round(spot if pool.capacity_type is CapacityType.SPOT else 3 * spot, 5)

    def set_price(self, pool: Pool, price: float) -> None:
        self._prices[pool] = price

    def _rule(self, pool: Pool) -> CapacityRule:
        return next((rule for rule in reversed(self._rules) if rule.matches(pool)), CapacityRule())

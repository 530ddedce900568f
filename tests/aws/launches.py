"""What the launcher would bring."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spotjob.core import plan
from spotjob.core.ports import LaunchTemplate, Subnet
from spotjob.core.states import CapacityType, Pool

A, B = Pool("m6i.large", "us-east-1a"), Pool("m6i.large", "us-east-1b")


@dataclass(frozen=True)
class Launches:
    """A template, and requests for it."""

    template: LaunchTemplate
    subnets: tuple[Subnet, ...]

    def request(
        self,
        count: int = 1,
        token: str = "",
        pools: tuple[Pool, ...] = (A, B),
        capacity: CapacityType = A.capacity_type,
    ) -> Mapping[str, Any]:
        token = f"{self.template.name[-30:]}-{token}"
        tags = {**self.template.tags, plan.CLASS_TAG: "standard"}
        return plan.fleet_request(self.template.name, pools, self.subnets, count, capacity, "shape-1", token, tags)

"""Faults on order, and EC2's request throttling.

A fault waits for the next call of an action and spoils it, before or after the call has its effect.
The token buckets are those of aws-facts section 1 (EC2 Developer Guide, ec2-api-throttling).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from spotjob.local.ec2.errors import ApiError


@dataclass(slots=True)
class Fault:
    """What is to go wrong with the next `times` calls of `action`.

    `code` is the error that the caller sees; without one and without `lost` the call is only slow.
    `after`: the call has its effect, and the caller does not learn of it.
    """

    action: str
    code: str = ""
    message: str = "injected fault"
    status: int | None = None
    times: int = 1
    when: Literal["before", "after"] = "before"
    lost: bool = False
    """The connection breaks instead of an answer."""
    delay_seconds: float = 0.0
    """The answer, or its loss, is held back this long; an effect happens at once."""

    @property
    def spoils(self) -> bool:
        return bool(self.code) or self.lost

    def error(self) -> ApiError | None:
        return ApiError(self.code, self.message, self.status) if self.code and not self.lost else None


class Faults:
    """The faults that are on order, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def order(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def take(self, action: str) -> Fault | None:
        """The fault for this call, used up by one."""
        for fault in self._waiting:
            if fault.action == action:
                fault.times -= 1
                if fault.times <= 0:
                    self._waiting.remove(fault)
                return fault
        return None


_MUTATING = (50, 5)
_READING = (100, 20)
_UNFILTERED = (50, 10)
_BUCKETS: Mapping[str, tuple[int, int]] = {
    "TerminateInstances": (100, 5),
    "CreateTags": (100, 10),
    "CreateFleet": _MUTATING,
    "CreateLaunchTemplate": _MUTATING,
    "DeleteLaunchTemplate": _MUTATING,
}
_DEARER_UNFILTERED = frozenset({"DescribeInstances", "DescribeInstanceStatus", "DescribeSpotInstanceRequests"})


@dataclass(slots=True)
class Throttle:
    """Request token buckets, one per action: capacity and refill per second. Off unless switched on."""

    on: bool = False
    _tokens: dict[str, tuple[float, datetime]] = field(default_factory=dict)

    def admit(self, action: str, request: Mapping[str, Any], now: datetime) -> None:
        """Draw one token. Raises RequestLimitExceeded when the bucket is empty."""
        if not self.on:
            return
        name, (capacity, refill) = _bucket(action, request)
        tokens, since = self._tokens.get(name, (float(capacity), now))
        tokens = min(float(capacity), tokens + refill * (now - since).total_seconds())
        if tokens < 1:
            self._tokens[name] = (tokens, now)
            raise ApiError("RequestLimitExceeded", f"The account has been throttled on ec2:{action}.")
        self._tokens[name] = (tokens - 1, now)


def _bucket(action: str, request: Mapping[str, Any]) -> tuple[str, tuple[int, int]]:
    """The bucket's name and size. Unfiltered, unpaginated lists draw on a smaller one."""
    if action in _DEARER_UNFILTERED and not request.keys() & {"Filters", "MaxResults", "NextToken"}:
        return f"{action} unfiltered", _UNFILTERED
    return action, _BUCKETS.get(action, _READING)

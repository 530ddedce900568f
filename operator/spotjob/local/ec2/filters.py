"""Filters and pages of the Describe calls."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from spotjob.local.ec2.errors import ApiError, invalid
from spotjob.local.ec2.records import Ec2Instance, SpotRequest, Template

_MAX_FILTER_VALUES = 200

Thing = TypeVar("Thing", Ec2Instance, SpotRequest, Template)
Reading = Callable[[Thing], str | None]

INSTANCE_FILTERS: Mapping[str, Callable[[Ec2Instance], str | None]] = {
    "instance-id": lambda i: i.id,
    "instance-state-name": lambda i: str(i.state),
    "instance-type": lambda i: i.pool.instance_type,
    "instance-lifecycle": lambda i: "spot" if i.spot else None,
    "spot-instance-request-id": lambda i: i.spot_request.id if i.spot_request else None,
    "availability-zone": lambda i: i.pool.availability_zone,
    "client-token": lambda i: i.client_token,
    "image-id": lambda i: i.data.get("ImageId"),
    "subnet-id": lambda i: i.data.get("SubnetId"),
    "reservation-id": lambda i: i.reservation,
    "state-reason-code": lambda i: i.reason[0] or None,
}
STATUS_FILTERS: Mapping[str, Callable[[Ec2Instance], str | None]] = {
    "availability-zone": lambda i: i.pool.availability_zone,
    "instance-state-name": lambda i: str(i.state),
    "instance-status.status": lambda i: i.status_check,
    "system-status.status": lambda i: i.status_check,
}
"""DescribeInstanceStatus knows neither tags nor instance-id among its filters."""
SPOT_FILTERS: Mapping[str, Callable[[SpotRequest], str | None]] = {
    "spot-instance-request-id": lambda r: r.id,
    "instance-id": lambda r: r.instance_id,
    "state": lambda r: r.state,
    "status-code": lambda r: r.code,
    "launch.instance-type": lambda r: r.pool.instance_type,
    "launched-availability-zone": lambda r: r.pool.availability_zone,
}
TEMPLATE_FILTERS: Mapping[str, Callable[[Template], str | None]] = {
    "launch-template-name": lambda t: t.name,
    "create-time": lambda t: t.created.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
}


def select(things: Iterable[Thing], readings: Mapping[str, Reading[Thing]], request: Mapping[str, Any]) -> list[Thing]:
    """Those that pass every filter of the request; values of one filter are alternatives, with * and ? in them."""
    tests = [_test(each, readings) for each in request.get("Filters", ())]
    return [thing for thing in things if all(test(thing) for test in tests)]


def _test(one: Mapping[str, Any], readings: Mapping[str, Reading[Thing]]) -> Callable[[Thing], bool]:
    name, values = one.get("Name", ""), one.get("Values", ())
    if len(values) > _MAX_FILTER_VALUES:
        raise ApiError("FilterLimitExceeded", f"The maximum number of filter values is {_MAX_FILTER_VALUES}")
    if name == "tag-key" and readings is not STATUS_FILTERS:
        return lambda thing: any(_matches(values, key) for key in thing.tags)
    if name.startswith("tag:") and readings is not STATUS_FILTERS:
        return lambda thing: _matches(values, thing.tags.get(name[4:]))
    if name not in readings:
        raise invalid(f"The filter '{name}' is invalid")
    reading = readings[name]
    return lambda thing: _matches(values, reading(thing))


def _matches(values: Sequence[str], actual: str | None) -> bool:
    if actual is None:
        return False
    return actual in values or any(_pattern(v).fullmatch(actual) for v in values if "*" in v or "?" in v)


@lru_cache(maxsize=256)
def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(re.escape(value).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)


def page(
    things: Sequence[Thing], request: Mapping[str, Any], key: Callable[[Thing], str], bounds: tuple[int, int]
) -> tuple[list[Thing], str | None]:
    """Cut one page out of `things`, which are in the order of `key`. Returns the page and NextToken, None at the end.

    The token says after which key to go on, so it survives that things come, go or stop to match between two pages.
    """
    size = _page_size(request, bounds)
    token = request.get("NextToken")
    if token:
        after = _read_token(token)
        things = [thing for thing in things if key(thing) > after]
    cut = list(things[:size])
    return cut, f"after-{key(cut[-1])}" if len(things) > size else None


def _page_size(request: Mapping[str, Any], bounds: tuple[int, int]) -> int:
    least, most = bounds
    size = int(request.get("MaxResults", most))
    if not least <= size <= most:
        raise invalid(f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value between {bounds}.")
    return size


def _read_token(token: str) -> str:
    if not token.startswith("after-"):
        raise ApiError("InvalidNextToken", "The pagination token is not valid")
    return token.removeprefix("after-")

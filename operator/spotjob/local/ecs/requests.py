"""Requests against botocore's own model of ECS, and the limits that the model does not state."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from botocore.loaders import Loader
from botocore.model import ServiceModel, StructureShape
from botocore.validate import ParamValidator

from spotjob.local.ecs.errors import invalid

Request = Mapping[str, Any]

_TOKEN = re.compile(r"[!-~]{1,64}")
_STARTED_BY = re.compile(r"[A-Za-z0-9_/-]{1,128}")
_MOST_TASKS = 10
_MOST_OVERRIDES = 8192


@cache
def service() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("ecs", "service-2"), "ecs")


def check(action: str, request: Request) -> None:
    """Refuse what botocore's model does not allow, unknown names included. Raises InvalidParameterException."""
    shape = cast(StructureShape, service().operation_model(action).input_shape)
    report = ParamValidator().validate(request, shape)
    if report.has_errors():
        raise invalid(report.generate_report())
    for name, value in request.items():
        allowed = shape.members[name].metadata.get("enum")
        if allowed and value not in allowed:
            raise invalid(f"{name} must be one of {', '.join(allowed)}, not {value}")


def check_run_task(request: Request) -> None:
    """The limits of aws-facts section 8 (API reference, RunTask). Raises InvalidParameterException."""
    for holds, message in (
        (1 <= request.get("count", 1) <= _MOST_TASKS, f"count must be between 1 and {_MOST_TASKS}"),
        (_fits(_TOKEN, request, "clientToken"), "clientToken must have 1 to 64 visible ASCII characters"),
        (_fits(_STARTED_BY, request, "startedBy"), "startedBy must have up to 128 letters, digits, -, / and _"),
        (len(request.get("tags", ())) <= 50, "A task can have at most 50 tags"),
        (len(request.get("placementConstraints", ())) <= 10, "A task can have at most 10 placement constraints"),
        (len(request.get("placementStrategy", ())) <= 5, "A task can have at most 5 placement strategies"),
        (_short(request), f"Container Overrides length must be at most {_MOST_OVERRIDES}"),
        (not _both(request), "Specify launchType or capacityProviderStrategy, not both"),
        (_weighs(request), "At least one capacity provider must have a weight above 0"),
    ):
        if not holds:
            raise invalid(message)


def _fits(pattern: re.Pattern[str], request: Request, name: str) -> bool:
    return name not in request or bool(pattern.fullmatch(request[name]))


def _short(request: Request) -> bool:
    return len(json.dumps(request.get("overrides", {}))) <= _MOST_OVERRIDES


def _both(request: Request) -> bool:
    return "launchType" in request and bool(request.get("capacityProviderStrategy"))


def _weighs(request: Request) -> bool:
    strategy = request.get("capacityProviderStrategy") or [{"weight": 1}]
    return any(one.get("weight", 0) for one in strategy)


def page(request: Request, serials: list[int], most: int = 100) -> tuple[list[int], str | None]:
    """Cut one page out of rising numbers; the token says after which to go on. Raises InvalidParameterException."""
    size = request.get("maxResults", most)
    if not 1 <= size <= most:
        raise invalid(f"maxResults must be between 1 and {most}")
    after = _read_token(request.get("nextToken"))
    left = [serial for serial in serials if serial > after]
    return left[:size], f"after-{left[size - 1]}" if len(left) > size else None


def _read_token(token: str | None) -> int:
    if not token:
        return 0
    if not re.fullmatch(r"after-\d+", token):
        raise invalid("Invalid token")
    return int(token.removeprefix("after-"))

"""How the simulator says no: as EC2 does, with a code, a message and an HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STATUS = {
    "RequestLimitExceeded": 503,
    "Unavailable": 503,
    "ServiceUnavailable": 503,
    "InternalError": 500,
    "InternalFailure": 500,
    "ServerException": 500,
    "InsufficientInstanceCapacity": 500,
    "DryRunOperation": 412,
    "UnauthorizedOperation": 403,
}


class ApiError(Exception):
    """An EC2 error. Without `status` it is the one that AWS sends with the code, 400 for most."""

    def __init__(self, code: str, message: str, status: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message
        self.status = status if status is not None else _STATUS.get(code, 400)


class ReplyLost(Exception):
    """The connection broke: the caller cannot know whether the call had its effect."""


def missing(parameter: str) -> ApiError:
    return ApiError("MissingParameter", f"The request must contain the parameter {parameter}")


def invalid(message: str) -> ApiError:
    return ApiError("InvalidParameterValue", message)


def not_simulated(what: str) -> ApiError:
    """The real EC2 can do it and the simulator cannot: said aloud, so that nobody takes silence for success."""
    return ApiError("UnsupportedOperation", f"The EC2 simulator does not know {what}")


def no_such_instance(*ids: str) -> ApiError:
    if len(ids) == 1:
        return ApiError("InvalidInstanceID.NotFound", f"The instance ID '{ids[0]}' does not exist")
    return ApiError("InvalidInstanceID.NotFound", f"The instance IDs '{', '.join(ids)}' do not exist")


def refuse_unknown(request: Mapping[str, Any], known: frozenset[str], where: str) -> None:
    """Refuse parameters that would change the result and that the simulator does not act on."""
    for name in request:
        if name not in known:
            raise not_simulated(f"{where}.{name}")

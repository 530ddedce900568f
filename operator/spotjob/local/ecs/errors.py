"""How the simulator says no: as ECS does, with a code, a message, and status 400."""

from __future__ import annotations

from collections.abc import Sequence

from spotjob.local.ec2 import ApiError


class EcsError(ApiError):
    """An ECS error. `resource_ids` is what ConflictException carries beside its message."""

    def __init__(self, code: str, message: str, resource_ids: Sequence[str] = ()) -> None:
        super().__init__(code, message, 400)
        self.resource_ids = tuple(resource_ids)


def invalid(message: str) -> EcsError:
    return EcsError("InvalidParameterException", message)


def refused(message: str) -> EcsError:
    """What ECS calls the client's fault without calling a parameter invalid."""
    return EcsError("ClientException", message)


def no_such_cluster() -> EcsError:
    return EcsError("ClusterNotFoundException", "Cluster not found.")


def not_simulated(what: str) -> EcsError:
    """The real ECS can do it and the simulator cannot: said aloud, so that nobody takes silence for success."""
    return EcsError("UnsupportedFeatureException", f"The ECS simulator does not know {what}")

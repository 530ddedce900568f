"""The ECS simulator as it runs: on the wall clock, for many threads, over ECS's JSON protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from spotjob.local.ec2 import ApiError
from spotjob.local.ecs.errors import EcsError, refused
from spotjob.local.ecs.simulator import EcsSimulator

Written = tuple[int, str]
"""HTTP status and JSON."""


class EcsService:
    """ECS of one region, and GetLogEvents for what its containers log."""

    def __init__(self, simulator: EcsSimulator, region: str) -> None:
        self._ecs, self._region = simulator, region
        self._lock = threading.RLock()

    @contextmanager
    def open(self) -> Iterator[EcsSimulator]:
        """The simulator at the present time, for this thread alone."""
        with self._lock:
            self._ecs.advance(datetime.now(UTC))
            yield self._ecs

    def answer(self, region: str, action: str, body: bytes) -> Written:
        """One ECS call."""
        try:
            self._check_region(region)
            with self.open() as ecs:
                return _written(ecs.call(action, _request(body)))
        except ApiError as error:
            return _refusal(error)

    def log_events(self, body: bytes) -> Written | None:
        """GetLogEvents; None for a group that no container of ours writes to."""
        try:
            with self.open() as ecs:
                found = ecs.log_events(_request(body))
        except ApiError as error:
            return _refusal(error)
        return None if found is None else _written(found)

    def _check_region(self, region: str) -> None:
        if region != self._region:
            raise EcsError("UnrecognizedClientException", f"This account has ECS in {self._region} only")


def _request(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body or b"{}")
    except ValueError as error:
        raise EcsError("SerializationException", f"The request is no JSON: {error}") from error
    if not isinstance(request, dict):
        raise refused("The request is no JSON object")
    return request


def _written(answer: Mapping[str, Any]) -> Written:
    """Times are seconds since the epoch, with a fraction (AWS JSON 1.1)."""
    return 200, json.dumps(answer, default=lambda at: round(at.timestamp(), 3))


def _refusal(error: ApiError) -> Written:
    document: dict[str, Any] = {"__type": error.code, "message": error.message}
    if isinstance(error, EcsError) and error.resource_ids:
        document["resourceIds"] = list(error.resource_ids)
    return error.status, json.dumps(document)

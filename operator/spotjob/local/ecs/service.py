"""The ECS simulator as it runs: on the wall clock, for many threads, over ECS's JSON protocol."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from spotjob.local.ec2 import ApiError
from spotjob.local.ecs.containers import Containers
from spotjob.local.ecs.errors import EcsError, refused
from spotjob.local.ecs.simulator import EcsSimulator
from spotjob.local.ecs.world import Order

_TICK_SECONDS = 0.05

Written = tuple[int, str]
"""HTTP status and JSON."""


class EcsService:
    """ECS of one region, and GetLogEvents for what its containers log. Implements containers.Told."""

    def __init__(self, simulator: EcsSimulator, region: str, containers: Containers | None = None) -> None:
        """Without `containers` nothing really runs. With them the simulator must be a `real` one."""
        self._ecs, self._region, self._containers = simulator, region, containers
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._clockwork = threading.Thread(target=self._run, name="ecs-clock", daemon=True)

    def start(self) -> None:
        self._clockwork.start()

    def stop(self) -> None:
        """Stop the clock and kill the containers."""
        self._closing.set()
        self._clockwork.join()
        if self._containers is not None:
            self._containers.close()

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
            request = _request(body)
            self._read(str(request.get("logStreamName", "")))
            with self.open() as ecs:
                found = ecs.log_events(request)
        except ApiError as error:
            return _refusal(error)
        return None if found is None else _written(found)

    def _read(self, stream: str) -> None:
        """Take in what the container behind a stream, `.../container/task id`, has written so far."""
        *_, container, task_id = ["", *stream.split("/")]
        if self._containers is not None:
            self._containers.read(task_id, container)

    # ---- the containers

    def _run(self) -> None:
        while not self._closing.wait(_TICK_SECONDS):
            with self.open() as ecs:
                orders = ecs.take_orders()
            for order in orders:
                self._obey(order)

    def _obey(self, order: Order) -> None:
        if self._containers is None:
            raise RuntimeError(f"nothing is there to {order.what} {order.container}")
        if order.what == "start":
            self._containers.start(order.task, order.container, self)
        else:
            self._containers.stop(order.task, order.container, order.grace_seconds)

    def started(self, arn: str, container: str, runtime_id: str) -> None:
        with self.open() as ecs:
            ecs.started(arn, container, runtime_id)

    def cannot_start(self, arn: str, container: str, reason: str) -> None:
        with self.open() as ecs:
            ecs.cannot_start(arn, container, reason)

    def ended(self, arn: str, container: str, exit_code: int | None, reason: str) -> None:
        with self.open() as ecs:
            ecs.ended(arn, container, exit_code, reason)

    def wrote(self, arn: str, container: str, lines: Sequence[str]) -> None:
        with self.open() as ecs:
            ecs.wrote(arn, container, lines)

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

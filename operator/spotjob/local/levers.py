"""The control endpoints of the local AWS server, /_spotjob/...: JSON in, JSON out. What a user of real EC2 cannot do.

GET  ready, network, instances, counts, items
POST interrupt {instanceId, warningSeconds=120}, reclaim {instanceId}, rebalance {instanceId},
     impair {instanceId, on=true}: both status checks fail, or hold again,
     capacity {instanceType="*", availabilityZone="*", capacityType="*", count=null, code=InsufficientInstanceCapacity},
     fault {action, code="", message, httpStatus=null, times=1, when=before|after, lost=false, delaySeconds=0},
     boot-seconds {seconds}, console-seconds {seconds}, throttle {on}
DELETE faults
Those of ECS are in ecs/levers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from spotjob.local.datacentre import DataCentre
from spotjob.local.ec2 import ApiError, CapacityRule, Fault
from spotjob.local.ec2.records import Ec2Instance
from spotjob.local.ecs.levers import EcsLevers
from spotjob.local.moto_app import MotoApp

TABLE = "Jobs"

Seconds = Annotated[float, Field(ge=0, le=86400)]


class _Order(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", frozen=True)


class _Named(_Order):
    instance_id: str


class _Interruption(_Named):
    warning_seconds: Seconds = 120


class _Impairment(_Named):
    on: bool = True


class _Capacity(_Order):
    instance_type: str = "*"
    availability_zone: str = "*"
    capacity_type: Literal["*", "spot", "on-demand"] = "*"
    count: int | None = Field(default=None, ge=0)
    code: str = "InsufficientInstanceCapacity"


class _Fault(_Order):
    action: str
    code: str = ""
    message: str = "injected fault"
    http_status: int | None = Field(default=None, ge=400, le=599)
    times: int = Field(default=1, ge=1)
    when: Literal["before", "after"] = "before"
    lost: bool = False
    delay_seconds: Seconds = 0


class _Delay(_Order):
    seconds: Seconds


class _Throttle(_Order):
    on: bool


class Levers:
    """Answers the control endpoints."""

    def __init__(self, centre: DataCentre, moto: MotoApp, ecs: EcsLevers) -> None:
        self._centre, self._moto = centre, moto
        self._routes: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], Any]] = {
            ("GET", "ready"): lambda _: {"ready": True},
            ("GET", "network"): lambda _: self._moto.network(),
            ("GET", "instances"): lambda _: self._instances(),
            ("GET", "counts"): lambda _: self._counts(),
            ("GET", "items"): lambda _: self._moto.items(TABLE),
            ("POST", "interrupt"): self._interrupt,
            ("POST", "reclaim"): self._reclaim,
            ("POST", "rebalance"): self._rebalance,
            ("POST", "impair"): self._impair,
            ("POST", "capacity"): self._capacity,
            ("POST", "fault"): self._fault,
            ("POST", "boot-seconds"): self._boot_seconds,
            ("POST", "console-seconds"): self._console_seconds,
            ("POST", "throttle"): self._throttle,
            ("DELETE", "faults"): lambda _: self._clear_faults(),
            **ecs.routes,
        }

    def answer(self, method: str, name: str, body: Any) -> tuple[int, Any]:
        """HTTP status and JSON. 404 for an unknown endpoint or instance, 400 for an order that makes no sense."""
        route = self._routes.get((method, name))
        if route is None:
            return 404, {"error": f"there is no {method} {name}"}
        try:
            return 200, route(body)
        except ValidationError as error:
            return 400, {"error": str(error)}
        except ApiError as error:
            return (404 if error.code.endswith("NotFound") else 400), {"error": str(error)}

    def _instances(self) -> list[dict[str, Any]]:
        with self._centre.open() as ec2:
            return [_shown(instance) for instance in ec2.instances()]

    def _counts(self) -> dict[str, int]:
        with self._centre.open() as ec2:
            return dict(ec2.calls)

    def _interrupt(self, body: Mapping[str, Any]) -> None:
        order = _Interruption.model_validate(body)
        with self._centre.open() as ec2:
            ec2.interrupt(order.instance_id, order.warning_seconds)

    def _reclaim(self, body: Mapping[str, Any]) -> None:
        order = _Named.model_validate(body)
        with self._centre.open() as ec2:
            ec2.reclaim(order.instance_id)

    def _rebalance(self, body: Mapping[str, Any]) -> None:
        order = _Named.model_validate(body)
        with self._centre.open() as ec2:
            ec2.recommend_rebalance(order.instance_id)

    def _impair(self, body: Mapping[str, Any]) -> None:
        order = _Impairment.model_validate(body)
        with self._centre.open() as ec2:
            ec2.impair(order.instance_id, order.on)

    def _capacity(self, body: Mapping[str, Any]) -> None:
        order = _Capacity.model_validate(body)
        with self._centre.open() as ec2:
            ec2.set_capacity(CapacityRule(**order.model_dump()))

    def _fault(self, body: Mapping[str, Any]) -> None:
        order = _Fault.model_validate(body).model_dump()
        fault = Fault(status=order.pop("http_status"), **order)
        with self._centre.open() as ec2:
            ec2.faults.order(fault)

    def _clear_faults(self) -> None:
        with self._centre.open() as ec2:
            ec2.faults.clear()

    def _boot_seconds(self, body: Mapping[str, Any]) -> None:
        order = _Delay.model_validate(body)
        with self._centre.open() as ec2:
            ec2.timing.boot_seconds = order.seconds

    def _console_seconds(self, body: Mapping[str, Any]) -> None:
        order = _Delay.model_validate(body)
        with self._centre.open() as ec2:
            ec2.timing.console_seconds = order.seconds

    def _throttle(self, body: Mapping[str, Any]) -> None:
        order = _Throttle.model_validate(body)
        with self._centre.open() as ec2:
            ec2.throttle.on = order.on


def _shown(instance: Ec2Instance) -> dict[str, Any]:
    return {
        "id": instance.id,
        "state": str(instance.state),
        "type": instance.pool.instance_type,
        "zone": instance.pool.availability_zone,
        "capacityType": str(instance.pool.capacity_type),
        "launchTime": instance.launched.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "stateReason": instance.reason[0],
        "spotInstanceRequestId": instance.spot_request.id if instance.spot_request else "",
        "tags": dict(instance.tags),
    }

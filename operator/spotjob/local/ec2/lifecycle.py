"""The life of an instance: pending, running, shutting-down (or stopping), terminated (or stopped), forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from spotjob.core.states import InstanceState, Pool
from spotjob.local.ec2.errors import ApiError
from spotjob.local.ec2.records import Ec2Instance, SpotRequest
from spotjob.local.ec2.world import World

_SPOT_REQUESTS_KEPT_SECONDS = 4 * 3600.0
"""EC2 forgets a spot request about 4 hours after its instance (aws-facts 2.11)."""

SpotCode = Literal["instance-terminated-no-capacity", "marked-for-termination"]
"""What the spot request of an instance under notice says. Both are seen on real EC2."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Why an instance ends: what StateReason, StateTransitionReason and the spot request say."""

    code: str
    message: str
    transition: str
    spot_code: str


BY_USER = Cause(
    "Client.UserInitiatedShutdown", "User initiated shutdown", "User initiated", "instance-terminated-by-user"
)
BY_GUEST = Cause("Client.InstanceInitiatedShutdown", "Instance initiated shutdown", "", "instance-terminated-by-user")
BY_RECLAIM = Cause(
    "Server.SpotInstanceTermination",
    "Spot instance termination",
    "Server.SpotInstanceTermination",
    "instance-terminated-no-capacity",
)


def launch(
    world: World, pool: Pool, data: Mapping[str, Any], *, tags: Mapping[str, str], spot_tags: Mapping[str, str],
    reservation: str, client_token: str,
) -> Ec2Instance:  # fmt: skip
    """Start one instance; the pool's place is already taken."""
    instance = Ec2Instance(
        serial=world.serial(),
        id=world.new_id("i"),
        reservation=reservation,
        pool=pool,
        data=data,
        launched=world.now,
        tags=dict(tags),
        client_token=client_token,
    )
    if instance.spot:
        instance.spot_request = _spot_request(world, instance, spot_tags)
    world.instances[instance.id] = instance
    world.enter(instance, InstanceState.PENDING)
    if world.timing.boot_seconds is not None:
        world.after(world.timing.boot_seconds, lambda: _booted(world, instance))
    return instance


def _spot_request(world: World, instance: Ec2Instance, tags: Mapping[str, str]) -> SpotRequest:
    request = SpotRequest(
        id=world.new_spot_request_id(),
        instance_id=instance.id,
        pool=instance.pool,
        image_id=instance.data.get("ImageId", ""),
        created=world.now,
        updated=world.now,
        tags=dict(tags),
    )
    world.spot_requests[request.id] = request
    return request


def _booted(world: World, instance: Ec2Instance) -> None:
    if instance.state is InstanceState.PENDING:
        world.enter(instance, InstanceState.RUNNING)
        _post_console(world, instance)


def _post_console(world: World, instance: Ec2Instance) -> None:
    """Take the console as it is now, and show it when EC2 would: some time after a change of state."""
    taken = (instance.console, world.now)

    def post() -> None:
        instance.console_posted = taken

    if world.timing.console_seconds:
        world.after(world.timing.console_seconds, post)
    else:
        post()


def terminate(world: World, instance: Ec2Instance, cause: Cause = BY_USER) -> None:
    """Begin to shut the instance down for good, unless that has begun already."""
    if not instance.alive:
        return
    was_off = instance.state is InstanceState.STOPPED
    _explain(world, instance, cause)
    if instance.spot_request is not None:
        instance.spot_request.become("closed", cause.spot_code, world.now)
    if cause is not BY_RECLAIM:
        world.pools.give_back(instance.pool)
    _go_down(world, instance, InstanceState.SHUTTING_DOWN, InstanceState.TERMINATED)
    if was_off:
        halted(world, instance)


def power_off(world: World, instance: Ec2Instance) -> None:
    """The guest powers itself off: InstanceInitiatedShutdownBehavior decides, and its default is to stop."""
    if instance.data.get("InstanceInitiatedShutdownBehavior", "stop") == "terminate":
        terminate(world, instance, BY_GUEST)
    elif instance.state in (InstanceState.PENDING, InstanceState.RUNNING):
        _explain(world, instance, BY_GUEST)
        _go_down(world, instance, InstanceState.STOPPING, InstanceState.STOPPED)


def _explain(world: World, instance: Ec2Instance, cause: Cause) -> None:
    instance.reason = (cause.code, f"{cause.code}: {cause.message}")
    stamp = world.now.strftime("%Y-%m-%d %H:%M:%S GMT")
    instance.transition = f"{cause.transition} ({stamp})" if cause.transition else ""


def _go_down(world: World, instance: Ec2Instance, through: InstanceState, into: InstanceState) -> None:
    instance.ends_as = into
    instance.shutdown_began = world.now
    world.enter(instance, through)
    if not world.timing.machine_halts:
        halted(world, instance)


def halted(world: World, instance: Ec2Instance) -> None:
    """The machine under the instance is off. What is left of the shutdown time passes, then it is down."""
    if instance.shutdown_began is None:
        return
    down_at = instance.shutdown_began + timedelta(seconds=world.timing.shutdown_seconds)
    world.after(max(0.0, (down_at - world.now).total_seconds()), lambda: _down(world, instance))


def _down(world: World, instance: Ec2Instance) -> None:
    if instance.state not in (InstanceState.SHUTTING_DOWN, InstanceState.STOPPING):
        return
    world.enter(instance, instance.ends_as)
    _post_console(world, instance)
    if instance.ends_as is InstanceState.TERMINATED:
        world.after(world.timing.vanish_seconds, lambda: _forget(world, instance))


def _forget(world: World, instance: Ec2Instance) -> None:
    del world.instances[instance.id]
    if instance.spot_request is not None:
        request_id = instance.spot_request.id
        world.after(_SPOT_REQUESTS_KEPT_SECONDS, lambda: world.spot_requests.pop(request_id, None))


# ---- what EC2 does to spot instances


def interrupt(world: World, instance: Ec2Instance, warning_seconds: float, spot_code: SpotCode) -> None:
    """Give notice now and take the instance back after the warning.

    The spot request shows `spot_code` at once, while the instance still runs (aws-facts, fact 15).
    """
    _expect_running_spot(instance)
    if instance.reclaim_at is not None:
        raise ApiError("IncorrectInstanceState", f"{instance.id} has its notice already")
    instance.reclaim_at = world.now + timedelta(seconds=warning_seconds)
    if instance.spot_request is not None:
        state = "active" if spot_code == "marked-for-termination" else "closed"
        instance.spot_request.become(state, spot_code, world.now)
    world.emit(
        "EC2 Spot Instance Interruption Warning",
        instance,
        # The zone stands where the region should, and there is no account (aws-facts, fact 17).
        resource=f"arn:aws:ec2:{instance.pool.availability_zone}:instance/{instance.id}",
        instance_action="terminate",
    )
    world.after(warning_seconds, lambda: terminate(world, instance, BY_RECLAIM))


def reclaim(world: World, instance: Ec2Instance) -> None:
    """Take the instance back without a word."""
    _expect_running_spot(instance)
    terminate(world, instance, BY_RECLAIM)


def recommend_rebalance(world: World, instance: Ec2Instance) -> None:
    """Say that the instance is at a raised risk of being taken back."""
    _expect_running_spot(instance)
    instance.rebalance_at = world.now
    world.emit("EC2 Instance Rebalance Recommendation", instance)


def _expect_running_spot(instance: Ec2Instance) -> None:
    if not instance.spot:
        raise ApiError("UnsupportedOperation", f"{instance.id} is not a Spot Instance")
    if instance.state not in (InstanceState.PENDING, InstanceState.RUNNING):
        raise ApiError("IncorrectInstanceState", f"{instance.id} is {instance.state}")

"""The Describe calls on instances, TerminateInstances, CreateTags and GetConsoleOutput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import Any

from spotjob.core.states import InstanceState
from spotjob.local.ec2 import lifecycle
from spotjob.local.ec2.errors import ApiError, invalid, missing
from spotjob.local.ec2.filters import INSTANCE_FILTERS, SPOT_FILTERS, STATUS_FILTERS, Reading, page, select
from spotjob.local.ec2.records import Ec2Instance, state_of
from spotjob.local.ec2.world import ACCOUNT, World

_INSTANCE_PAGES = (5, 1000)
_CONSOLE_BYTES = 64 * 1024


def describe_instances(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeInstances. Pages are cut by instances, in launch order."""
    cut, token = _instance_page(world, request, INSTANCE_FILTERS, world.listed())
    return {"Reservations": [_reservation(key, list(group)) for key, group in groupby(cut, _reservation_of)]} | token


def _reservation_of(instance: Ec2Instance) -> str:
    return instance.reservation


def _reservation(reservation: str, instances: Sequence[Ec2Instance]) -> dict[str, Any]:
    return {
        "ReservationId": reservation,
        "OwnerId": ACCOUNT,
        "Groups": [],
        "Instances": [instance.describe() for instance in instances],
    }


def _instance_page(
    world: World,
    request: Mapping[str, Any],
    filters: Mapping[str, Reading[Ec2Instance]],
    listed: Sequence[Ec2Instance],
) -> tuple[list[Ec2Instance], dict[str, str]]:
    """One page of the instances that the request names, or else of `listed`, as far as they pass its filters."""
    ids = list(request.get("InstanceIds", ()))
    if ids and "MaxResults" in request:
        message = "The parameter instancesSet cannot be used with the parameter maxResults"
        raise ApiError("InvalidParameterCombination", message)
    found = world.known(ids) if ids else listed
    chosen = sorted(select(found, filters, request), key=lambda i: i.serial)
    cut, token = page(chosen, request, lambda i: f"{i.serial:012d}", _INSTANCE_PAGES)
    return cut, {"NextToken": token} if token else {}


def describe_instance_status(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeInstanceStatus: running instances only, unless IncludeAllInstances."""
    everything = request.get("IncludeAllInstances", False)
    listed = [i for i in world.listed() if everything or i.state is InstanceState.RUNNING]
    cut, token = _instance_page(world, request, STATUS_FILTERS, listed)
    shown = [i for i in cut if everything or i.state is InstanceState.RUNNING]
    return {"InstanceStatuses": [_status(instance) for instance in shown]} | token


def _status(instance: Ec2Instance) -> dict[str, Any]:
    return {
        "InstanceId": instance.id,
        "AvailabilityZone": instance.pool.availability_zone,
        "InstanceState": state_of(instance.state),
        "InstanceStatus": {"Status": instance.status_check},
        "SystemStatus": {"Status": instance.status_check},
    }


def describe_spot_requests(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """DescribeSpotInstanceRequests."""
    ids = request.get("SpotInstanceRequestIds", ())
    unknown = [i for i in ids if i not in world.spot_requests]
    if unknown:
        message = f"The spot instance request ID '{unknown[0]}' does not exist"
        raise ApiError("InvalidSpotInstanceRequestID.NotFound", message)
    found = [world.spot_requests[i] for i in ids] if ids else list(world.spot_requests.values())
    chosen = sorted(select(found, SPOT_FILTERS, request), key=lambda one: one.id)
    cut, token = page(chosen, request, lambda one: one.id, _INSTANCE_PAGES)
    return {"SpotInstanceRequests": [one.describe() for one in cut]} | ({"NextToken": token} if token else {})


def terminate(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """TerminateInstances: all of them, or none when EC2 does not know one."""
    ids = list(request.get("InstanceIds", ()))
    if not ids:
        raise missing("InstanceIds")
    return {"TerminatingInstances": [_terminated(world, instance) for instance in world.known(ids)]}


def _terminated(world: World, instance: Ec2Instance) -> dict[str, Any]:
    previous = instance.state
    lifecycle.terminate(world, instance)
    return {
        "InstanceId": instance.id,
        "PreviousState": state_of(previous),
        "CurrentState": state_of(instance.state),
    }


def create_tags(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """CreateTags on instances, spot requests and launch templates."""
    tags = {tag["Key"]: tag.get("Value", "") for tag in request.get("Tags", ())}
    if any(key.startswith("aws:") for key in tags):
        raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
    for tagged in [_taggable(world, resource) for resource in request.get("Resources", ())]:
        tagged.update(tags)
    return {}


def _taggable(world: World, resource: str) -> dict[str, str]:
    if resource in world.spot_requests:
        return world.spot_requests[resource].tags
    if resource in world.templates:
        return world.templates[resource].tags
    return world.known([resource])[0].tags


def console_output(world: World, request: Mapping[str, Any]) -> dict[str, Any]:
    """GetConsoleOutput, with the text in the clear as boto3 shows it; on the wire it is base64.

    Without `Latest` it is what EC2 took at the last change of state, and its time; before the first one, neither.
    """
    instance = world.known([request["InstanceId"]])[0]
    if request.get("Latest"):
        return {"InstanceId": instance.id} | _console(_latest(instance), world.now)
    posted = instance.console_posted
    return {"InstanceId": instance.id} | (_console(*posted) if posted else {})


def _latest(instance: Ec2Instance) -> str:
    if instance.state is not InstanceState.RUNNING:
        raise ApiError("UnsupportedOperation", f"{instance.id} is {instance.state}: only a running machine can be read")
    return instance.console


def _console(text: str, at: datetime) -> dict[str, Any]:
    """The last 64 KB."""
    return {"Timestamp": at, "Output": text.encode()[-_CONSOLE_BYTES:].decode(errors="replace")}

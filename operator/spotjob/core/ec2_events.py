"""What EventBridge says about instances: the body of one SQS message in, an event of ours out. Pure.

The shapes are those of aws-facts 3.2. EventBridge cannot select by tag, so most events are about somebody else's
instances, and whoever may send to the queue may send anything: `parse` never raises.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import MAXYEAR, UTC, datetime
from enum import StrEnum
from typing import Any, TypeGuard

from spotjob.core.signs import NOTICE
from spotjob.core.states import InstanceState

_INSTANCE_ID = re.compile(r"i-[0-9a-f]{8,17}")
_STATES = {str(state): state for state in InstanceState if state not in (InstanceState.UNSEEN, InstanceState.ABSENT)}


class Kind(StrEnum):
    """What an event tells."""

    INTERRUPTION = "interruption"
    """EC2 takes a Spot Instance back."""
    RESERVATION = "reservation"
    """EC2 takes an instance back that runs in a capacity reservation."""
    REBALANCE = "rebalance"
    """The instance is at a raised risk of being taken back."""
    MAINTENANCE = "maintenance"
    """AWS Health announces a change of the instance, such as the retirement of its host."""
    STATE_CHANGE = "state-change"
    """The instance is in another state. The event does not say why: ask EC2."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event about one or more instances."""

    kind: Kind
    instance_ids: tuple[str, ...]
    at: datetime
    """When EC2 takes the instance back (interruption, reservation), else when EC2 said so. In UTC."""
    state: InstanceState | None = None
    """The new state, of a state change."""


class Why(StrEnum):
    """Why a message is no event of ours."""

    NOT_JSON = "not JSON"
    NOT_AN_EVENT = "not an event"
    """JSON, but not of EventBridge's shape, or without what its kind must have."""
    OF_ANOTHER_KIND = "of another kind"


@dataclass(frozen=True, slots=True)
class Dropped:
    """A message that tells nothing."""

    why: Why


def parse(body: str) -> Event | Dropped:
    """The event in a message's body. Never raises, whatever the body is."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return Dropped(Why.NOT_JSON)
    match document:
        case {"source": str(source), "detail-type": str(kind), "time": str(time), "detail": dict(detail)}:
            at = _moment(time)
            return Dropped(Why.NOT_AN_EVENT) if at is None else _event(source, kind, at, detail)
    return Dropped(Why.NOT_AN_EVENT)


def _event(source: str, kind: str, at: datetime, detail: dict[str, Any]) -> Event | Dropped:
    match source, kind:
        case "aws.ec2", "EC2 Spot Instance Interruption Warning":
            return _about_one(Kind.INTERRUPTION, at + NOTICE, detail)
        case "aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning":
            return _about_one(Kind.RESERVATION, at + NOTICE, detail)
        case "aws.ec2", "EC2 Instance Rebalance Recommendation":
            return _about_one(Kind.REBALANCE, at, detail)
        case "aws.ec2", "EC2 Instance State-change Notification":
            return _state_change(at, detail)
        case "aws.health", "AWS Health Event":
            return _maintenance(at, detail)
    return Dropped(Why.OF_ANOTHER_KIND)


def _about_one(kind: Kind, at: datetime, detail: dict[str, Any], state: InstanceState | None = None) -> Event | Dropped:
    """The id stands in the detail; the ARN of an interruption warning has a zone for a region and no account."""
    instance_id = detail.get("instance-id")
    return Event(kind, (instance_id,), at, state) if _is_instance(instance_id) else Dropped(Why.NOT_AN_EVENT)


def _state_change(at: datetime, detail: dict[str, Any]) -> Event | Dropped:
    match detail.get("state"):
        case str(word) if word in _STATES:
            return _about_one(Kind.STATE_CHANGE, at, detail, _STATES[word])
    return Dropped(Why.NOT_AN_EVENT)


def _maintenance(at: datetime, detail: dict[str, Any]) -> Event | Dropped:
    """Health also tells of other services, of past trouble and of bills."""
    match detail:
        case {"service": "EC2", "eventTypeCategory": "scheduledChange", "affectedEntities": list(entities)}:
            named = [entity.get("entityValue") for entity in entities if isinstance(entity, dict)]
            ids = tuple(dict.fromkeys(value for value in named if _is_instance(value)))
            return Event(Kind.MAINTENANCE, ids, at) if ids else Dropped(Why.OF_ANOTHER_KIND)
    return Dropped(Why.OF_ANOTHER_KIND)


def _is_instance(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _INSTANCE_ID.fullmatch(value) is not None


def _moment(text: str) -> datetime | None:
    """A time with a zone, in UTC; None for anything else, and for a time so late that no notice can follow."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo and moment.year < MAXYEAR else None
    except (ValueError, OverflowError):
        return None

"""Messages of EventBridge, read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.ec2_events import Dropped, Event, Kind, Why, parse
from spotjob.core.states import InstanceState

ID = "i-0123456789abcdef0"
AT = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)
WARNING = "EC2 Spot Instance Interruption Warning"


def body(kind: str, source: str = "aws.ec2", **detail: Any) -> str:
    told = {key.replace("_", "-"): value for key, value in detail.items()}
    return json.dumps({"source": source, "detail-type": kind, "time": "2026-11-22T02:00:00Z", "detail": told})


def health(**detail: Any) -> str:
    known = {"service": "EC2", "eventTypeCategory": "scheduledChange", "affectedEntities": [{"entityValue": ID}]}
    document = {"source": "aws.health", "detail-type": "AWS Health Event", "time": "2026-11-22T02:00:00Z"}
    return json.dumps({**document, "detail": {**known, **detail}})


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (body(WARNING, instance_id=ID), Event(Kind.INTERRUPTION, (ID,), AT + timedelta(minutes=2))),
        (
            body("EC2 Capacity Reservation Instance Interruption Warning", instance_id=ID),
            Event(Kind.RESERVATION, (ID,), AT + timedelta(minutes=2)),
        ),
        (body("EC2 Instance Rebalance Recommendation", instance_id=ID), Event(Kind.REBALANCE, (ID,), AT)),
        (
            body("EC2 Instance State-change Notification", instance_id=ID, state="shutting-down"),
            Event(Kind.STATE_CHANGE, (ID,), AT, InstanceState.SHUTTING_DOWN),
        ),
        (health(), Event(Kind.MAINTENANCE, (ID,), AT)),
        (
            health(affectedEntities=[{"entityValue": ID}, {"entityValue": "vol-1"}, 7, {"entityValue": ID}]),
            Event(Kind.MAINTENANCE, (ID,), AT),
        ),
    ],
)
def test_an_event_tells_which_instance_and_when(message: str, event: Event) -> None:
    assert parse(message) == event


def test_the_instance_is_read_from_the_detail_since_the_arn_of_a_warning_has_a_zone_for_a_region() -> None:
    document = json.loads(body(WARNING, instance_id=ID))
    document["resources"] = ["arn:aws:ec2:us-east-2b:instance/i-ffffffffffffffff0"]
    assert parse(json.dumps(document)).instance_ids == (ID,)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("message", "why"),
    [
        ("", Why.NOT_JSON),
        ("{", Why.NOT_JSON),
        ("[" * 100_000, Why.NOT_JSON),
        ("null", Why.NOT_AN_EVENT),
        ("[1]", Why.NOT_AN_EVENT),
        ("NaN", Why.NOT_AN_EVENT),
        ('"i-0123456789abcdef0"', Why.NOT_AN_EVENT),
        ("{}", Why.NOT_AN_EVENT),
        (body(WARNING), Why.NOT_AN_EVENT),
        (body(WARNING, instance_id=7), Why.NOT_AN_EVENT),
        (body(WARNING, instance_id="i-1; rm -rf /"), Why.NOT_AN_EVENT),
        (body(WARNING, instance_id=ID).replace("2026-11-22T02:00:00Z", "yesterday"), Why.NOT_AN_EVENT),
        (body(WARNING, instance_id=ID).replace("2026-11-22T02:00:00Z", "2026-11-22T02:00:00"), Why.NOT_AN_EVENT),
        (body(WARNING, instance_id=ID).replace("2026-11-22", "9999-12-31"), Why.NOT_AN_EVENT),
        (body("EC2 Instance State-change Notification", instance_id=ID, state="asleep"), Why.NOT_AN_EVENT),
        (body("EC2 Instance State-change Notification", instance_id=ID, state="unseen"), Why.NOT_AN_EVENT),
        (body(WARNING, source="my.app", instance_id=ID), Why.OF_ANOTHER_KIND),
        (body("EC2 Something New", instance_id=ID), Why.OF_ANOTHER_KIND),
        (health(service="RDS"), Why.OF_ANOTHER_KIND),
        (health(eventTypeCategory="issue"), Why.OF_ANOTHER_KIND),
        (health(affectedEntities=[{"entityValue": "vol-1"}]), Why.OF_ANOTHER_KIND),
        (health(affectedEntities="all"), Why.OF_ANOTHER_KIND),
    ],
)
def test_what_is_no_event_of_ours_is_dropped_with_a_reason(message: str, why: Why) -> None:
    assert parse(message) == Dropped(why)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
_EVENT_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "source": st.sampled_from(["aws.ec2", "aws.health"]) | _JSON,
        "detail-type": st.sampled_from([WARNING, "AWS Health Event", "EC2 Instance State-change Notification"]) | _JSON,
        "time": st.just("2026-11-22T02:00:00Z") | st.text() | _JSON,
        "detail": st.dictionaries(st.sampled_from(["instance-id", "state", "affectedEntities", "service"]), _JSON),
    },
)


@given(st.text() | _JSON.map(json.dumps) | _EVENT_LIKE.map(json.dumps))
def test_no_message_raises(message: str) -> None:
    assert isinstance(parse(message), Event | Dropped)

"""When the runs of a scheduled JobSequence are due, what holds them up, and which old ones go."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spotjob.core.sequence.resources import JobSequence
from spotjob.core.sequence.schedule import (
    InvalidSchedule,
    ScheduleTurn,
    child_body,
    child_name,
    decide_schedule,
    due_after,
)

BORN = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)
STEPS = [{"name": "one", "type": "ecs_task", "parameters": {"task_definition": "d:1"}, "retries": 2}]


def a_parent(schedule: str = "*/10 * * * *", status: Mapping[str, Any] | None = None, **spec: Any) -> JobSequence:
    metadata = {"name": "nightly", "namespace": "batch", "uid": "uid", "creationTimestamp": BORN.isoformat()}
    body = {"metadata": metadata, "spec": {"steps": STEPS, "schedule": schedule, **spec}, "status": status or {}}
    return JobSequence.model_validate(body)


def a_run(at: str, phase: str = "Running", deleting: bool = False) -> JobSequence:
    """The run of a time of that night."""
    due = moment(at)
    metadata = {"name": child_name(a_parent(), due), "namespace": "batch"}
    if deleting:
        metadata["deletionTimestamp"] = BORN.isoformat()
    status = {"phase": phase, "completionTime": (due + timedelta(minutes=1)).isoformat()}
    return JobSequence.model_validate({"metadata": metadata, "spec": {"steps": STEPS}, "status": status})


def moment(at: str) -> datetime:
    hour, minute = at.split(":")
    return BORN.replace(hour=int(hour), minute=int(minute))


def at(time: str, *children: JobSequence, last: str = "", **spec: Any) -> ScheduleTurn:
    """The turn at a time of that night; `last` is the time that was last begun."""
    status = {"lastScheduleTime": moment(last).isoformat()} if last else {}
    return decide_schedule(a_parent(status=status, **spec), children, moment(time))


def names(*children: JobSequence) -> list[str]:
    return [child.metadata.name for child in children]


# ---- what is due ----


def test_nothing_is_due_before_the_first_time_and_the_next_look_is_then():
    turn = at("02:05")
    assert (turn.create, turn.wake_at) == (None, moment("02:10"))


def test_a_run_is_begun_when_its_time_has_come():
    turn = at("02:10")
    assert (turn.create, turn.last_schedule_time, turn.wake_at) == (moment("02:10"), moment("02:10"), moment("02:20"))
    assert turn.active == ("nightly-29921890",)


def test_a_time_that_was_begun_is_not_begun_again():
    assert at("02:15", last="02:10").create is None


def test_a_run_whose_creation_the_status_does_not_tell_is_not_created_again():
    turn = at("02:15", a_run("02:10"))
    assert (turn.create, turn.last_schedule_time) == (None, moment("02:10"))


def test_of_many_missed_times_only_the_latest_is_made_up_for():
    assert at("23:59", last="02:10").create == moment("23:50")


@pytest.mark.parametrize("days", [1, 40, 400])
def test_a_rare_time_that_was_missed_long_ago_is_made_up_for(days: int):
    parent = a_parent("0 0 1 1 *")
    turn = decide_schedule(parent, (), datetime(2027, 1, 1, tzinfo=UTC) + timedelta(days=days - 1, hours=1))
    assert turn.create == datetime(2027 if days < 366 else 2028, 1, 1, tzinfo=UTC)


def test_a_year_of_missed_minutes_is_decided_at_once():
    turn = decide_schedule(a_parent("* * * * *"), (), BORN + timedelta(days=365))
    assert turn.create == BORN + timedelta(days=365)


def test_a_time_beyond_its_starting_deadline_is_left_out():
    assert at("02:15", startingDeadlineSeconds=240).create is None
    assert at("02:15", startingDeadlineSeconds=360).create == moment("02:10")


def test_a_suspended_schedule_begins_nothing_and_makes_up_for_the_latest_afterwards():
    suspended = at("02:35", suspend=True)
    assert (suspended.create, suspended.wake_at) == (None, None)
    assert at("02:35").create == moment("02:30")


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"schedule": "61 * * * *"}, "minute"),
        ({"schedule": "* * * * nonday"}, "day-of-week"),
        ({"schedule": "0 0 30 2 *"}, "day-of-month"),
        ({"timeZone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"timeZone": "Europe"}, "Europe"),
    ],
    ids=["no such minute", "no such day", "never", "no such zone", "half a zone"],
)
def test_a_schedule_that_means_nothing_is_named(spec: dict[str, Any], word: str):
    with pytest.raises(InvalidSchedule, match=word):
        decide_schedule(a_parent(**spec), (), BORN)


# ---- clocks that are put forward and back ----

BERLIN = "Europe/Berlin"
"""2026-03-29: from 02:00 to 03:00 (01:00 UTC). 2026-10-25: from 03:00 back to 02:00 (01:00 UTC)."""
CLOCKS: dict[str, tuple[str, str, str, list[str]]] = {
    "each night at two, which one night does not have": (
        "0 2 * * *",
        BERLIN,
        "2026-03-28T00:00Z",
        ["2026-03-28T01:00Z", "2026-03-29T01:00Z", "2026-03-30T00:00Z"],
    ),
    "half past two in the gap": (
        "30 2 * * *",
        BERLIN,
        "2026-03-28T12:00Z",
        ["2026-03-29T01:00Z", "2026-03-30T00:30Z"],
    ),
    "half past two, which comes twice": (
        "30 2 * * *",
        BERLIN,
        "2026-10-24T12:00Z",
        ["2026-10-25T00:30Z", "2026-10-26T01:30Z"],
    ),
    "half past two, asked for between its two courses": (
        "30 2 * * *",
        BERLIN,
        "2026-10-25T01:10Z",
        ["2026-10-26T01:30Z"],
    ),
    "every half hour over the gap": (
        "*/30 * * * *",
        BERLIN,
        "2026-03-29T00:15Z",
        ["2026-03-29T00:30Z", "2026-03-29T01:00Z", "2026-03-29T01:30Z"],
    ),
    "every half hour over the hour that comes twice": (
        "*/30 * * * *",
        BERLIN,
        "2026-10-24T23:45Z",
        ["2026-10-25T00:00Z", "2026-10-25T00:30Z", "2026-10-25T01:00Z", "2026-10-25T01:30Z", "2026-10-25T02:00Z"],
    ),
    "a zone half an hour off": ("0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00Z", ["2026-01-01T03:30Z"]),
    "the last day of the month": ("0 0 L * *", "UTC", "2028-02-01T00:00Z", ["2028-02-29T00:00Z"]),
    "no zone": ("0 2 * * *", "", "2026-03-28T12:00Z", ["2026-03-29T02:00Z", "2026-03-30T02:00Z"]),
}


@pytest.mark.parametrize(("schedule", "zone", "after", "expected"), CLOCKS.values(), ids=list(CLOCKS))
def test_the_times_of_a_schedule_in_its_zone(schedule: str, zone: str, after: str, expected: list[str]):
    spec = a_parent(schedule, **({"timeZone": zone} if zone else {})).spec
    found = itertools.islice(due_after(spec, datetime.fromisoformat(after)), len(expected))
    assert [f"{due:%Y-%m-%dT%H:%MZ}" for due in found] == expected


@pytest.mark.parametrize("schedule", ["30 2 * * *", "*/20 * * * *", "15 1-4 * * *"])
@pytest.mark.parametrize("day", ["2026-03-28T22:00Z", "2026-10-24T22:00Z"], ids=["forward", "back"])
def test_looked_at_each_minute_of_such_a_night_every_time_is_begun_exactly_once(schedule: str, day: str):
    start, status, begun = datetime.fromisoformat(day), dict[str, Any](), list[datetime]()
    parent = a_parent(schedule, timeZone=BERLIN)
    born = parent.metadata.model_copy(update={"creation_timestamp": start})
    for minute in range(8 * 60):
        now = start + timedelta(minutes=minute)
        held = a_parent(schedule, status, timeZone=BERLIN).model_copy(update={"metadata": born})
        if (due := decide_schedule(held, (), now).create) is not None:
            begun.append(due)
            status = {"lastScheduleTime": due.isoformat()}
    ended = start + timedelta(minutes=8 * 60 - 1)
    assert begun == list(itertools.takewhile(lambda due: due <= ended, due_after(parent.spec, start)))
    assert len(begun) == len(set(begun))
    assert begun


# ---- runs that go on ----


def test_by_default_a_run_is_begun_beside_an_earlier_one():
    turn = at("02:20", a_run("02:10"), last="02:10")
    assert (turn.create, turn.active) == (moment("02:20"), ("nightly-29921890", "nightly-29921900"))


def test_forbid_waits_for_the_end_of_the_earlier_run_and_says_so():
    waits = at("02:20", a_run("02:10"), last="02:10", concurrencyPolicy="Forbid")
    assert waits.create is None
    assert waits.message == "the run of 2026-11-22T02:20Z waits for the end of nightly-29921890"
    later = at("02:25", a_run("02:10", "Succeeded"), last="02:10", concurrencyPolicy="Forbid")
    assert later.create == moment("02:20")


def test_forbid_leaves_a_run_out_whose_starting_deadline_passes_while_it_waits():
    rules = {"concurrencyPolicy": "Forbid", "startingDeadlineSeconds": 60}
    assert at("02:25", a_run("02:10", "Succeeded"), last="02:10", **rules).create is None


def test_replace_deletes_the_earlier_run_and_begins_once_it_is_gone():
    earlier = a_run("02:10")
    told = at("02:20", earlier, last="02:10", concurrencyPolicy="Replace")
    assert (told.create, told.delete) == (None, (earlier,))
    ending = at("02:21", a_run("02:10", deleting=True), last="02:10", concurrencyPolicy="Replace")
    assert (ending.create, ending.delete) == (None, ())
    assert at("02:22", last="02:10", concurrencyPolicy="Replace").create == moment("02:20")


# ---- old runs ----


def test_the_last_three_good_runs_and_the_last_bad_one_are_kept():
    good = [a_run(f"02:{minute}", "Succeeded") for minute in (10, 20, 30, 40, 50)]
    bad = [a_run("03:10", "Failed"), a_run("03:20", "Stopped"), a_run("03:30", "Running")]
    turn = at("03:35", *bad, *good, last="03:30")
    assert names(*turn.delete) == names(good[0], good[1], bad[0])
    assert turn.active == (bad[2].metadata.name,)
    assert turn.last_successful_time == moment("02:51")


def test_other_limits_keep_other_numbers_and_none_keeps_nothing():
    runs = [a_run("02:10", "Succeeded"), a_run("02:20", "Failed")]
    limits = {"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}
    assert names(*at("02:25", *runs, last="02:20", **limits).delete) == names(*runs)
    assert at("02:25", *runs, last="02:20").delete == ()


def test_a_run_that_is_being_deleted_is_not_deleted_again():
    turn = at("02:25", a_run("02:10", "Failed", deleting=True), last="02:20", failedJobsHistoryLimit=0)
    assert turn.delete == ()


# ---- what is created ----


def test_a_run_has_the_steps_as_they_were_written_and_nothing_of_the_schedule():
    parent = a_parent("0 2 * * *", timeZone="UTC", activeDeadlineSeconds=600, suspend=False, region="us-east-1")
    body = child_body(parent, moment("02:00"))
    assert body["spec"] == {"steps": STEPS, "activeDeadlineSeconds": 600, "region": "us-east-1"}
    assert body["metadata"] == {
        "name": "nightly-29921880",
        "labels": {"spotjob.dev/schedule": "nightly"},
        "annotations": {"spotjob.dev/scheduled-at": "2026-11-22T02:00:00+00:00"},
        "ownerReferences": [parent.as_owner()],
    }

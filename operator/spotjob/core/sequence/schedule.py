"""When a scheduled JobSequence creates its next run, and which old runs are deleted. Pure.

It follows batch/v1 CronJob, with three differences. The time zone is UTC unless one is named. A time that is skipped
where clocks are put forward is due right after the gap, and one that comes twice is due once, as in cron(8). And with
Replace the new run begins only when the old one is gone: nothing runs twice at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from spotjob.core.sequence.resources import (
    FAILED_KEPT,
    SCHEDULE_LABEL,
    SCHEDULED_AT,
    SUCCESSFUL_KEPT,
    Concurrency,
    JobSequence,
    JobSequenceSpec,
    SequencePhase,
)

LOOK_BACK = tuple(timedelta(days=days) for days in (1 / 24, 1, 32, 366, 5 * 366))
"""The latest time that was missed is looked for in the last hour, day and so on, so that few times are gone through."""


class InvalidSchedule(Exception):
    """The schedule or its time zone means nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class ScheduleTurn:
    """What is to be done about a scheduled JobSequence, in the order of the fields."""

    create: datetime | None = None
    """Begin the run that was due then."""
    delete: tuple[JobSequence, ...] = ()
    """Runs that are replaced, and ended ones beyond the history limits."""
    active: tuple[str, ...] = ()
    """Names of the runs that go on."""
    last_schedule_time: datetime | None = None
    last_successful_time: datetime | None = None
    message: str = ""
    wake_at: datetime | None = None
    """When the next run is due."""


def decide_schedule(parent: JobSequence, children: Iterable[JobSequence], now: datetime) -> ScheduleTurn:
    """What is due now. `children` are the runs that it has created and that are still there. Raises InvalidSchedule."""
    spec, children = parent.spec, sorted(children, key=lambda child: child.metadata.name)
    going_on = [child for child in children if not child.over]
    turn = ScheduleTurn(
        delete=_beyond_the_limits(spec, children),
        active=tuple(child.metadata.name for child in going_on),
        last_schedule_time=parent.status.last_schedule_time,
        last_successful_time=_last_success(parent, children),
        wake_at=next(due_after(spec, now), None),
    )
    # Nothing is begun: what falls due is missed, and the latest of it made up for when it goes on.
    if spec.suspend:
        return replace(turn, message="suspended", wake_at=None)

    due = _missed(parent, now)
    if due is None:
        return turn

    # It was created, and the status does not say so yet.
    if child_name(parent, due) in {child.metadata.name for child in children}:
        return replace(turn, last_schedule_time=due)

    if going_on and spec.concurrency_policy is Concurrency.FORBID:
        return replace(turn, message=f"the run of {due:%Y-%m-%dT%H:%MZ} waits for the end of {turn.active[0]}")
    if going_on and spec.concurrency_policy is Concurrency.REPLACE:
        replaced = tuple(child for child in going_on if not child.deleting)
        message = f"the run of {due:%Y-%m-%dT%H:%MZ} replaces {turn.active[0]}"
        return replace(turn, delete=(*turn.delete, *replaced), message=message)
    return replace(turn, create=due, last_schedule_time=due, active=(*turn.active, child_name(parent, due)))


def due_after(spec: JobSequenceSpec, moment: datetime) -> Iterator[datetime]:
    """The times of the schedule that follow, in UTC. Raises InvalidSchedule."""
    zone = _zone(spec.time_zone)
    try:
        times = CronSim(spec.schedule or "", moment.astimezone(zone))
    except CronSimError as error:
        raise InvalidSchedule(f"schedule {spec.schedule!r}: {error}") from error
    # Within an hour that comes twice, a time of its first course may be offered again.
    return (due for due in (time.astimezone(UTC) for time in times) if due > moment)


def child_name(parent: JobSequence, due: datetime) -> str:
    """The same for the same time, so that a repeated create is the same create."""
    return f"{parent.metadata.name}-{int(due.timestamp()) // 60}"


def child_body(parent: JobSequence, due: datetime) -> dict[str, Any]:
    """The whole JobSequence of one run, as it is created."""
    kept = {"steps", "on_failure", "active_deadline_seconds", "region", "ttl_seconds_after_finished"}
    spec = parent.spec.model_dump(mode="json", by_alias=True, exclude_unset=True, include=kept)
    metadata = {
        "name": child_name(parent, due),
        "labels": {SCHEDULE_LABEL: parent.metadata.name},
        "annotations": {SCHEDULED_AT: due.isoformat()},
        "ownerReferences": [parent.as_owner()],
    }
    return {"metadata": metadata, "spec": spec}


# ---- time -----------------------------------------------------------------------------------------------------------


def _zone(name: str | None) -> tzinfo:
    """Raises InvalidSchedule."""
    if name is None:
        return UTC
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:  # a folder of zones is an OSError
        raise InvalidSchedule(f"timeZone {name!r} is no time zone of the IANA database") from error


def _missed(parent: JobSequence, now: datetime) -> datetime | None:
    """The latest time that is due, and for which no run was begun yet."""
    spec = parent.spec
    after = parent.status.last_schedule_time or parent.metadata.creation_timestamp or now
    if spec.starting_deadline_seconds is not None:
        after = max(after, now - timedelta(seconds=spec.starting_deadline_seconds))
    for back in LOOK_BACK:
        since = max(after, now - back)
        if (latest := _latest(spec, since, now)) is not None or since == after:
            return latest
    return None


def _latest(spec: JobSequenceSpec, since: datetime, now: datetime) -> datetime | None:
    latest = None
    for due in due_after(spec, since):
        if due > now:
            break
        latest = due
    return latest


# ---- old runs -------------------------------------------------------------------------------------------------------


def _beyond_the_limits(spec: JobSequenceSpec, children: list[JobSequence]) -> tuple[JobSequence, ...]:
    ended = [child for child in children if child.over and not child.deleting]
    good = [child for child in ended if child.status.phase is SequencePhase.SUCCEEDED]
    bad = [child for child in ended if child.status.phase is not SequencePhase.SUCCEEDED]
    return (
        *_but_the_last(good, spec.successful_jobs_history_limit, SUCCESSFUL_KEPT),
        *_but_the_last(bad, spec.failed_jobs_history_limit, FAILED_KEPT),
    )


def _but_the_last(runs: list[JobSequence], limit: int | None, default: int) -> list[JobSequence]:
    kept = default if limit is None else limit
    return runs[: max(len(runs) - kept, 0)]


def _last_success(parent: JobSequence, children: list[JobSequence]) -> datetime | None:
    """Ended runs may be gone by now, so what the status knows counts, too."""
    good = (c.status.completion_time for c in children if c.status.phase is SequencePhase.SUCCEEDED)
    return max((time for time in (parent.status.last_successful_time, *good) if time is not None), default=None)

"""The drill: `kubectl annotate spotjob NAME spotjob.dev/drill=120` makes the agent behave as on a real notice.

The annotation is an order, not a state: the leader takes it off once it has seen it, so that the same command works
again, and says in an Event why it did nothing if it did nothing.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from spotjob.core.claims import closed
from spotjob.core.resources import DRILL_ANNOTATION, Attempt, SpotJob
from spotjob.core.states import Decision, Drilled, News

SHORTEST_SECONDS, LONGEST_SECONDS = 10, 600


def drill(job: SpotJob, now: datetime) -> Decision | None:
    """What to do about the annotation; None when there is none. Pure."""
    value = job.metadata.annotations.get(DRILL_ANNOTATION)
    if value is None:
        return None
    attempt = job.running
    if why := _why_not(job, attempt, value):
        return Decision(end_drill=True, tell=News("DrillIgnored", f"No drill: {why}", warning=True))
    if attempt is not None and attempt.drill_at is not None:  # written by a leader that did not come to the rest
        return Decision(end_drill=True)
    return Decision(change=Drilled(now + timedelta(seconds=int(value))), end_drill=True)


def _why_not(job: SpotJob, attempt: Attempt | None, value: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}", value) or not SHORTEST_SECONDS <= int(value) <= LONGEST_SECONDS:
        allowed = f"whole seconds from {SHORTEST_SECONDS} to {LONGEST_SECONDS}"
        return f"{DRILL_ANNOTATION} must be {allowed}, not {value[:40]!r}"
    if (why := closed(job)) is not None:
        return f"the job {why}"
    if attempt is None or attempt.started_at is None:
        return "no container runs now"
    if attempt.stop_by is not None:
        return "the container is being stopped"
    if attempt.notice_at is not None:
        return "EC2 takes the instance back already" if attempt.drill_at is None else "a drill is under way"
    return ""

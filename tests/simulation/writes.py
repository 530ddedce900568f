"""What a write of a job did, and how often each kind of write may happen in its life."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import timedelta

from spotjob.core.reasons import Reason
from spotjob.core.resources import DRILL_ANNOTATION, Attempt, SpotJob

WAIT_REFRESH = timedelta(minutes=5)
HEARD_AGAIN = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

_STEPS: Mapping[str, Callable[[Attempt, Attempt], bool]] = {
    "claim": lambda old, new: old.claimed_at is None and new.claimed_at is not None,
    "end": lambda old, new: old.outcome is None and new.outcome is not None,
    "start": lambda old, new: old.started_at is None and new.started_at is not None,
    "notice": lambda old, new: old.notice_at is None and new.notice_at is not None,
    "advised": lambda old, new: old.advised_at is None and new.advised_at is not None,
    "impaired": lambda old, new: old.impaired_at is None and new.impaired_at is not None,
    "well": lambda old, new: old.impaired_at is not None and new.impaired_at is None,
    "heard": lambda old, new: old.heard_at != new.heard_at,
    "drilled": lambda old, new: old.drill_at is None and new.drill_at is not None,
    "stopping": lambda old, new: old.stop_by is None and new.stop_by is not None,
    "callback": lambda old, new: old.callback is None and new.callback is not None,
}
ONCE_PER_ATTEMPT = ("bind", "claim", "end", "start", "notice", "advised", "drilled", "stopping", "callback", "awaiting")


def kind_of(before: SpotJob, after: SpotJob) -> str:
    """What one write of the status did. One that did two things counts as the first of them."""
    old, new = before.current, after.current
    if new is not None and (old is None or new.number > old.number):
        return "bind"
    if new is not None and old is not None:
        for kind, happened in _STEPS.items():
            if happened(old, new):
                return kind
    if after.finished:
        return "verdict" if not before.finished else "terminated" if _phase_changed(before, after) else "nothing"
    if after.status.reason is Reason.AWAITING_RESULT:
        return "awaiting"
    return "wait"


def kinds_beside_the_status(before: SpotJob, after: SpotJob) -> list[str]:
    """What one write did to the finalizers and the annotations."""
    kinds = []
    if before.guarded != after.guarded:
        kinds.append("guard" if after.guarded else "release")
    if DRILL_ANNOTATION in before.metadata.annotations and DRILL_ANNOTATION not in after.metadata.annotations:
        kinds.append("drill seen")
    return kinds


def _phase_changed(before: SpotJob, after: SpotJob) -> bool:
    return before.status.phase is not after.status.phase


def why_needless(kind: str, before: SpotJob, after: SpotJob) -> str | None:
    """What is wrong with one write of a kind that may happen often; None when it is fine."""
    old, new = before.current, after.current
    if kind == "heard" and old is not None and new is not None:
        if old.impaired_at is None:
            return "the agent was heard, and the host was well"
        if old.heard_at is not None and new.heard_at is not None and new.heard_at - old.heard_at < HEARD_AGAIN - SECOND:
            return "the agent was heard twice within a minute"
    if kind == "wait" and before.status.reason is after.status.reason:
        was, now = before.status.next_attempt_time, after.status.next_attempt_time
        if was is None or now is None or abs(now - was) < WAIT_REFRESH - SECOND:
            return f"the wait {after.status.reason} was written again: next attempt {was}, then {now}"
    return None


def allowed_writes(
    attempts: int, disturbances: int, seconds: float, drills: int, impairments: int, seconds_impaired: float
) -> Counter[str]:
    """At most so many writes of each kind: seven for an undisturbed job, one of each kind; more only for more
    attempts, and for what was injected."""
    allowed = Counter(dict.fromkeys(ONCE_PER_ATTEMPT, attempts))
    allowed |= Counter({"guard": 1, "release": 1, "verdict": 1, "terminated": 1, "drill seen": drills})
    # A new leader may see checks that fail, hold and fail again only in part; it never writes what is written.
    allowed |= Counter({"impaired": impairments, "well": impairments})
    allowed["heard"] = impairments + int(seconds_impaired / HEARD_AGAIN.total_seconds())
    allowed["wait"] = 1 + 2 * attempts + disturbances + int(seconds / WAIT_REFRESH.total_seconds())
    return allowed

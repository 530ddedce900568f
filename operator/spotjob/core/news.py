"""Which changes of a job people should find in `kubectl describe` and `kubectl events`: the waits and the ends.

Every Event is a write to the API server, so the normal steps of a healthy job make none but its last.
"""

from __future__ import annotations

from dataclasses import dataclass

from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import SpotJobStatus
from spotjob.core.states import Change, Ended, Terminated, Verdict, Waiting

QUIET = frozenset({Outcome.SUCCEEDED, Outcome.NEVER_STARTED})
"""Ends of attempts that say nothing new."""


@dataclass(frozen=True, slots=True)
class News:
    """One Event: its reason, its note, and whether it is a warning."""

    reason: str
    note: str
    warning: bool = False


def news_of(change: Change, status: SpotJobStatus) -> News | None:
    """What the writer of a change, the operator or the API, tells of it; `status` is the one after it. Pure."""
    match change:
        case Waiting(reason=reason, message=message) if reason.is_shortage:
            return News(reason.value, message, warning=True)
        case Ended(outcome=outcome, message=message) if outcome not in QUIET:
            return News(outcome.value, message, warning=True)
        case Verdict(reason=reason, message=message):
            return News(reason.value, message, warning=True)
        # A failure was told when it was known; a success is told when nothing is left of it.
        case Terminated() if status.phase is Phase.TERMINATED_OK:
            return News(Reason.CONTAINER_SUCCEEDED.value, f"{status.phase.value}: {status.message}")
        case _:
            return None

"""Which changes of a job people should find in `kubectl describe` and `kubectl events`: the waits and the ends.

Every Event is a write to the API server, so the normal steps of a healthy job make none but its last.
"""

from __future__ import annotations

from spotjob.core.conditions import FALLEN_BACK
from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import SpotJobStatus
from spotjob.core.states import (
    Advised,
    Bound,
    Change,
    Drilled,
    Ended,
    Impaired,
    News,
    Noticed,
    Terminated,
    Verdict,
    Waiting,
)

QUIET = frozenset({Outcome.SUCCEEDED, Outcome.NEVER_STARTED})
"""Ends of attempts that say nothing new."""


def news_of(change: Change, status: SpotJobStatus) -> News | None:
    """What the writer of a change, the operator or the API, tells of it; `status` is the one after it. Pure."""
    match change:
        case Waiting(reason=reason, message=message) if reason.is_shortage:
            return News(reason.value, message, warning=True)
        case Bound(instance=instance) if _holds(status, FALLEN_BACK):
            return News("FallbackToOnDemand", f"{instance.id} is an on-demand instance: {status.message}")
        case Noticed():
            return News(Reason.INTERRUPTION_NOTICE.value, status.message or "", warning=True)
        case Drilled():
            return News("Drill", status.message or "")
        case Advised():
            return News("RebalanceRecommended", f"EC2 recommends to leave instance {status.instance_id}")
        case Impaired(since=since) if since is not None:
            return News("HostImpaired", f"The status checks of instance {status.instance_id} fail", warning=True)
        case Ended(outcome=outcome, message=message) if outcome not in QUIET:
            return News(outcome.value, message, warning=True)
        case Verdict(reason=reason, message=message):
            return News(reason.value, message, warning=True)
        # A failure was told when it was known; a success is told when nothing is left of it.
        case Terminated() if status.phase is Phase.TERMINATED_OK:
            return News(Reason.CONTAINER_SUCCEEDED.value, f"{status.phase.value}: {status.message}")
        case _:
            return None


def _holds(status: SpotJobStatus, kind: str) -> bool:
    return any(condition.type == kind and condition.status == "True" for condition in status.conditions)

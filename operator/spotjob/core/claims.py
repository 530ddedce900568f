"""Which attempt an instance is meant for, and whether it may have it. The claim decides, never the binding alone.

Asking for the assignment writes nothing. The claim names exactly the pair that the assignment named, with a nonce
that the agent keeps on its disk; the hash of the first nonce is written into the attempt, and from then on only that
nonce is heard. So an agent that lost the answer can ask again, and a second agent never runs the same attempt.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta

from spotjob.core.contract import Assignment, ClaimRequest, HeartbeatAnswer
from spotjob.core.reasons import Reason
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import Claimed, Heard


@dataclass(frozen=True, slots=True)
class AlreadyYours:
    """The same agent has claimed this attempt before: nothing is written, the answer is repeated."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Final for the instance: it powers itself off."""

    reason: str


def assignment_for(job: SpotJob, instance_id: str) -> Assignment | None:
    """The pair that this instance may claim from this job; None means not yet, or no longer. Pure."""
    attempt = job.running
    if attempt is None or attempt.instance_id != instance_id or closed(job) is not None:
        return None
    return Assignment(
        namespace=job.metadata.namespace, name=job.metadata.name, uid=job.metadata.uid, attempt=attempt.number
    )


def claim(job: SpotJob, instance_id: str, request: ClaimRequest) -> Claimed | AlreadyYours | Refused:
    """Whether this instance may run this attempt. Pure; Claimed is to be written, and is void if that fails."""
    attempt = job.running
    if job.metadata.uid != request.uid:
        return Refused("the job is gone")
    if (why := closed(job)) is not None:
        return Refused(f"the job {why}")

    # The pair must be the current one, whole: an instance serves one attempt, ever.
    if attempt is None or attempt.number != request.attempt:
        return Refused(f"attempt {request.attempt} is over")
    if attempt.instance_id != instance_id:
        return Refused(f"attempt {request.attempt} is meant for another instance")

    return _by_nonce(attempt, claim_hash(request.nonce))


def _by_nonce(attempt: Attempt, nonce_hash: str) -> Claimed | AlreadyYours | Refused:
    if attempt.claim_hash is None:
        return Claimed(nonce_hash)
    if hmac.compare_digest(attempt.claim_hash, nonce_hash):
        return AlreadyYours()
    return Refused(f"attempt {attempt.number} is claimed already, with another nonce")


def closed(job: SpotJob) -> str | None:
    """Why no container of this job may run any more; None when one may."""
    if job.deleting:
        return "is being deleted"
    if job.finished:
        return "has finished"
    if job.spec.suspend:
        return "is suspended"
    return None


def claim_hash(nonce: str) -> str:
    """What is stored of a nonce: status is readable for more people than may claim."""
    return hashlib.sha256(nonce.encode(errors="surrogatepass")).hexdigest()


def holds(job: SpotJob, uid: str, number: int, instance_id: str) -> bool:
    """A token for this attempt is good: the attempt is the newest one, running or over, and has the same instance."""
    attempt = job.current
    return (
        attempt is not None
        and job.metadata.uid == uid
        and (attempt.number, attempt.instance_id) == (number, instance_id)
    )


def orders_for(job: SpotJob | None, uid: str, number: int, instance_id: str) -> HeartbeatAnswer:
    """What the agent of this attempt should do now; None means that the job is gone. Pure.

    An attempt that is over, or is no longer the current one, has to stop too: nobody waits for its result.
    """
    if job is None:
        return HeartbeatAnswer(order="stop")
    grace = job.spec.termination_grace_period_seconds
    attempt = job.running if holds(job, uid, number, instance_id) else None
    # A suspension can be taken back, so its order stands in the status before it is said: what it ends is judged by it.
    if attempt is None or attempt.stop_by is not None or job.deleting or job.finished:
        return HeartbeatAnswer(order="stop", grace_seconds=grace)
    if attempt.drill_at is not None and attempt.notice_at is None:
        return HeartbeatAnswer(order="drill", reclaim_at=attempt.drill_at)
    return HeartbeatAnswer()


HEARD_AGAIN = timedelta(minutes=1)


def heard(job: SpotJob | None, now: datetime) -> Heard | None:
    """What a heartbeat of the current attempt writes: nothing, unless the instance's status checks fail. Pure."""
    attempt = job.running if job is not None else None
    if job is None or attempt is None or attempt.impaired_at is None:
        return None
    if job.status.reason is Reason.AWAITING_RESULT:  # it was given up
        return None
    lately = attempt.heard_at is not None and now - attempt.heard_at < HEARD_AGAIN
    return None if lately else Heard()

"""The one way in which the API writes a status: read, decide with the pure core, write what was decided on.

A write carries the resourceVersion of what was read. When another writer was faster, or no answer came, the object is
read and decided upon again: a decision that has taken effect then says "nothing to do".
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from spotjob.api.problems import Refusal, unavailable
from spotjob.api.wiring import Services
from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.news import news_of
from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change
from spotjob.kube.transport import pause

log = logging.getLogger(__name__)

TRIES = 6

Decide = Callable[[SpotJob], Awaitable[Change | None]]
"""What to change about the job as it is now; None for nothing. May raise Refusal."""


async def write(given: Services, namespace: str, name: str, decide: Decide) -> None:
    """Carry a decision about one job out. Raises what `decide` raises, 403 when the job is gone, 503 to ask again."""
    for tries in range(1, TRIES + 1):
        try:
            async with given.turns.of(f"{namespace}/{name}"):
                written = await _write_once(given, namespace, name, decide)
            if written:
                return
        except NotFound as error:
            raise Refusal(403, "the job is gone") from error
        except Unanswered as error:
            log.warning("status of %s/%s: %s", namespace, name, error)
        except KubeError as error:
            log.error("status of %s/%s: %s", namespace, name, error)
            raise unavailable("the Kubernetes API server refuses what the API needs; its log says more") from error
        await given.clock.sleep(pause(tries))
    raise unavailable("the job's status is being written by others; ask again")


async def _write_once(given: Services, namespace: str, name: str, decide: Decide) -> bool:
    """True when nothing is left to write."""
    job = await given.kube.get_job(namespace, name)
    change = await decide(job)
    patch = {} if change is None else merge_patch(job.status, next_status(job, change, given.clock.now()))
    if change is None or not patch:
        return True
    try:
        written = await given.kube.write_status(job, patch)
    except Conflict as error:
        log.debug("%s: %s", job.key, error)
        return False
    given.index.refresh(written)
    if (news := news_of(change, written.status)) is not None:
        await given.kube.record_event(written, news.reason, news.note, news.warning)
    return True

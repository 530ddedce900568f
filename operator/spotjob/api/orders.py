"""Answers an agent's heartbeat: with an order at once, without one when the time of the long poll is up.

Orders come from the index, so a heartbeat costs the API server nothing, with two exceptions: an attempt that the index
does not know, which is read once per heartbeat, and a host whose status checks fail, of which it is noted that its
agent was heard.
"""

from __future__ import annotations

from spotjob.api.wiring import Services
from spotjob.api.writing import Decide, write
from spotjob.core.claims import heard, holds, orders_for
from spotjob.core.contract import HeartbeatAnswer
from spotjob.core.ports import NotFound
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change
from spotjob.core.tokens import Claims


async def order_for(given: Services, claims: Claims, seconds: float) -> HeartbeatAnswer:
    """What the agent of this attempt should do; an order is waited for up to `seconds`."""
    job = await _newest(given, claims)
    order = _order(job, claims)
    if job is None or order.order != "continue":
        return order
    if heard(job, given.clock.now()) is not None:
        await write(given, claims.namespace, claims.name, _noting(given, claims))
    return await _wait(given, claims, job, seconds) or order


async def _wait(given: Services, claims: Claims, job: SpotJob, seconds: float) -> HeartbeatAnswer | None:
    index, listed = given.index, given.index.get(claims.uid) is not None

    def look() -> HeartbeatAnswer | None:
        if listed and index.get(claims.uid) is None:
            return HeartbeatAnswer()  # the object is gone: the agent asks again, and then the API server is asked
        order = _order(index.newest(job), claims)
        return None if order.order == "continue" else order

    return await index.wait_for(claims.uid, look, seconds)


async def _newest(given: Services, claims: Claims) -> SpotJob | None:
    """By the index; when that may be late, by the API server. None when the job is gone."""
    job = given.index.get(claims.uid)
    if job is not None and holds(job, claims.uid, claims.attempt, claims.instance):
        return job
    try:
        return await given.kube.get_job(claims.namespace, claims.name)
    except NotFound:
        return None


def _order(job: SpotJob | None, claims: Claims) -> HeartbeatAnswer:
    return orders_for(job, claims.uid, claims.attempt, claims.instance)


def _noting(given: Services, claims: Claims) -> Decide:
    async def decide(job: SpotJob) -> Change | None:
        current = holds(job, claims.uid, claims.attempt, claims.instance)
        return heard(job, given.clock.now()) if current else None

    return decide

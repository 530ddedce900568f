"""Routes for instances (assignment, claim), their agents (report, heartbeat) and containers (callback)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from spotjob.api.auth import Agent, Container, Launched
from spotjob.api.handing import Handing
from spotjob.api.orders import order_for
from spotjob.api.problems import Refusal, Responses, documented
from spotjob.api.wiring import Given, Services
from spotjob.api.writing import write
from spotjob.core.claims import assignment_for, holds
from spotjob.core.contract import (
    Assignment,
    Callback,
    ClaimedJob,
    ClaimRequest,
    Heartbeat,
    HeartbeatAnswer,
    Report,
)
from spotjob.core.ports import NotFound
from spotjob.core.reports import callback_change, change_for
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change
from spotjob.core.tokens import Claims

router = APIRouter(prefix="/v1")

WAIT_SECONDS = 10.0
"""How long a question for the assignment is held open by default."""

LONGEST_WAIT_SECONDS = 30.0

InstanceId = Annotated[str, Path(alias="instance", pattern=r"^i-[0-9a-f]{1,32}$")]
_NOT_YET: Responses = {204: {"description": "Not yet: ask again"}}
_PROBLEMS = (401, 403, 405, 413, 422, 500, 503)


@router.get(
    "/instances/{instance}/assignment",
    responses=_NOT_YET | documented(*_PROBLEMS),
    response_model=Assignment,
)
async def assignment(
    instance_id: InstanceId,
    given: Given,
    _: Launched,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_SECONDS)] = WAIT_SECONDS,
) -> Assignment | Response:
    """Which attempt the instance is meant for; held open up to `wait` seconds until there is one."""
    job = await given.index.wait_for_instance(instance_id, wait)
    found = None if job is None else await _confirmed(given, job, instance_id)
    return Response(status_code=204) if found is None else found


async def _confirmed(given: Services, job: SpotJob, instance_id: str) -> Assignment | None:
    """The index may be late: the object itself decides."""
    try:
        return assignment_for(await given.kube.get_job(job.metadata.namespace, job.metadata.name), instance_id)
    except NotFound:
        return None


@router.post("/instances/{instance}/claim", responses=documented(400, 409, *_PROBLEMS))
async def claim(
    instance_id: InstanceId, asked: ClaimRequest, given: Given, request: Request, _: Launched
) -> ClaimedJob:
    """Take an attempt up: the first nonce wins, the same nonce may repeat. 409 is final: power off."""
    return await Handing(given, instance_id, asked, request.is_disconnected).carry_out()


@router.post("/attempts/{uid}/{number}/report", responses=documented(400, *_PROBLEMS))
async def report(said: Report, given: Given, claims: Agent) -> dict[str, str]:
    """Started, notice or finished. A repetition gets the same answer and changes nothing."""

    async def judged(job: SpotJob) -> Change | None:
        _require_current(job, claims)
        return change_for(job, said, given.clock.now())

    await write(given, claims.namespace, claims.name, judged)
    return {}


@router.post("/attempts/{uid}/{number}/heartbeat", responses=documented(400, *_PROBLEMS))
async def heartbeat(
    _: Heartbeat,
    given: Given,
    claims: Agent,
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT_SECONDS)] = 0,
) -> HeartbeatAnswer:
    """Brings orders. Held open up to `wait` seconds while there is none; answered at once when there is."""
    return await order_for(given, claims, wait)


@router.post("/callback", responses=documented(400, *_PROBLEMS))
async def callback(said: Callback, given: Given, claims: Container) -> dict[str, str]:
    """The container's own word on how it went; it becomes the verdict when the container exits."""
    if said.uid not in (None, claims.uid) or said.attempt not in (None, claims.attempt):
        raise Refusal(403, "the token is of another attempt")

    async def noted(job: SpotJob) -> Change | None:
        _require_current(job, claims)
        return callback_change(job, said)

    await write(given, claims.namespace, claims.name, noted)
    return {}


def _current(job: SpotJob, claims: Claims) -> bool:
    return holds(job, claims.uid, claims.attempt, claims.instance)


def _require_current(job: SpotJob, claims: Claims) -> None:
    if not _current(job, claims):
        raise Refusal(403, "the attempt of this token is no longer the current one")

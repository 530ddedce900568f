"""The REST API as instances meet it: the product's own decisions, over one connection to the API server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

from spotjob.core import claims, conditions, handover, reports
from spotjob.core.conditions import merge_patch
from spotjob.core.contract import Assignment, Callback, ClaimRequest, HeartbeatAnswer, Report
from spotjob.core.ports import KubeError, NotFound
from spotjob.core.resources import SpotJob
from spotjob.core.states import Change

if TYPE_CHECKING:
    from tests.simulation.world import World


class Over(KubeError):
    """A final no."""


class Timers(NamedTuple):
    """Where the kill timer stands: until the container begins, and from then on."""

    start_by: datetime
    power_off_at: datetime


class Api:
    """Each method is one request; it raises Over, KubeError or Unanswered."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def assignment(self, instance_id: str) -> Assignment | None:
        jobs = await self._world.api_line.jobs_of_instance(instance_id)
        return next((found for job in jobs if (found := claims.assignment_for(job, instance_id))), None)

    async def claim(self, pair: Assignment, instance_id: str) -> Timers:
        """When the instance has to power off. Raises Over when the claim is refused."""
        request = ClaimRequest(uid=pair.uid, attempt=pair.attempt, nonce=f"nonce-of-{instance_id}")
        job = await self._read(pair)
        decided = claims.claim(job, instance_id, request)
        if isinstance(decided, claims.Refused) or job.running is None:
            raise Over(409, f"{pair.name}: refused")
        job_class = self._world.cluster.classes[0]
        timers = Timers(
            handover.start_by(job, job.running, job_class), handover.power_off_at(job, job.running, job_class)
        )
        if not isinstance(decided, claims.AlreadyYours):
            await self._write(job, replace(decided, power_off_at=timers.power_off_at))
        return timers

    async def report(self, pair: Assignment, instance_id: str, report: Report) -> None:
        now = self._world.clock.now()
        await self._say(pair, instance_id, lambda job: reports.change_for(job, report, now))

    async def callback(self, pair: Assignment, instance_id: str, status: Literal["ok", "nok"]) -> None:
        await self._say(pair, instance_id, lambda job: reports.callback_change(job, Callback(status=status)))

    async def heartbeat(self, pair: Assignment, instance_id: str) -> HeartbeatAnswer:
        try:
            job = await self._world.api_line.get_job(pair.namespace, pair.name)
        except NotFound:
            return claims.orders_for(None, pair.uid, pair.attempt, instance_id)
        if claims.holds(job, pair.uid, pair.attempt, instance_id):
            change = claims.heard(job, self._world.clock.now())
            if change is not None:
                job = await self._write(job, change)
        return claims.orders_for(job, pair.uid, pair.attempt, instance_id)

    async def _say(self, pair: Assignment, instance_id: str, change_for: Callable[[SpotJob], Change | None]) -> None:
        job = await self._read(pair)
        if not claims.holds(job, pair.uid, pair.attempt, instance_id):
            raise Over(403, "the attempt of this token is no longer the current one")
        change = change_for(job)
        if change is not None:
            await self._write(job, change)

    async def _read(self, pair: Assignment) -> SpotJob:
        try:
            job: SpotJob = await self._world.api_line.get_job(pair.namespace, pair.name)
        except NotFound as error:
            raise Over(404, f"{pair.name} is gone") from error
        return job

    async def _write(self, job: SpotJob, change: Change) -> SpotJob:
        """As api.writing: nothing is written when nothing changes."""
        patch = merge_patch(job.status, conditions.next_status(job, change, self._world.clock.now()))
        if patch:
            job = await self._world.api_line.write_status(job, patch)
        return job

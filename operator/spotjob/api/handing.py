"""Carries a claim out: reads what the job names, writes the claim, hands the job over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from spotjob.api.problems import Refusal, unavailable
from spotjob.api.wiring import Services
from spotjob.api.writing import write
from spotjob.core.claims import AlreadyYours, Refused, claim
from spotjob.core.contract import ClaimedJob, ClaimRequest
from spotjob.core.handover import Contents, Source, Unready, hand_over, sources
from spotjob.core.ports import KubeError, NotFound
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.states import Change, Waiting

UNREADY_SECONDS = 10
"""An agent whose job names something missing asks again after this long."""


class Handing:
    """One claim of one instance."""

    def __init__(
        self, given: Services, instance_id: str, asked: ClaimRequest, gone: Callable[[], Awaitable[bool]]
    ) -> None:
        """`gone`: whether the agent has hung up."""
        self._given, self._instance_id, self._asked, self._gone = given, instance_id, asked, gone
        self._handed: ClaimedJob | None = None
        self._unready: Unready | None = None

    async def carry_out(self) -> ClaimedJob:
        """What the agent gets. Raises 409 when it is refused, 503 when something that the job names is missing."""
        job = await self._find()
        await write(self._given, job.metadata.namespace, job.metadata.name, self._decide)
        if self._unready is not None:
            raise unavailable(f"the job is not ready: {self._unready}", UNREADY_SECONDS) from self._unready
        if self._handed is None:
            raise RuntimeError("a claim was neither refused nor handed over")
        return self._handed

    async def _find(self) -> SpotJob:
        """By the index; when that is late, by asking the API server, whose word is final."""
        if (known := self._given.index.get(self._asked.uid)) is not None:
            return known
        jobs, _ = await self._given.kube.list_jobs_at(f"status.instanceID={self._instance_id}")
        for job in jobs:
            if job.metadata.uid == self._asked.uid:
                return job
        raise Refusal(409, "the claim is refused: no such job names this instance")

    async def _decide(self, job: SpotJob) -> Change | None:
        """The values are read before the claim is written: a claim that cannot be served is not made."""
        self._handed = self._unready = None
        answer = claim(job, self._instance_id, self._asked)
        if isinstance(answer, Refused):
            raise Refusal(409, f"the claim is refused: {answer.reason}")
        try:
            self._handed = await self._prepare(job)
        except Unready as unready:
            self._unready = unready
            return _explanation(job, unready)
        if await self._gone():
            # Its instance may be dead, and a claim that is younger than the death hides that nothing ever ran.
            raise unavailable("the agent has hung up: nothing is claimed")
        return None if isinstance(answer, AlreadyYours) else replace(answer, power_off_at=self._handed.power_off_at)

    async def _prepare(self, job: SpotJob) -> ClaimedJob:
        attempt = job.running
        if attempt is None:
            raise RuntimeError("a claim holds only for a running attempt")
        job_class = await self._class_of(job)
        contents = await self._contents(job)
        return hand_over(job, attempt, job_class, contents, self._given.keyring, self._given.api_url)

    async def _class_of(self, job: SpotJob) -> SpotJobClass:
        if job.spec.class_name is None:
            defaults = [found for found in await self._given.kube.list_classes() if found.default]
            if len(defaults) != 1:
                raise Unready(f"{len(defaults)} SpotJobClasses are marked as default, exactly one must be")
            return defaults[0]
        try:
            return await self._given.kube.get_class(job.spec.class_name)
        except NotFound as error:
            raise Unready(f"SpotJobClass {job.spec.class_name} does not exist") from error

    async def _contents(self, job: SpotJob) -> Contents:
        wanted = sorted(sources(job), key=lambda source: (source.kind, source.name))
        read = await asyncio.gather(*(self._read(job.metadata.namespace, source) for source in wanted))
        return {source: values for source, values in zip(wanted, read, strict=True) if values is not None}

    async def _read(self, namespace: str, source: Source) -> Mapping[str, bytes] | None:
        kube = self._given.kube
        try:
            if source.kind == "Secret":
                return await kube.secret_values(namespace, source.name)
            return await kube.config_map_values(namespace, source.name)
        except NotFound:
            return None
        except KubeError as error:
            if error.status != 403:
                raise
            # The administrator may bind the right to read values namespace by namespace (docs/security.md).
            raise Unready(f"the API may not read {source.kind} {source.name} in this namespace") from error


def _explanation(job: SpotJob, unready: Unready) -> Change | None:
    """Shows people why the job does not start. Written once: the same words again change nothing."""
    return Waiting(Reason.BOOTING, str(unready)) if job.status.reason is Reason.BOOTING else None

"""Every version of every SpotJob, as the API server shows them to one who is no part of the product."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Self

from spotjob.core.ports import Unanswered
from spotjob.core.resources import SpotJob
from spotjob.kube.client import Expired, KubeClient


class Watching:
    """An async context manager. Jobs are known by their names, of which each is given once."""

    def __init__(self, kube: KubeClient) -> None:
        self._kube = kube
        self._history: dict[str, list[SpotJob]] = defaultdict(list)
        self._names: dict[str, str] = {}
        self._gone: set[str] = set()
        self._changed = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def history(self, name: str) -> list[SpotJob]:
        return self._history[name]

    def gone(self, name: str) -> bool:
        return name in self._gone

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether it holds within this time; asked again whenever a job has changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._changed:
                await self._changed.wait_for(condition)
        return condition()

    async def _watch(self) -> None:
        while True:
            listed, version = await self._kube.list_jobs_at()
            for job in listed:
                await self._saw(job)
            for uid in self._names.keys() - {job.metadata.uid for job in listed}:
                await self._lost(uid)  # while no watch was open
            try:
                while True:
                    version = await self._follow(version)
            except (Expired, Unanswered):
                continue

    async def _follow(self, version: str) -> str:
        async for event in self._kube.watch_jobs(version):
            version = event.resource_version
            if event.kind == "deleted":
                await self._lost(event.uid)
            elif event.job is not None:
                await self._saw(event.job)
        return version

    async def _saw(self, job: SpotJob) -> None:
        known = self._history[job.metadata.name]
        if known and known[-1].metadata.resource_version == job.metadata.resource_version:
            return
        async with self._changed:
            known.append(job)
            self._names[job.metadata.uid] = job.metadata.name
            self._changed.notify_all()

    async def _lost(self, uid: str) -> None:
        async with self._changed:
            self._gone.add(self._names[uid])
            self._changed.notify_all()

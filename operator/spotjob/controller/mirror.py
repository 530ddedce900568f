"""Keeps the DynamoDB table `Jobs` in step with the persisted status. A failing mirror never stops a job."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from spotjob.controller.lease import Lease
from spotjob.controller.store import Store
from spotjob.core.mirror import closed, content, item
from spotjob.core.ports import Clock, Table
from spotjob.core.resources import SpotJob

log = logging.getLogger(__name__)

WORKERS = 4
RETRY_FIRST_SECONDS = 1.0
RETRY_LONGEST_SECONDS = 60.0
REOPEN_SECONDS = 15.0
NOT_LEADING_SECONDS = 0.5


class Mirror:
    """Writes each job's newest persisted status, once per change; jobs that change fast are written less often."""

    def __init__(
        self,
        open_table: Callable[[], Awaitable[Table]] | None,
        store: Store,
        clock: Clock,
        lease: Lease,
        enqueue: Callable[[str], None],
        patience_seconds: float,
        ttl_days: int,
    ) -> None:
        self._open, self._store, self._clock, self._lease = open_table, store, clock, lease
        self._enqueue = enqueue
        self._patience = timedelta(seconds=patience_seconds)
        self._ttl = timedelta(days=ttl_days)
        self._written: dict[str, Mapping[str, Any]] = {}  # uid -> what the table holds, without version and times
        self._waiting: dict[str, None] = {}
        self._orphans: dict[str, SpotJob] = {}  # uid -> a deleted job whose item is to be closed
        self._more = asyncio.Semaphore(0)
        self._failures = 0
        self._running = False

    def add(self, key: str) -> None:
        """This job's status was persisted anew."""
        if self._open is not None and key not in self._waiting:
            self._waiting[key] = None
            self._more.release()

    def holds(self, job: SpotJob) -> bool:
        """The table shows this job as it is, or there is no table, or it was waited for long enough."""
        if self._open is None or self._written.get(job.metadata.uid) == content(job):
            return True
        since = job.status.completion_time
        return since is not None and self._clock.now() - since >= self._patience

    def waits_until(self, job: SpotJob) -> datetime | None:
        """When the table is no longer waited for; None when the job does not wait for it."""
        since = job.status.completion_time
        return None if since is None or not job.guarded or self.holds(job) else since + self._patience

    async def run(self) -> None:
        """Until cancelled. A table that cannot be opened is tried again; jobs go on meanwhile."""
        if self._open is None:
            return
        self._running = True
        try:
            table = await self._opened(self._open)
            await self._resync(table)
            await asyncio.gather(*(self._work(table) for _ in range(WORKERS)))
        finally:
            self._running = False

    async def _opened(self, open_table: Callable[[], Awaitable[Table]]) -> Table:
        while True:
            try:
                return await open_table()
            except Exception as error:  # no trouble of the table may stop a job
                log.error("jobs are not mirrored: %s", error)
                await self._clock.sleep(REOPEN_SECONDS)

    async def _work(self, table: Table) -> None:
        while True:
            await self._more.acquire()
            while not self._lease.leading():  # a renewal that came late
                await self._clock.sleep(NOT_LEADING_SECONDS)
            if self._orphans:
                await self._close_orphan(table)
                continue
            key = next(iter(self._waiting))
            del self._waiting[key]
            job = self._store.get(key)
            if job is None or self._written.get(job.metadata.uid) == content(job):
                continue
            await self._write(table, job)

    async def _write(self, table: Table, job: SpotJob) -> None:
        if job.status.phase is None:
            return
        try:
            await table.put(item(job, self._clock.now(), self._ttl))
        except Exception as error:  # whatever the table's trouble is, the job goes on and the write is tried again
            await self._fail(job.key, error)
            return
        self._failures = 0
        self._written[job.metadata.uid] = content(job)
        if job.deleting or job.finished:
            self._enqueue(job.key)

    async def _fail(self, key: str, error: Exception) -> None:
        await self._pause(key, error)
        self.add(key)

    async def _pause(self, what: str, error: Exception) -> None:
        self._failures += 1
        pause = min(RETRY_FIRST_SECONDS * 2 ** min(self._failures, 6), RETRY_LONGEST_SECONDS)
        log.warning("%s is not mirrored yet, again in %.0f s: %s", what, pause, error)
        await self._clock.sleep(pause)

    def gone(self, job: SpotJob) -> None:
        """The object was deleted. What the table does not show of its end is still written, and its item closed."""
        held = self._written.pop(job.metadata.uid, None)
        phase = job.status.phase
        if not self._running or phase is None or (phase.terminated and held == content(job)):
            return
        self._adopt(job)

    def _adopt(self, job: SpotJob) -> None:
        if job.metadata.uid not in self._orphans:
            self._orphans[job.metadata.uid] = job
            self._more.release()

    async def _close_orphan(self, table: Table) -> None:
        uid, job = self._orphans.popitem()
        now = self._clock.now()
        try:
            await table.put(closed(item(job, now, self._ttl), now, self._ttl))
        except Exception as error:  # as in _write
            await self._pause(f"{job.key} ({uid}), which is deleted,", error)
            self._adopt(job)

    async def _resync(self, table: Table) -> None:
        """At start: write every job, and close the items whose object is gone. Another leader may have written since
        this process last led, so nothing is known of the table."""
        self._written.clear()
        self._waiting.clear()
        self._more = asyncio.Semaphore(len(self._orphans))
        for job in self._store.jobs():
            self.add(job.key)
        known = {job.metadata.uid for job in self._store.jobs()}
        try:
            for open_item in await table.open_items():
                if open_item["id"] not in known and self._lease.leading():
                    await table.put(closed(open_item, self._clock.now(), self._ttl))
        except Exception as error:  # the next start tries again
            log.warning("the table could not be resynced: %s", error)

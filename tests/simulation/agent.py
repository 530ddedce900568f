"""The agent of one instance, as coroutines. All that it must not forget is on its host's disk."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Coroutine
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from spotjob.core.contract import RESULT_LINE, Assignment, Report
from spotjob.core.handover import token_claims
from spotjob.core.ports import KubeError, Unanswered
from spotjob.core.tokens import sign
from tests.simulation.container import Container
from tests.simulation.service import Over, Timers

if TYPE_CHECKING:
    from tests.simulation.host import Host

POLL_SECONDS = 5
STARTED_SECONDS = 2
SIGNAL_BEFORE = timedelta(seconds=15)


class Agent:
    """From its start to the power-off, or until it is killed. A new one goes on where the disk says."""

    def __init__(self, host: Host) -> None:
        self._host, self._world, self._disk = host, host.world, host.disk
        self._signal_at: datetime | None = None
        self._kill_at: datetime | None = None
        self._unsent: list[Report] = []
        self._news = asyncio.Event()
        self._noticed = self._advised = self._stopping = False

    async def work(self) -> None:
        with suppress(Over):
            if self._disk.claimed is None:
                self._disk.claimed = await self._take_work()
            self._move_kill_timer(self._disk.claimed)
            if self._disk.result is None:
                self._disk.result = await self._live()
                self._announce(self._disk.result)
            await self._say_the_end(self._disk.result)
        self._host.power_off()

    # ---- taking work ----

    async def _take_work(self) -> Timers:
        """Ask, then claim. Raises Over when refused, or when nobody wants this instance within the window."""
        until = self._host.launched + timedelta(seconds=self._world.window_seconds)
        while self._world.clock.now() < until:
            if self._disk.pair is None:
                self._disk.pair = await _tolerate(self._world.api.assignment(self._host.id))
            if self._disk.pair is not None:
                claimed: Timers | None = await _tolerate(self._world.api.claim(self._disk.pair, self._host.id))
                if claimed is not None:
                    return claimed
            await asyncio.sleep(1)
        raise Over(410, "nobody wants this instance")

    def _move_kill_timer(self, timers: Timers) -> None:
        self._host.kill_at = timers.power_off_at if self._disk.begun else timers.start_by

    # ---- the container's life ----

    async def _live(self) -> Report:
        """Until the container has ended; its final report. Raises Over when it is told to stop before."""
        duties = [asyncio.create_task(work) for work in (self._watch_over(), self._talk())]
        try:
            if not self._disk.begun and (failed := await self._prepared()) is not None:
                return failed
            container = self._host.container
            if container is None:
                return Report(kind="finished", at=self._world.clock.now(), finished_as="HostRebooted")
            await self._until_ended(container)
            return self._exited(container)
        finally:
            for duty in duties:
                duty.cancel()

    async def _prepared(self) -> Report | None:
        """The container runs; or the report that says why not."""
        behaviour = self._host.story(self._pair).behaviour
        await asyncio.sleep(behaviour.prepare_seconds)
        if self._signal_at is not None and self._signal_at <= self._world.clock.now():
            raise Over(410, "told to stop before the container began")
        if behaviour.fails is not None:
            return Report(kind="finished", at=self._world.clock.now(), finished_as=behaviour.fails)
        self._disk.begun = True
        self._host.start_container(self._pair)
        assert self._disk.claimed is not None
        self._move_kill_timer(self._disk.claimed)
        return None

    async def _until_ended(self, container: Container) -> None:
        try:
            async with asyncio.timeout(STARTED_SECONDS):
                await container.ended.wait()
        except TimeoutError:
            pass
        else:
            return
        self._to_send(Report(kind="started", at=container.story.started_at or self._world.clock.now()))
        await container.ended.wait()

    def _exited(self, container: Container) -> Report:
        end = container.story.exit
        assert end is not None
        return Report(
            kind="finished",
            at=self._world.clock.now(),
            finished_as="Exited",
            exit_code=end.code,
            signalled=end.signalled,
            started_at=container.story.started_at,
        )

    # ---- beside the container ----

    async def _watch_over(self) -> None:
        """EC2's notices, and the signals when they are due."""
        while True:
            instance, container, now = self._host.instance, self._host.container, self._world.clock.now()
            if not self._host.deaf:
                self._look(instance.reclaim_at, instance.rebalance_at)
            if container is not None and self._signal_at is not None and self._signal_at <= now:
                container.signal()
            if container is not None and self._kill_at is not None and self._kill_at <= now:
                container.kill()
            await asyncio.sleep(1 if self._signal_at is not None else POLL_SECONDS)

    def _look(self, reclaim_at: datetime | None, rebalance_at: datetime | None) -> None:
        if reclaim_at is not None:
            self._notice(reclaim_at)
        if rebalance_at is not None and not self._advised:
            self._advised = True
            self._to_send(Report(kind="rebalance", at=rebalance_at))

    def _notice(self, reclaim_at: datetime) -> None:
        self._signal_at = min(self._signal_at or reclaim_at, reclaim_at - SIGNAL_BEFORE)
        if not self._noticed:
            self._noticed = True
            self._to_send(Report(kind="notice", at=reclaim_at))

    async def _talk(self) -> None:
        """Reports, and a heartbeat that brings orders; whatever the API answers, the container goes on."""
        while True:
            while self._unsent and await self._sent(self._unsent[0]):
                self._unsent.pop(0)
            answer = await _tolerate(self._world.api.heartbeat(self._pair, self._host.id))
            if answer is not None:
                self._host.heard_at = self._world.clock.now()
            if answer is not None and answer.order == "stop" and not self._stopping:
                self._stopping, now = True, self._world.clock.now()
                self._signal_at, self._kill_at = now, now + timedelta(seconds=answer.grace_seconds)
            if answer is not None and answer.order == "drill" and answer.reclaim_at is not None:
                self._notice(answer.reclaim_at)
                self._kill_at = min(self._kill_at or answer.reclaim_at, answer.reclaim_at)
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
                    self._news.clear()

    def _to_send(self, report: Report) -> None:
        self._unsent.append(report)
        self._news.set()

    async def _sent(self, report: Report) -> bool:
        try:
            await self._world.api.report(self._pair, self._host.id, report)
        except Over:
            return True
        except (KubeError, Unanswered):
            return False
        return True

    # ---- the end ----

    def _announce(self, report: Report) -> None:
        """The result stands on the serial console before it is reported."""
        pair, host = self._pair, self._host
        code = "-" if report.exit_code is None else str(report.exit_code)
        signalled = "signalled" if report.signalled else "free"
        words = [host.id, pair.uid, str(pair.attempt), str(report.finished_as), code, signalled]
        proof = hmac.digest(self._token().encode(), " ".join(words).encode(), hashlib.sha256).hex()
        host.instance.console += " ".join([RESULT_LINE, *words, proof]) + "\n"
        if report.finished_as == "Exited":
            host.story(pair).told_at = self._world.clock.now()

    def _token(self) -> str:
        """As it came with the claim."""
        job = self._world.cluster.seen[self._pair.uid]
        attempt = next(a for a in job.status.attempts if a.number == self._pair.attempt)
        return sign(self._world.keyring, token_claims("agent", job, attempt))

    async def _say_the_end(self, report: Report) -> None:
        """Until it is heard, or nobody listens for too long. Raises Over."""
        until = self._world.clock.now() + timedelta(seconds=self._world.report_seconds)
        while self._world.clock.now() < until:
            try:
                return await self._world.api.report(self._pair, self._host.id, report)
            except Over:
                raise
            except (KubeError, Unanswered):
                await asyncio.sleep(1)
        raise Over(408, "the API is away")

    @property
    def _pair(self) -> Assignment:
        assert self._disk.pair is not None
        return self._disk.pair


async def _tolerate(request: Coroutine[Any, Any, Any]) -> Any:
    """The answer; None without a definite one. Raises Over."""
    try:
        return await request
    except Over:
        raise
    except (KubeError, Unanswered):
        return None

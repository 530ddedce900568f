"""What containers themselves tell, past the product: a connection that is open for as long as the container lives.

GET /live/JOB/ATTEMPT        never answered whole: it ends with the container
GET /begin/JOB/ATTEMPT       answered once that connection is open
GET /exit/JOB/ATTEMPT/CODE   the container is about to exit by itself
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import web

MOST_SECONDS = 600.0


@dataclass(slots=True)
class Run:
    """One run of a container. Times are of one monotonic clock, in seconds."""

    job: str
    attempt: int
    begun: float
    ended: float | None = None
    """None: it is alive."""
    exit_code: int | None = None
    """What it said it would exit with; None means that it was stopped."""


class Witness:
    """An async context manager; `url` is where containers tell."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._more = asyncio.Condition()
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/begin/{job}/{attempt}", self._begin)
        app.router.add_get("/live/{job}/{attempt}", self._live)
        app.router.add_get("/exit/{job}/{attempt}/{code}", self._exit)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    def runs(self, job: str) -> list[Run]:
        return [run for run in self._runs if run.job == job]

    def script(self, work: str) -> str:
        """A shell script around `work`, which sets `code` to what the container is to exit with."""
        me = "$SPOTJOB_NAME/$SPOTJOB_ATTEMPT"
        return "\n".join(
            (
                f'wget -q -O /dev/null "{self.url}/live/{me}" &',
                f'wget -q -O /dev/null "{self.url}/begin/{me}"',
                work,
                f'wget -q -O /dev/null "{self.url}/exit/{me}/$code"',
                "exit $code",
            )
        )

    async def _live(self, request: web.Request) -> web.StreamResponse:
        run = Run(request.match_info["job"], int(request.match_info["attempt"]), time.monotonic())
        response = web.StreamResponse()
        async with self._more:
            self._runs.append(run)
            self._more.notify_all()
        try:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await asyncio.sleep(MOST_SECONDS)
        finally:
            run.ended = time.monotonic()
        return response

    async def _begin(self, request: web.Request) -> web.Response:
        """Answered once the open connection is there, so that no container works unseen."""
        async with self._more:
            await self._more.wait_for(lambda: self._newest(request) is not None)
        return web.Response(text="yes\n")

    async def _exit(self, request: web.Request) -> web.Response:
        if (run := self._newest(request)) is None:
            raise web.HTTPNotFound
        run.exit_code = int(request.match_info["code"])
        return web.Response(text="yes\n")

    def _newest(self, request: web.Request) -> Run | None:
        """The last run under this name and number, if it is alive."""
        job, attempt = request.match_info["job"], int(request.match_info["attempt"])
        named = [run for run in self._runs if (run.job, run.attempt) == (job, attempt)]
        return named[-1] if named and named[-1].ended is None else None

"""The operator's /healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.registry import Collector


class Probes:
    """An async context manager that serves them on one port; port 0 serves nothing."""

    def __init__(self, port: int, ready: Callable[[], bool], figures: Collector) -> None:
        self._port, self._ready, self._figures = port, ready, figures
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Probes:
        if self._port == 0:
            return self
        REGISTRY.register(self._figures)
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, port=self._port).start()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        if self._runner is not None:
            REGISTRY.unregister(self._figures)
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(
            text="ok\n" if ready else "the SpotJobs are not listed and watched yet\n", status=200 if ready else 503
        )

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

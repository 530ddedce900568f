"""The REST API: one FastAPI app made from its services, and the process that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi

from spotjob import __version__
from spotjob.api import instances, people, problems
from spotjob.api.logs import configure_logs
from spotjob.api.middleware import AccessLog, BodyLimit
from spotjob.api.wiring import Given, Services
from spotjob.clock import RealClock
from spotjob.core.contract import Problem
from spotjob.core.ports import KubeError, Unanswered
from spotjob.core.tokens import Keyring
from spotjob.identity import identity_problem
from spotjob.keyring import KeyringError, load_keyring
from spotjob.kube.client import KubeClient
from spotjob.kube.config import ConfigError, KubeConfig, load_config
from spotjob.kube.informer import Informer, JobIndex
from spotjob.kube.reviews import Reviews
from spotjob.kube.transport import pause
from spotjob.settings import Settings

log = logging.getLogger(__name__)

EXIT_UNUSABLE = 2
"""Exit code for a configuration with which the API must not start."""

START_TRIES = 12
"""How often the API server is asked for the cluster's uid at start: about a minute and a half."""

GRACE_SECONDS = 10
"""How long open requests may take at the end."""

DESCRIPTION = (
    "Schedules, lists and deletes SpotJobs for people (Kubernetes bearer tokens), and serves the instances that run "
    "them. Every error is an RFC 9457 problem."
)


class Api(FastAPI):
    """FastAPI, whose own document gets the one schema that only errors have."""

    def openapi(self) -> dict[str, Any]:
        """Made when it is first asked for: it takes a quarter of a second."""
        if self.openapi_schema is None:
            document = get_openapi(title=self.title, version=self.version, description=DESCRIPTION, routes=self.routes)
            document["components"]["schemas"]["Problem"] = Problem.model_json_schema(by_alias=True)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(services: Services) -> FastAPI:
    """The whole app. It opens and closes nothing itself."""
    app = Api(
        title="SpotJob",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # their pages load scripts from a foreign host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(AccessLog)
    app.include_router(people.router, tags=["people"])
    app.include_router(instances.router, tags=["instances"])
    app.add_api_route("/healthz", healthz, include_in_schema=False)
    app.add_api_route("/readyz", readyz, include_in_schema=False)
    return app


async def healthz() -> Response:
    """The process answers."""
    return Response("ok", media_type="text/plain")


async def readyz(given: Given) -> Response:
    """All jobs have been listed once."""
    if not given.index.synced.is_set():
        raise problems.unavailable("the jobs have not been listed yet")
    return Response("ok", media_type="text/plain")


# ---- the process --------------------------------------------------------------------------------------------------


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Exits with 2 when the API must not start, with 1 when it cannot."""
    configure_logs(settings.log_format)
    try:
        if (problem := identity_problem(settings.instance_identity, os.environ)) is not None:
            raise ConfigError(problem)
        config, keyring = load_config(os.environ), load_keyring(settings.token_key_dir)
    except (ConfigError, KeyringError) as error:
        print(f"spotjob api: {error}", file=sys.stderr)
        sys.exit(EXIT_UNUSABLE)
    try:
        asyncio.run(serve(settings, config, keyring))
    except (KubeError, Unanswered) as error:
        log.error("giving up: %s", error)
        sys.exit(1)


async def serve(settings: Settings, config: KubeConfig, keyring: Keyring) -> None:
    """The server and the informer side by side; the end of either is the end of both."""
    clock, index = RealClock(), JobIndex()
    async with KubeClient(config, clock) as kube:
        services = Services(
            kube=kube,
            index=index,
            people=Reviews(kube, clock, settings.token_audiences),
            keyring=keyring,
            clock=clock,
            cluster_uid=await _cluster_uid(kube),
            api_url=settings.api_url,
        )
        server = Server(uvicorn_config(settings, create_app(services)), index)
        watching = asyncio.create_task(Informer(kube, index).run())
        watching.add_done_callback(lambda _: server.stop())
        try:
            await server.serve()
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
        if not watching.cancelled() and (fault := watching.exception()) is not None:
            raise fault


class Server(uvicorn.Server):
    """Ends in peace: open requests are finished, held-open questions return at once, the exit code is 0."""

    def __init__(self, config: uvicorn.Config, index: JobIndex) -> None:
        super().__init__(config)
        self._index = index

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Instead of uvicorn's own, which raises the signal again afterwards, so that nothing could be closed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.stop)
        yield

    def stop(self) -> None:
        self.should_exit = True
        self._index.stop_waits()


def uvicorn_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """Plain HTTP, or TLS when a certificate is set. The access log is our own: uvicorn's shows whole paths."""
    return uvicorn.Config(
        app,
        host=settings.api_host,
        port=settings.api_port,
        ssl_certfile=settings.api_tls_cert,
        ssl_keyfile=settings.api_tls_key,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


async def _cluster_uid(kube: KubeClient) -> str:
    """Waits for an API server that is still starting. Raises Unanswered when it never answers, KubeError at once."""
    for tries in range(1, START_TRIES):
        try:
            return await kube.cluster_uid()
        except Unanswered as error:
            log.warning("the Kubernetes API server does not answer yet: %s", error)
            await asyncio.sleep(pause(tries))
    return await kube.cluster_uid()

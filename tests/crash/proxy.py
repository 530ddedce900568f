"""A reverse proxy between one process and one of its servers: Kubernetes or AWS. Plain HTTP on loopback in front."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web
from yarl import URL

from tests.crash.gate import Died, Gate
from tests.crash.points import Kind

Name = Callable[[str, str, Mapping[str, str], bytes], str | None]
"""(method, path, headers, body) -> what is written; None for a request that only asks."""
Learn = Callable[[bytes], None]

_OWN_HEADERS = {"host", "connection", "content-length", "transfer-encoding", "accept-encoding", "keep-alive"}
MOST_BYTES = 64 * 1024 * 1024


class Proxy:
    """An async context manager; `url` is what the process gets for its server's."""

    def __init__(self, process: str, server: str, gate: Gate, name: Name, learn: Learn, ca: bytes | None) -> None:
        self._process, self._server, self._gate = process, server, gate
        self._name, self._learn, self._ca = name, learn, ca
        self._streams: set[aiohttp.ClientResponse] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        trust = True if self._ca is None else ssl.create_default_context(cadata=self._ca.decode())
        # A pooled connection that the AWS server has closed would look like a fault of the network.
        connector = aiohttp.TCPConnector(limit=0, ssl=trust, force_close=self._ca is None)
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            skip_auto_headers=("Accept-Encoding", "User-Agent", "Content-Type"),
            auto_decompress=False,
        )
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.hang_up()
        await self._runner.cleanup()
        await self._session.close()
        await asyncio.sleep(0.05)  # TLS connections let go of their sockets some turns later

    def hang_up(self) -> None:
        """End every stream: its reader is dead."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
        except ConnectionResetError:  # the process died in the middle of its request: nothing was asked
            return web.Response(status=499)
        if request.query.get("watch") in ("true", "1"):
            return await self._stream(request)
        what = self._name(request.method, request.path, request.headers, body)
        try:
            if what is None:
                return (await self._call(request, body))[0]
            return await self._write(request, body, Kind(self._process, what))
        except aiohttp.ClientConnectionError:  # the server hung up, and so do we
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _write(self, request: web.Request, body: bytes, kind: Kind) -> web.StreamResponse:
        response = web.Response()

        async def call() -> None:
            nonlocal response
            response, answer = await self._call(request, body)
            self._learn(answer)

        async def send() -> None:
            with contextlib.suppress(ConnectionError):
                await response.prepare(request)
                await response.write_eof()

        try:
            await self._gate.write(kind, call, send)
        except Died:
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _call(self, request: web.Request, body: bytes) -> tuple[web.Response, bytes]:
        """Ask the server; the whole answer, ready to be sent."""
        async with self._session.request(
            request.method, self._target(request), headers=_passed(request.headers), data=body or None
        ) as reply:
            answer = await reply.read()
            return web.Response(body=answer, status=reply.status, headers=_passed(reply.headers)), answer

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """A watch: every piece as it comes."""
        async with self._session.get(self._target(request), headers=_passed(request.headers)) as reply:
            response = web.StreamResponse(status=reply.status, headers=_passed(reply.headers))
            self._streams.add(reply)
            try:
                await response.prepare(request)
                async for piece in reply.content.iter_any():
                    await response.write(piece)
            except (ConnectionError, aiohttp.ClientError):
                pass  # either side hung up, which ends a watch
            finally:
                self._streams.discard(reply)
        return response

    def _target(self, request: web.Request) -> URL:
        return URL(self._server + request.raw_path, encoded=True)


def _passed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in _OWN_HEADERS}

"""What happens to every request before and after its route: a bound on its body, and one line in the log."""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spotjob.api import problems
from spotjob.core.contract import MAX_BODY_BYTES

access_log = logging.getLogger("spotjob.api.access")

TOO_LARGE = f"the body is larger than {MAX_BODY_BYTES} bytes"


class BodyLimit:
    """413 for a body over contract.MAX_BODY_BYTES: by its Content-Length before a byte is read, else while it comes."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif _content_length(scope) > MAX_BODY_BYTES:
            answer = problems.response(Request(scope), 413, TOO_LARGE, {"Connection": "close"})
            await answer(scope, receive, send)
        else:
            await self._app(scope, _counting(receive), send)


def _content_length(scope: Scope) -> int:
    """0 when it is absent or no number: then the counting decides."""
    text = Headers(scope=scope).get("content-length", "")
    return int(text) if text.isascii() and text.isdigit() else 0


def _counting(receive: Receive) -> Receive:
    """The same stream, which breaks off with a 413 when it grows too long; the route's reader lets that through."""
    total = 0

    async def counted() -> Message:
        nonlocal total
        message = await receive()
        total += len(message.get("body", b""))
        if total > MAX_BODY_BYTES:
            raise problems.Refusal(413, TOO_LARGE, headers={"Connection": "close"})
        return message

    return counted


class AccessLog:
    """Method, path template, status, milliseconds. Never a path with names in it, a query, a header or a body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "-")
            milliseconds = (time.monotonic() - started) * 1000
            access_log.info("%s %s %d %.1f ms", scope["method"], route, status, milliseconds)

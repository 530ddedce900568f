"""HTTP to the Kubernetes API server: pooled connections, time limits, bounded retries, errors by name.

    Conflict      409, and a JSON patch whose test failed       read again, decide again
    NotFound      404                                           the object is gone
    KubeError     any other 4xx, with the server's own text     asking again does not help
    Unanswered    no answer in time, no connection, 5xx         a write may have happened

A GET is repeated a few times before it is Unanswered; a write never is. 429 says that nothing was done, so it is
waited out for every method.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import quote

import aiohttp
from yarl import URL

from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.kube.config import KubeConfig

TRIES = 4
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 10.0
REQUEST_SECONDS = 10.0
CONNECTIONS = 64

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"


class Throttled(Exception):
    """429: nothing was done; come again in `seconds`."""

    def __init__(self, seconds: float, refusal: KubeError) -> None:
        super().__init__(str(refusal))
        self.seconds, self.refusal = seconds, refusal


def path(*segments: str) -> str:
    """An API path; each segment is quoted, so that no name can leave its place in it."""
    return "/" + "/".join(quote(segment, safe="") for segment in segments)


TURNS_TO_CLOSE = 3
"""A closed TLS connection lets go of its socket some turns of the event loop later; the loop may end before."""


class Transport:
    """An async context manager around one pool of connections."""

    def __init__(self, config: KubeConfig) -> None:
        self._config = config
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        context = self._config.ssl_context()
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, ssl=True if context is None else context)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"Accept": "application/json", "User-Agent": "spotjob"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS),
        )
        # aiohttp would send a PUT or DELETE again by itself when a pooled connection breaks; the answer to the second
        # one (409, 404) would then be taken for "nothing was written". There is no public switch in 3.14.
        self._session._retry_connection = False
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            for _ in range(TURNS_TO_CLOSE):
                await asyncio.sleep(0)

    async def request(
        self,
        method: Method,
        path: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        repeatable: bool | None = None,
    ) -> dict[str, Any]:
        """One call; the answer's JSON object. Raises as the module says.

        `repeatable`: the call has no effect, so it may be sent again when no answer came. None: GET is.
        """
        tries_left = TRIES
        while True:
            tries_left -= 1
            try:
                return await self._once(method, path, body, params or {}, content_type)
            except Throttled as throttled:
                if not tries_left:
                    raise throttled.refusal from throttled
                await asyncio.sleep(throttled.seconds)
            except Unanswered:
                may_repeat = method == "GET" if repeatable is None else repeatable
                if not may_repeat or not tries_left:
                    raise
                await asyncio.sleep(pause(TRIES - tries_left))

    async def _once(
        self, method: Method, path: str, body: Any, params: Mapping[str, str], content_type: str
    ) -> dict[str, Any]:
        headers = self._headers()
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            async with self._open.request(
                method,
                self._url(path, params),
                data=None if body is None else json.dumps(body).encode(),
                headers=headers,
            ) as response:
                text = await response.read()
                return _answer(response.status, response.headers, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unanswered(f"{method} {path}: {type(error).__name__} {error}") from error

    async def lines(self, path: str, params: Mapping[str, str], silence_seconds: float) -> AsyncGenerator[bytes, None]:
        """The lines of a streamed answer, of any length. Ends when the server ends it.

        Raises Unanswered when nothing at all came for `silence_seconds`.
        """
        limits = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_SECONDS, sock_read=silence_seconds)
        try:
            async with self._open.get(self._url(path, params), headers=self._headers(), timeout=limits) as response:
                if response.status != 200:
                    _answer(response.status, response.headers, await response.read())
                async for line in _split(response.content.iter_any()):
                    yield line
        except Throttled as throttled:
            raise Unanswered(str(throttled)) from throttled
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unanswered(f"GET {path}: {type(error).__name__} {error}") from error

    @property
    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("the Kubernetes client is used outside `async with`")
        return self._session

    def _url(self, path: str, params: Mapping[str, str]) -> URL:
        return URL(self._config.server + path, encoded=True).with_query(dict(params))

    def _headers(self) -> dict[str, str]:
        token = self._config.bearer()
        return {} if token is None else {"Authorization": f"Bearer {token}"}


def pause(tries: int) -> float:
    """Seconds before the next try: doubled each time, half of it by chance, so that clients do not march in step."""
    full = min(FIRST_PAUSE_SECONDS * 2.0 ** max(tries - 1, 0), LONGEST_PAUSE_SECONDS)
    return full * random.uniform(0.5, 1.0)  # noqa: S311 -- spreads load, guards nothing


async def _split(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines out of chunks; aiohttp's own readline gives up at 64 KiB, and a SpotJob may be larger."""
    rest: list[bytes] = []
    async for chunk in chunks:
        *ended, open_line = chunk.split(b"\n")
        for line in ended:
            yield b"".join((*rest, line))
            rest.clear()
        rest.append(open_line)


def _answer(status: int, headers: Mapping[str, str], text: bytes) -> dict[str, Any]:
    """The JSON object of a success; else the error that the module docstring names."""
    body = _json_object(text)
    if 200 <= status < 300:
        if body is None:
            raise Unanswered(f"the API server answered {status} without a JSON object")
        return body
    body = body or {}
    message = str(body.get("message") or text[:500].decode(errors="replace"))
    if status >= 500:
        raise Unanswered(f"{status}: {message}")
    if status == 429:
        raise Throttled(_retry_after(headers), KubeError(status, message, body))
    raise _refusal(status, message, body)


def _refusal(status: int, message: str, body: Mapping[str, Any]) -> KubeError:
    if status == 404:
        return NotFound(status, message, body)
    if status == 409:
        return Conflict(status, message, body)
    return KubeError(status, message, body)


def _json_object(text: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(text)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; the API server gives whole seconds. Never longer than LONGEST_PAUSE_SECONDS, never at once."""
    try:
        seconds = float(headers.get("Retry-After", "1"))
    except ValueError:
        seconds = 1.0
    return min(max(seconds, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)

"""The transport against a small HTTP server with levers: what it retries, and what it calls each failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web

from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.kube import transport
from spotjob.kube.config import KubeConfig
from spotjob.kube.transport import TRIES, Transport, path

WRITES: tuple[transport.Method, ...] = ("POST", "PATCH", "PUT", "DELETE")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Gives the answers in `answers` one after the other, then `{"ok": true}`."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.requests: list[tuple[str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path))
        return await self.answers.pop(0)(request) if self.answers else web.json_response({"ok": True})


def says(status: int, message: str = "", retry_after: str | None = None) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        return web.json_response({"kind": "Status", "message": message}, status=status, headers=headers)

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def never_answers(_: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def answers_no_json(_: web.Request) -> web.StreamResponse:
    return web.Response(text="<html>")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Transport]:
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(transport, "LONGEST_PAUSE_SECONDS", 0.01)
    async with Transport(KubeConfig(server.url, token="t")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("status", "kind"), [(404, NotFound), (409, Conflict), (400, KubeError), (403, KubeError), (422, KubeError)]
)
async def test_a_refusal_keeps_its_status_and_the_servers_own_text(
    server: Server, client: Transport, status: int, kind: type[KubeError]
) -> None:
    server.answers = [says(status, "spec.image: Required value")]
    with pytest.raises(kind) as caught:
        await client.request("GET", "/x")
    assert (caught.value.status, caught.value.message) == (status, "spec.image: Required value")
    assert caught.value.body["kind"] == "Status"
    assert len(server.requests) == 1


@pytest.mark.parametrize("failure", [says(500), says(503), hangs_up, answers_no_json])
async def test_a_get_is_repeated_until_it_is_answered(server: Server, client: Transport, failure: Answer) -> None:
    server.answers = [failure, failure]
    assert await client.request("GET", "/x") == {"ok": True}
    assert len(server.requests) == 3


async def test_a_get_is_not_repeated_without_end(server: Server, client: Transport) -> None:
    server.answers = [says(500, "etcd is gone")] * 10
    with pytest.raises(Unanswered, match="etcd is gone"):
        await client.request("GET", "/x")
    assert len(server.requests) == TRIES


@pytest.mark.parametrize("failure", [says(500), says(504), hangs_up])
@pytest.mark.parametrize("method", WRITES)
async def test_a_write_without_an_answer_is_sent_once(
    server: Server, client: Transport, failure: Answer, method: transport.Method
) -> None:
    server.answers = [failure]
    with pytest.raises(Unanswered):
        await client.request(method, "/x", body={})
    assert len(server.requests) == 1


@pytest.mark.parametrize("method", WRITES)
async def test_a_write_that_is_never_answered_is_sent_once(
    server: Server, monkeypatch: pytest.MonkeyPatch, method: transport.Method
) -> None:
    monkeypatch.setattr(transport, "REQUEST_SECONDS", 2.0)  # enough to be sent, also on a busy machine
    server.answers = [never_answers] * 2
    async with Transport(KubeConfig(server.url)) as client:
        with pytest.raises(Unanswered):
            await client.request(method, "/x", body={})
    assert len(server.requests) == 1


async def test_a_question_by_post_may_be_repeated(server: Server, client: Transport) -> None:
    server.answers = [says(500)]
    assert await client.request("POST", "/x", body={}, repeatable=True) == {"ok": True}


async def test_429_is_waited_out_for_a_write_too(server: Server, client: Transport) -> None:
    server.answers = [says(429, retry_after="1"), says(429), says(429, retry_after="soon")]
    assert await client.request("POST", "/x", body={}) == {"ok": True}


async def test_429_without_end_is_a_refusal(server: Server, client: Transport) -> None:
    server.answers = [says(429, "too many requests")] * 10
    with pytest.raises(KubeError, match="too many requests"):
        await client.request("GET", "/x")
    assert len(server.requests) == TRIES


async def test_no_connection_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    async with Transport(KubeConfig("http://127.0.0.1:1")) as client:
        with pytest.raises(Unanswered):
            await client.request("GET", "/x")


def test_no_name_can_leave_its_place_in_a_path() -> None:
    assert path("api", "v1", "../secrets?x=%2F") == "/api/v1/..%2Fsecrets%3Fx%3D%252F"


async def test_a_quoted_path_arrives_as_it_was_quoted(server: Server, client: Transport) -> None:
    await client.request("GET", path("a", "b/../c"), params={"labelSelector": "a=b,c!=d e&f"})
    url = urlsplit(server.requests[0][1])
    assert (url.path, parse_qs(url.query)) == ("/a/b%2F..%2Fc", {"labelSelector": ["a=b,c!=d e&f"]})


async def test_a_streamed_line_may_be_larger_than_any_buffer(server: Server, client: Transport) -> None:
    async def streams(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b"a" * 300_000, b"b" * 300_000 + b"\n", b"c\nd", b"\n", b"unfinished"):
            await response.write(piece)
        return response

    server.answers = [streams]
    lines = [line async for line in client.lines("/x", {}, 60)]
    assert [len(line) for line in lines] == [600_000, 1, 1]


async def test_a_stream_that_falls_silent_is_unanswered(server: Server, client: Transport) -> None:
    async def falls_silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one\n")
        await asyncio.Event().wait()
        return response

    server.answers = [falls_silent]
    lines = client.lines("/x", {}, 2)
    assert await anext(lines) == b"one"
    with pytest.raises(Unanswered):
        await anext(lines)

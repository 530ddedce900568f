"""What every route has in common: sizes, methods, media types, probes, the document."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from inspect import iscoroutinefunction, isfunction
from typing import Any

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from spotjob.api import instances, people
from spotjob.core.contract import MAX_BODY_BYTES
from tests.api.test_claiming import assert_problem
from tests.api.world import World, launched
from tests.builders import booting

CLAIM = "/v1/instances/i-1/claim"


@pytest.mark.parametrize("body", [b"{", b"\xff", b"", b"[" * 100_000, b"nul"])
async def test_what_is_no_json_is_a_problem_and_writes_nothing(world: World, body: bytes) -> None:
    world.add(booting("i-1"))
    headers = {**launched(), "Content-Type": "application/json"}
    answer = await world.client.post(CLAIM, content=body, headers=headers)
    assert_problem(answer, 422 if body == b"" else 400)
    assert world.kube.writes == 0


async def test_another_media_type_is_refused(world: World) -> None:
    answer = await world.client.post(CLAIM, content=b"{}", headers={**launched(), "Content-Type": "text/plain"})
    assert "body: must be a JSON object, sent with Content-Type: application/json" in answer.text
    assert_problem(answer, 422, "body")


async def test_a_body_of_2_mb_is_refused_by_its_length_before_it_is_read(world: World) -> None:
    read = []

    async def body() -> AsyncIterator[bytes]:
        read.append(1)
        yield b"x"

    headers = {**launched(), "Content-Type": "application/json", "Content-Length": str(2 * 1024 * 1024)}
    answer = await world.client.post(CLAIM, content=body(), headers=headers)
    assert_problem(answer, 413, "1048576 bytes")
    assert read == []


async def test_a_body_that_hides_its_length_is_refused_while_it_comes(world: World) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(64):
            sent += 65_536
            yield b"x" * 65_536

    answer = await world.client.post(CLAIM, content=body(), headers={**launched(), "Content-Type": "application/json"})
    assert_problem(answer, 413)
    assert sent <= MAX_BODY_BYTES + 2 * 65_536


async def test_a_large_body_is_refused_without_a_token_too(world: World) -> None:
    assert_problem(await world.client.post("/v1/callback", content=b"x" * (MAX_BODY_BYTES + 1)), 413)


async def test_an_unknown_path_is_a_problem(world: World) -> None:
    assert_problem(await world.client.get("/v2/jobs"), 404)


async def test_a_wrong_method_is_a_problem_that_names_the_right_ones(world: World) -> None:
    answer = await world.client.put("/v1/jobs")
    assert_problem(answer, 405)
    assert "GET" in answer.headers["allow"]


async def test_the_process_is_alive_at_once_and_ready_when_the_jobs_are_listed(world: World) -> None:
    assert (await world.client.get("/healthz")).status_code == 200
    assert_problem(await world.client.get("/readyz"), 503)
    world.index.replace_all([])
    assert (await world.client.get("/readyz")).status_code == 200


async def test_the_document_names_the_problems_and_the_fields_of_a_spec(world: World) -> None:
    document = (await world.client.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/v1/namespaces/{namespace}/jobs"]["post"]
    assert {"201", "401", "403", "409", "413", "422"} <= set(create["responses"])
    assert set(create["responses"]["409"]["content"]) == {"application/problem+json"}
    schemas = document["components"]["schemas"]
    assert "image" in schemas["SpotJobSpec-Input" if "SpotJobSpec-Input" in schemas else "SpotJobSpec"]["properties"]
    assert "detail" in schemas["Problem"]["properties"]


def called_by(dependant: Dependant) -> Iterator[Any]:
    """The endpoint and everything that it depends on."""
    yield dependant.call
    for each in dependant.dependencies:
        yield from called_by(each)


def test_no_request_waits_for_a_thread() -> None:
    """FastAPI calls a plain function in a thread of a pool, for which requests queue."""
    routes = [route for router in (people.router, instances.router) for route in router.routes]
    called = {call for route in routes if isinstance(route, APIRoute) for call in called_by(route.dependant)}
    assert len(called) > len(routes) == 10
    assert [call for call in called if not iscoroutinefunction(call if isfunction(call) else call.__call__)] == []

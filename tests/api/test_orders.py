"""Heartbeats that are held open: how an order arrives, and what a thousand that wait for one cost."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from datetime import timedelta
from typing import Any

import httpx
import pytest

from spotjob.api.orders import order_for
from spotjob.core.reasons import Outcome
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Change, Drilled, Ended, Impaired, Noticed, Stopping
from spotjob.core.tokens import Claims
from tests.api.test_claiming import assert_problem
from tests.api.world import World, of_attempt
from tests.builders import NOW, SECOND, after, an_instance, deleted, running

WAIT = 30.0
SOONER = WAIT - 5
"""Whoever is answered within so many seconds was not kept for the whole wait, on a machine that stands still, too."""


async def heartbeat(world: World, wait: float = WAIT, number: int = 1, **token: Any) -> httpx.Response:
    url = f"/v1/attempts/{token.get('uid', 'uid-of-night')}/{number}/heartbeat"
    headers = of_attempt("agent", attempt=number, **token)
    return await world.client.post(url, params={"wait": wait}, json={}, headers=headers)


async def held(world: World, **token: Any) -> asyncio.Task[httpx.Response]:
    """A heartbeat that waits for an order."""
    asking = asyncio.create_task(heartbeat(world, **token))
    deadline = time.monotonic() + 30
    while token.get("uid", "uid-of-night") not in world.index._waiting:
        assert not asking.done(), asking.result().text
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    return asking


async def order_of(asking: asyncio.Task[httpx.Response]) -> Any:
    return (await asyncio.wait_for(asking, SOONER)).json()


@pytest.mark.parametrize(
    ("change", "order"),
    [
        (Stopping(NOW + 60 * SECOND, "deleted"), {"order": "stop", "graceSeconds": 45}),
        (Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED), {"order": "stop", "graceSeconds": 45}),
        (Drilled(NOW + 120 * SECOND), {"order": "drill", "reclaimAt": "2026-11-22T02:02:00Z"}),
    ],
    ids=["stopping", "over", "drilled"],
)
async def test_an_order_ends_the_wait_at_once(world: World, change: Change, order: dict[str, Any]) -> None:
    job = world.add(running("i-1", terminationGracePeriodSeconds=45))
    asking = await held(world)
    world.add(after(job, change))
    assert order.items() <= (await order_of(asking)).items()


async def test_a_deletion_ends_the_wait_at_once(world: World) -> None:
    asking_of = world.add(running("i-1"))
    asking = await held(world)
    world.add(deleted(asking_of))
    assert (await order_of(asking))["order"] == "stop"


async def test_a_change_without_an_order_does_not_end_the_wait(world: World) -> None:
    job = world.add(running("i-1"))
    asking = await held(world)
    for _ in range(3):
        job = world.add(job)
        await asyncio.sleep(0.01)
    assert not asking.done()
    world.add(deleted(job))
    assert (await order_of(asking))["order"] == "stop"


async def test_without_an_order_the_wait_has_its_time(world: World) -> None:
    world.add(running("i-1"))
    begun = time.monotonic()
    assert (await heartbeat(world, wait=0.3)).json()["order"] == "continue"
    assert 0.3 <= time.monotonic() - begun < SOONER
    assert world.index._waiting == {}


@pytest.mark.parametrize("wait", [-1, 31, "long"])
async def test_a_wait_out_of_bounds_is_refused(world: World, wait: Any) -> None:
    world.add(running("i-1"))
    assert_problem(await heartbeat(world, wait=wait), 422, "query.wait")


async def test_an_order_is_not_repeated_once_the_drills_notice_was_reported(world: World) -> None:
    drilled = after(running("i-1"), Drilled(NOW + 120 * SECOND))
    world.add(drilled)
    assert (await heartbeat(world)).json()["order"] == "drill"
    world.add(after(drilled, Noticed(NOW + 120 * SECOND)))
    assert (await heartbeat(world, wait=0)).json()["order"] == "continue"


# ---- an index that is late, or of another replica ----


def in_its_second_attempt() -> SpotJob:
    failed = after(running("i-1", backoffLimit=3), Ended(Outcome.CONTAINER_FAILED, exit_code=1))
    return after(failed, Bound(an_instance("i-2")))


@pytest.mark.parametrize("known", [None, running("i-1", backoffLimit=3)], ids=["no job", "an older attempt"])
async def test_an_attempt_that_the_index_does_not_know_is_read_once_and_waits(
    world: World, known: SpotJob | None
) -> None:
    if known is not None:
        known = world.add(known)
    newest = world.kube.store(in_its_second_attempt())
    asking = await held(world, number=2, instance="i-2")
    await asyncio.sleep(0.05)
    assert not asking.done()
    world.index.put(newest)
    await asyncio.sleep(0.01)
    assert not asking.done()
    assert world.kube.reads == 1
    world.add(deleted(newest))
    assert (await order_of(asking))["order"] == "stop"


async def test_a_job_that_is_gone_is_asked_for_once_and_stops_its_agent_at_once(world: World) -> None:
    begun = time.monotonic()
    assert (await heartbeat(world)).json()["order"] == "stop"
    assert time.monotonic() - begun < SOONER
    assert world.kube.reads == 1


async def test_a_job_that_leaves_the_index_ends_the_wait_and_the_next_answer_is_stop(world: World) -> None:
    job = world.add(running("i-1"))
    asking = await held(world)
    world.kube.jobs.clear()
    world.index.drop(job.metadata.uid)
    assert (await order_of(asking))["order"] == "continue"
    assert (await heartbeat(world)).json()["order"] == "stop"


async def test_what_one_replica_decides_the_agent_hears_from_the_other(world: World) -> None:
    other = World()
    other.kube.jobs = world.kube.jobs
    job = world.add(running("i-1"))
    other.index.put(job)
    async with other.client:
        asking = await held(other)
        changed = world.add(after(job, Stopping(NOW + 60 * SECOND, "deleted")))
        assert not asking.done()
        other.index.put(changed)  # its watch
        assert (await order_of(asking))["order"] == "stop"


# ---- a host in doubt ----


async def test_many_heartbeats_of_a_host_in_doubt_are_noted_once_a_minute(world: World) -> None:
    world.add(after(running("i-1"), Impaired(NOW)))
    for minute in (1, 2):
        answers = await asyncio.gather(*(heartbeat(world, wait=0) for _ in range(20)))
        assert {answer.json()["order"] for answer in answers} == {"continue"}
        assert world.kube.writes == minute
        world.services.clock.time += timedelta(minutes=1)  # type: ignore[attr-defined]


# ---- many ----


async def test_a_heartbeat_that_is_held_open_costs_little_memory(world: World) -> None:
    names = [f"job-{n}" for n in range(100)]
    for name in names:
        world.add(running(f"i-{name}", name=name))
    tracemalloc.start()
    asking = [await held(world, uid=f"uid-of-{name}", name=name, instance=f"i-{name}") for name in names]
    size = tracemalloc.get_traced_memory()[0] / len(asking)
    tracemalloc.stop()
    print(f"a heartbeat that is held open: {size / 1024:.0f} KiB, the client's part included")
    assert size < 128 * 1024
    world.index.stop_waits()
    assert {(await task).status_code for task in asking} == {200}


async def test_of_a_thousand_that_wait_one_change_wakes_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = [
        Claims(kind="agent", uid=f"uid-of-job-{n}", namespace="batch", name=f"job-{n}", attempt=1, instance=f"i-{n}")
        for n in range(1000)
    ]
    jobs = [world.add(running(known.instance, name=known.name)) for known in claims]
    waits = [asyncio.create_task(order_for(world.services, known, 600)) for known in claims]
    await asyncio.sleep(0)  # each task runs until it waits
    assert len(world.index._waiting) == len(waits)
    looks: list[str] = []
    newest = world.index.newest
    monkeypatch.setattr(world.index, "newest", lambda job: looks.append(job.key) or newest(job))
    begun = time.monotonic()
    world.add(deleted(jobs[500]))
    assert (await asyncio.wait_for(waits[500], 60)).order == "stop"
    print(f"of 1,000 heartbeats one was woken in {(time.monotonic() - begun) * 1000:.1f} ms")
    assert looks == ["batch/job-500"]
    assert sum(task.done() for task in waits) == 1
    world.index.stop_waits()
    await asyncio.gather(*waits)

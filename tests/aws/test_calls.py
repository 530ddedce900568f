"""Threads around a blocking client: calls side by side, calls given up, and the end of the process."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spotjob.aws.calls import Threads

HANG_SECONDS = 60.0
"""How long a call hangs at most that nobody lets go."""
HANGING = """
import asyncio, threading
from spotjob.aws.calls import Threads

async def main():
    threads = Threads(object, 2, "hanging")
    begun = threading.Event()
    call = asyncio.create_task(threads.run(lambda _: (begun.set(), threading.Event().wait())))
    while not begun.is_set():
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})
    print("ends")

asyncio.run(main())
"""


class Client:
    """A client whose calls hang until they are let go."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go_on = threading.Event()
        self.closed = False

    def hang(self) -> str:
        self.begun.release()
        assert self.go_on.wait(HANG_SECONDS)
        return "answer"

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def threads(client: Client) -> Iterator[Threads]:
    threads = Threads(lambda: client, 2, "test")
    yield threads
    client.go_on.set()
    threads.close()


async def begun(client: Client) -> None:
    assert await asyncio.to_thread(client.begun.acquire, timeout=60)


async def test_as_many_calls_as_there_are_threads_run_side_by_side(client: Client, threads: Threads):
    calls = [asyncio.create_task(threads.run(Client.hang)) for _ in range(3)]
    await begun(client)
    await begun(client)
    assert not client.begun.acquire(blocking=False)
    client.go_on.set()
    assert await asyncio.gather(*calls) == ["answer"] * 3


async def test_a_call_that_was_given_up_does_not_keep_the_next_one_waiting(client: Client, threads: Threads):
    call = asyncio.create_task(threads.run(Client.hang))
    await begun(client)
    call.cancel()
    assert await asyncio.wait_for(threads.run(lambda _: "at once"), HANG_SECONDS / 2) == "at once"


async def test_one_thread_serves_calls_that_come_one_after_the_other(threads: Threads):
    names = {await threads.run(lambda _: threading.current_thread().name) for _ in range(20)}
    assert len(names) <= 2


async def test_what_a_call_raises_reaches_who_made_it_and_the_thread_lives_on(threads: Threads):
    def broken(_: Any) -> None:
        raise LookupError("no such thing")

    for _ in range(4):
        with pytest.raises(LookupError, match="no such thing"):
            await threads.run(broken)
    assert await threads.run(lambda _: "well") == "well"


async def test_closing_waits_for_the_calls_under_way(client: Client, threads: Threads):
    call = asyncio.create_task(threads.run(Client.hang))
    await begun(client)
    closing = asyncio.create_task(asyncio.to_thread(threads.close))
    await asyncio.sleep(0.05)
    assert not closing.done()
    client.go_on.set()
    await asyncio.wait_for(closing, HANG_SECONDS)
    assert (await call, client.closed) == ("answer", True)


async def test_the_client_is_made_once_and_by_the_first_call():
    made: list[Client] = []
    make: Callable[[], Client] = lambda: made.append(Client()) or made[-1]  # noqa: E731
    threads = Threads(make, 4, "test")
    assert made == []
    await asyncio.gather(*(threads.run(lambda _: None) for _ in range(8)))
    threads.close()
    assert len(made) == 1


async def test_threads_that_nobody_needs_any_more_end_by_themselves():
    threads = Threads(object, 4, "forgotten")
    await asyncio.gather(*(threads.run(lambda _: None) for _ in range(4)))
    started = [thread for thread in threading.enumerate() if thread.name.startswith("forgotten")]
    assert started
    del threads
    gc.collect()
    for thread in started:
        await asyncio.to_thread(thread.join, 60)
    assert not any(thread.is_alive() for thread in started)


def test_a_call_without_an_answer_does_not_hold_up_the_end_of_the_process():
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "ends\n"

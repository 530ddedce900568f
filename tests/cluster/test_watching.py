"""What kopf brings from the real API server reaches the runtime, each kind, in the runtime's own thread."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import kopf
import pytest

from spotjob.controller.handlers import registry
from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from tests.cluster.objects import CLASSES, JOBS, a_class, a_job
from tests.cluster.test_jobsequences import SEQUENCES, a_sequence

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crds")]

OBJECTS = {
    "job": (JOBS, a_job("watched")),
    "class": (CLASSES, a_class()),
    "sequence": (SEQUENCES, a_sequence("watched", suspend=True)),
}


class Runtime:
    """Notes what it is told, and by which thread."""

    def __init__(self) -> None:
        self.told: set[str] = set()
        self.threads: set[threading.Thread] = set()

    def __getattr__(self, news: str) -> Callable[[object], None]:
        def note(_: object) -> None:
            self.told.add(news)
            self.threads.add(threading.current_thread())

        return note

    def is_told(self, *news: str) -> None:
        probes.wait_until(lambda: self.told.issuperset(news), 60, f"{news}; told so far: {self.told}")


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


@pytest.fixture
def loop_thread(
    runtime: Runtime, control_plane: ControlPlane, monkeypatch: pytest.MonkeyPatch
) -> Iterator[threading.Thread]:
    """The thread of the event loop in which kopf runs with the operator's handlers."""
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    stop, ready = threading.Event(), threading.Event()
    operator = kopf.operator(
        registry=registry(runtime),  # type: ignore[arg-type]
        ready_flag=ready,
        stop_flag=stop,
        clusterwide=True,
        standalone=True,
    )
    thread = threading.Thread(target=asyncio.run, args=(to_the_last_connection(operator),))
    thread.start()
    try:
        assert ready.wait(60)
        yield thread
    finally:
        stop.set()
        thread.join()
        with warnings.catch_warnings():
            # One that it was just making when it was cancelled is nobody's: it would be found in another test.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


async def to_the_last_connection(operator: Coroutine[Any, Any, None]) -> None:
    """kopf does not wait until the API server has let go of its watches: other tests would find open sockets."""
    await operator
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        while len(selector.get_map()) > 1:  # noqa: ASYNC110 -- nobody tells; one is the loop's own
            await asyncio.sleep(0.02)


def test_every_kind_is_heard_of_in_the_thread_of_the_event_loop(
    runtime: Runtime, loop_thread: threading.Thread, api: httpx.Client
) -> None:
    for path, document in OBJECTS.values():
        assert api.post(path, json=document).status_code == 201
    runtime.is_told(*(f"{kind}_changed" for kind in OBJECTS))
    for path, document in OBJECTS.values():
        assert api.delete(f"{path}/{document['metadata']['name']}").status_code == 200
    runtime.is_told(*(f"{kind}_deleted" for kind in OBJECTS))
    assert runtime.threads == {loop_thread}

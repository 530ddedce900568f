"""EventBridge and its rule: what happens to simulated instances is put into an SQS queue of moto's.

In a thread of its own: moto takes seconds to load, and instances must not wait for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

QUEUE = "spotjob-interruptions"

Told = Mapping[str, Any]
"""One event, as EventBridge delivers it."""

log = logging.getLogger(__name__)


class EventBus:
    """Delivers between `start` and `stop`."""

    def __init__(self, send: Callable[[str, Sequence[str]], None]) -> None:
        """`send` puts bodies into the queue of a name."""
        self._send = send
        self._events: SimpleQueue[Sequence[Told] | None] = SimpleQueue()
        self._stopping = Event()
        self._thread = Thread(target=self._run, name="event-bus", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is not delivered yet is lost: the account ends."""
        self._stopping.set()
        self._events.put(None)
        self._thread.join()

    def put(self, events: Sequence[Told]) -> None:
        """Returns at once."""
        if events:
            self._events.put(events)

    def _run(self) -> None:
        while (events := self._events.get()) is not None and not self._stopping.is_set():
            try:
                self._send(QUEUE, [json.dumps(event) for event in events])
            except Exception:  # the events are lost, as EventBridge's may be; later ones must not be
                log.exception("%d events are not delivered", len(events))

"""EventBridge and its rule: what happens to simulated instances is put into an SQS queue of moto's.

In a thread of its own: moto takes seconds to load, and instances must not wait for it.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue
from threading import Thread
from typing import Any

QUEUE = "spotjob-interruptions"

Event = Mapping[str, Any]

log = logging.getLogger(__name__)


class EventBus:
    """Delivers between `start` and `stop`."""

    def __init__(self, send: Callable[[str, Sequence[str]], None]) -> None:
        """`send` puts bodies into the queue of a name."""
        self._send = send
        self._events: SimpleQueue[Sequence[Event] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name="event-bus", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What was put before is delivered."""
        self._events.put(None)
        self._thread.join()

    def put(self, events: Sequence[Event]) -> None:
        """Returns at once."""
        if events:
            self._events.put(events)

    def _run(self) -> None:
        while (events := self._events.get()) is not None:
            try:
                self._send(QUEUE, [json.dumps(event) for event in events])
            except Exception:  # the events are lost, as EventBridge's may be; later ones must not be
                log.exception("%d events are not delivered", len(events))

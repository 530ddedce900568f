"""The clock of a simulation: time that moves when it is told to, and what falls due on the way."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass
class Timeline:
    """What has been put off happens in order, each at its own time."""

    now: datetime

    def __post_init__(self) -> None:
        self._serials = itertools.count(1)
        self._timers: list[tuple[datetime, int, Callable[[], object]]] = []

    def advance(self, now: datetime) -> None:
        """Let time pass until `now`. Time never goes back: an earlier `now` changes nothing."""
        while self._timers and self._timers[0][0] <= now:
            at, _, act = heapq.heappop(self._timers)
            self.now = max(self.now, at)
            act()
        self.now = max(self.now, now)

    def after(self, seconds: float, act: Callable[[], object]) -> None:
        heapq.heappush(self._timers, (self.now + timedelta(seconds=seconds), next(self._serials), act))

    @property
    def next_event_at(self) -> datetime | None:
        """When something will happen by itself; None: nothing will."""
        return self._timers[0][0] if self._timers else None

    def serial(self) -> int:
        return next(self._serials)

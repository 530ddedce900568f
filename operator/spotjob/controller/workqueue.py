"""A queue of keys with client-go's semantics: no duplicates, one worker per key, and a key that is added while it is
being worked on comes again. Every source of news only adds keys."""

from __future__ import annotations

import asyncio


class WorkQueue:
    """Keys of jobs that somebody should look at."""

    def __init__(self) -> None:
        self._dirty: set[str] = set()
        self._busy: set[str] = set()
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: str) -> None:
        """Look at this key soon."""
        if key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._busy:
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Look at this key in so many seconds; of several such wishes the earliest holds."""
        loop = asyncio.get_running_loop()
        when = loop.time() + max(seconds, 0.0)
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> str:
        """The next key. Call `done` when its work is finished, whatever came of it."""
        key = await self._ready.get()
        self._dirty.discard(key)
        self._busy.add(key)
        return key

    def done(self, key: str) -> None:
        self._busy.discard(key)
        if key in self._dirty:
            self._ready.put_nowait(key)

"""A clock that tests own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class ManualClock:
    """Stands still but for `advance` and for sleepers, whom it lets sleep in no time."""

    def __init__(self, start: datetime = datetime(2026, 11, 22, 10, tzinfo=UTC)) -> None:
        self._start = start
        self._seconds = 0.0
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self._start + timedelta(seconds=self._seconds)

    def monotonic(self) -> float:
        return self._seconds

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)

    def token(self) -> str:
        return "0" * 32

    def advance(self, seconds: float) -> None:
        self._seconds += seconds

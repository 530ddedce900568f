"""The real clock, and real chance: the one implementation of ports.Clock outside the tests."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime


class RealClock:
    """Implements ports.Clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251 -- this is the one place

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def token(self) -> str:
        return secrets.token_hex(16)

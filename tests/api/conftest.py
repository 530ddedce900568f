from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.api.world import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.client:
        yield made

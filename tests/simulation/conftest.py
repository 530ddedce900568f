"""Every test here runs on a virtual clock: an hour of waiting takes no time."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "simulation" in str(item.path):
            item.add_marker(pytest.mark.looptime)

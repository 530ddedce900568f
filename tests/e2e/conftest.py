"""The whole platform, shared by the end-to-end tests; each one leaves it empty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spotjob.local.laptop import Platform
from tests.e2e.platform import Person


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e" in str(item.path):
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def person(laptop: Platform) -> Iterator[Person]:
    person = Person(laptop)
    yield person
    person.capacity(None)
    person.aws("DELETE", "faults")
    person.kubectl("delete", "spotjobs", "--all", "--wait=false", seconds=120)
    person.until(lambda: not person.jobs(), 120, "the last object is gone")
    person.until(lambda: not person.alive(), 60, "no instance is alive after the test")

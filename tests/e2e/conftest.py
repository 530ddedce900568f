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
    person.leave_no_job()
    person.leave_no_instance(60)

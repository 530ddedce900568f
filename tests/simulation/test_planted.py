"""Every planted bug is found: what the histories do not find, they do not guard against."""

from __future__ import annotations

import pytest

from tests.simulation.planted import PLANTED
from tests.simulation.simulate import histories

SEEDS = range(1, 201)


@pytest.mark.parametrize("bug", sorted(PLANTED))
def test_a_planted_bug_is_found_within_200_seeds(bug: str):
    found = next((history for history in histories(SEEDS, bug=bug) if history.violations), None)
    assert found is not None
    assert not any("harness" in violation for violation in found.violations)

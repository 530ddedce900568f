"""A few histories of `make simulate`, so that whatever breaks their invariants breaks the tests as well."""

from __future__ import annotations

from tests.simulation.simulate import histories, told

SEEDS = range(1, 25)


def test_whatever_happens_nothing_leaks_nothing_runs_twice_and_every_job_ends():
    played = list(histories(SEEDS))
    assert [told(history) for history in played if history.violations] == []
    assert sum(history.jobs for history in played) > 2 * len(SEEDS)
    assert sum(history.faults.total() for history in played) > 5 * len(SEEDS)


def test_the_same_seed_gives_the_same_history():
    seeds = range(1, 9)
    first, again = list(histories(seeds, processes=1)), list(histories(seeds, processes=2))
    assert first == again
    assert len({history.digest for history in first}) == len(seeds)

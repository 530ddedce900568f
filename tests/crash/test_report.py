"""The table shows what was found, and the exit code depends on all of it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.crash import report
from tests.crash.oracle import Fault, Finding
from tests.crash.points import Kind, Moment, Point, Write
from tests.crash.results import Result
from tests.crash.scenarios import SCENARIOS

BIND = Kind("operator", "bind")
LEAK = Finding(Fault.LEAK, "instance i-1 is alive")


def a_result(
    moment: Moment = Moment.BEFORE, fired: bool = True, ordinal: int = 1, findings: Sequence[Finding] = ()
) -> Result:
    point = Point("a", Write(BIND, ordinal), moment)
    return Result(SCENARIOS[0], point, fired, [BIND], list(findings), 5.0)


def all_moments() -> list[Result]:
    return [a_result(moment) for moment in Moment]


def row(results: Sequence[Result], name: str) -> list[int]:
    """Points, missed, leaks, double runs, lost results, wrong."""
    line = next(line for line in report.table(results, []).splitlines() if line.startswith(name))
    return [int(word) for word in line.removeprefix(name).split()]


def test_three_kills_without_a_finding_pass():
    assert not report.failed(all_moments(), [])
    assert row(all_moments(), "operator bind") == [3, 0, 0, 0, 0, 0]


def test_a_finding_fails_and_stands_in_its_column():
    results = [*all_moments(), a_result(findings=[LEAK])]
    assert report.failed(results, [])
    assert row(results, "operator bind") == [4, 0, 1, 0, 0, 0]
    assert row(results, "all") == [4, 0, 1, 0, 0, 0]


def test_an_instance_that_is_left_at_the_very_end_fails():
    assert report.failed(all_moments(), ["instance i-1"])
    assert "LEAK at the very end: instance i-1" in report.table(all_moments(), ["instance i-1"])


def test_a_moment_that_no_life_reached_fails_and_is_named():
    results = [a_result(Moment.BEFORE), a_result(Moment.CALLED), a_result(Moment.REPLIED, fired=False)]
    assert report.failed(results, [])
    assert "NEVER REACHED: operator bind, replied" in report.table(results, [])


def test_a_second_write_that_came_once_only_is_missed_without_failing():
    results = [*all_moments(), a_result(ordinal=2, fired=False)]
    assert not report.failed(results, [])
    assert row(results, "operator bind") == [4, 1, 0, 0, 0, 0]


def test_a_finding_in_an_undisturbed_life_fails_too():
    undisturbed = Result(SCENARIOS[0], None, False, [BIND], [LEAK], 5.0)
    assert report.failed([*all_moments(), undisturbed], [])


def test_nothing_tried_is_no_success():
    assert report.failed([], [])

"""What `make crashtest` prints. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.crash.oracle import Fault
from tests.crash.points import Kind, Moment, Point
from tests.crash.results import Result

COLUMNS = (Fault.LEAK, Fault.DOUBLE_RUN, Fault.LOST_RESULT, Fault.WRONG)
HEADS = ("points", "missed", "leaks", "double runs", "lost results", "wrong")


def line(result: Result, done: int, total: int, elapsed_seconds: float) -> str:
    """One point."""
    verdict = "ok" if result.fired else "not reached"
    if result.findings:
        verdict = "; ".join(f"{each.fault.upper()}: {each.evidence}" for each in result.findings)
    return f"{done:4d}/{total} {elapsed_seconds:5.0f} s  {result.point}: {verdict} ({result.seconds:.1f} s)"


def recording(result: Result, found: Sequence[Point]) -> str:
    """One undisturbed life."""
    head = f"{result.scenario.key}: {result.scenario.title}: {len(found)} points ({result.seconds:.1f} s)"
    writes = Counter(point.write.kind for point in found if point.moment is Moment.CALLED)
    listed = "\n".join(f"     {kind} x{count}" for kind, count in writes.items())
    wrong = "\n".join(f"   {each.fault.upper()} without any crash: {each.evidence}" for each in result.findings)
    return "\n".join(filter(None, (head, listed, wrong)))


def table(results: Sequence[Result], leaked: Sequence[str]) -> str:
    """A line for each kind of write, and what it comes to."""
    tried = [result for result in results if result.point is not None]
    width = max((len(str(_kind(result))) for result in tried), default=4)
    lines = [f"\n{'killed at':{width}s}" + "".join(f"{head:>14s}" for head in HEADS)]
    for kind in sorted({_kind(result) for result in tried}):
        lines.append(_row(str(kind), width, [result for result in tried if _kind(result) == kind]))
    lines.append(_row("all", width, tried))
    lines.append(f"\n{len(tried)} points, {sum(result.fired for result in tried)} kills; {len(leaked)} left alive")
    lines += [f"LEAK at the very end: {each}" for each in leaked]
    lines += [f"NEVER REACHED: {kind}, {moment}" for kind, moment in _never_reached(tried)]
    lines += _not_crashed(results)
    return "\n".join(lines)


def failed(results: Sequence[Result], leaked: Sequence[str]) -> bool:
    """Something was found, or some kind of write was not tried at each of its three moments."""
    tried = [result for result in results if result.point is not None]
    return bool(leaked or not tried or any(result.findings for result in results) or _never_reached(tried))


def _row(name: str, width: int, results: Sequence[Result]) -> str:
    found = Counter(finding.fault for result in results for finding in result.findings)
    missed = sum(not result.fired for result in results)
    return f"{name:{width}s}" + "".join(f"{n:14d}" for n in (len(results), missed, *(found[each] for each in COLUMNS)))


def _never_reached(tried: Iterable[Result]) -> list[tuple[Kind, Moment]]:
    reached: dict[tuple[Kind, Moment], bool] = {}
    for result in tried:
        if result.point is not None:
            key = (_kind(result), result.point.moment)
            reached[key] = reached.get(key, False) or result.fired
    return sorted(key for key, fired in reached.items() if not fired)


def _not_crashed(results: Sequence[Result]) -> list[str]:
    """Writes that no undisturbed life has: a second crash in one life is not tried."""
    usual = {kind for result in results if result.point is None for kind in result.seen}
    rest = {kind for result in results if result.point is not None for kind in result.seen} - usual
    return [f"seen only after a crash, so no point: {kind}" for kind in sorted(rest)]


def _kind(result: Result) -> Kind:
    if result.point is None:
        raise ValueError("a life without a point has no kind")
    return result.point.write.kind

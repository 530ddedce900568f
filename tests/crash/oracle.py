"""Judges one job's life by what was seen of it from outside the product. Pure.

leak          a container or an instance of the job is alive after the job is over
double run    two containers of one job at the same time, one attempt run twice, or a run that no attempt explains
lost result   a container exited 0 by itself, and that is not the verdict, or another one began after it
wrong         any other end than the scenario's: no verdict in time, a verdict that changed, another reason,
              a finalizer left, a table that shows something else
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from spotjob.core.mirror import content
from spotjob.core.reasons import Phase, Reason
from spotjob.core.resources import SpotJob
from tests.crash.witness import Run


class Fault(StrEnum):
    """What must not happen."""

    LEAK = "leak"
    DOUBLE_RUN = "double run"
    LOST_RESULT = "lost result"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One violation."""

    fault: Fault
    evidence: str


@dataclass(frozen=True, slots=True)
class Expected:
    """How a scenario ends, whoever is killed meanwhile."""

    phase: Phase = Phase.TERMINATED_OK
    reason: Reason = Reason.CONTAINER_SUCCEEDED
    runs: tuple[int, ...] = (1,)
    """The attempts whose container ran, in order."""
    gone: bool = False
    """The object is deleted in the end."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one job."""

    history: Sequence[SpotJob]
    """Every version that the API server showed, in order."""
    ended: bool
    """It was over before the harness lost its patience."""
    gone: bool
    """The object is deleted."""
    runs: Sequence[Run]
    alive: frozenset[str] = frozenset()
    """Instances that live after the job's end and that one of its attempts names."""
    item: Mapping[str, Any] = field(default_factory=dict)
    """The item of the table, after the job's end."""
    collapsed: tuple[str, ...] = ()
    """Processes that ended though nobody killed them, and their last words."""


def judge(seen: Evidence, expected: Expected) -> list[Finding]:
    """Every violation."""
    return [*_leaks(seen), *_double_runs(seen), *_lost_results(seen), *_wrong(seen, expected)]


def _leaks(seen: Evidence) -> Iterator[Finding]:
    for instance in sorted(seen.alive):
        yield Finding(Fault.LEAK, f"instance {instance} is alive after the job's end")
    for run in seen.runs:
        if run.ended is None:
            yield Finding(Fault.LEAK, f"the container of attempt {run.attempt} is alive after the job's end")


def _double_runs(seen: Evidence) -> Iterator[Finding]:
    runs = sorted(seen.runs, key=lambda run: run.begun)
    for number, count in Counter(run.attempt for run in runs).items():
        if count > 1:
            yield Finding(Fault.DOUBLE_RUN, f"attempt {number} ran {count} times")
    for n, earlier in enumerate(runs):
        for later in runs[n + 1 :]:
            if earlier.ended is None or later.begun < earlier.ended:
                yield Finding(Fault.DOUBLE_RUN, f"attempts {earlier.attempt} and {later.attempt} ran at the same time")
    known = {attempt.number for job in seen.history for attempt in job.status.attempts}
    for run in runs:
        if run.attempt not in known:
            yield Finding(Fault.DOUBLE_RUN, f"a container ran as attempt {run.attempt}, which the job never had")


def _lost_results(seen: Evidence) -> Iterator[Finding]:
    for run in (run for run in seen.runs if run.exit_code == 0):
        if not _succeeded(seen):
            yield Finding(Fault.LOST_RESULT, f"attempt {run.attempt} exited 0, and the job ended {_end(seen)}")
        for later in seen.runs:
            if later.begun > run.begun:
                yield Finding(Fault.LOST_RESULT, f"attempt {later.attempt} ran after attempt {run.attempt} exited 0")


def _wrong(seen: Evidence, expected: Expected) -> Iterator[Finding]:
    for process in seen.collapsed:
        yield Finding(Fault.WRONG, process)
    if not seen.ended:
        yield Finding(Fault.WRONG, f"the job is not over: {_end(seen)}")
        return
    job = seen.history[-1]
    if (job.status.phase, job.status.reason) != (expected.phase, expected.reason):
        yield Finding(Fault.WRONG, f"the job ended {_end(seen)}, not {expected.phase} {expected.reason}")
    verdicts = {each.status.reason for each in seen.history if each.finished}
    if len(verdicts) > 1:
        yield Finding(Fault.WRONG, f"the verdict changed: {sorted(map(str, verdicts))}")
    runs = tuple(run.attempt for run in sorted(seen.runs, key=lambda run: run.begun))
    if runs != expected.runs:
        yield Finding(Fault.WRONG, f"the attempts {runs} ran, not {expected.runs}")
    if seen.gone != expected.gone:
        yield Finding(Fault.WRONG, f"the object is {'gone' if seen.gone else 'still there'}")
    if job.guarded and not seen.gone:
        yield Finding(Fault.WRONG, "the finalizer is left")
    yield from _table(seen, job)


def _table(seen: Evidence, job: SpotJob) -> Iterator[Finding]:
    differs = {
        name: (seen.item.get(name), value) for name, value in content(job).items() if seen.item.get(name) != value
    }
    if differs:
        yield Finding(Fault.WRONG, f"the table does not show the job's end: {differs}")


def _succeeded(seen: Evidence) -> bool:
    phase = seen.history[-1].status.phase if seen.history else None
    return phase is not None and phase.succeeded


def _end(seen: Evidence) -> str:
    if not seen.history:
        return "unseen"
    status = seen.history[-1].status
    return f"{status.phase} {status.reason} ({status.message})"

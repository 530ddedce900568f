"""Judges one run of a sequence by what was seen of it from outside: ECS, the record, the exit codes. Pure.

leak          a task is alive after the run is over
double run    RunTask had more effects for a step than it should, or one of them more tasks
lost result   all tasks of an effect exited 0, and its step did not succeed, or was run again
wrong         any other end than the scenario's: fewer effects, another order, another state of a step, an exit code
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spotjob.core.sequence.runs import Run, RunState, StepState
from tests.crash.oracle import Fault, Finding
from tests.crash.runs import Expected


@dataclass(frozen=True, slots=True)
class Task:
    """One task that ECS has run."""

    arn: str
    stopped: bool
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Effect:
    """What one RunTask call has started."""

    step: str
    tasks: tuple[Task, ...]

    @property
    def good(self) -> bool:
        return all(task.exit_code == 0 for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was seen of one run."""

    effects: Sequence[Effect]
    """In the order of their calls."""
    run: Run | None
    """The record, after the end."""
    collapsed: tuple[str, ...] = ()
    """How processes ended that nobody killed, other than they should, and their last words."""


def effects_of(tasks: Sequence[Mapping[str, object]]) -> list[Effect]:
    """From what the lever ecs-tasks shows."""
    effects: dict[object, list[Mapping[str, object]]] = {}
    for task in tasks:
        effects.setdefault(task["run"], []).append(task)
    return [Effect(_family(each[0]), tuple(_task(task) for task in each)) for each in effects.values()]


def _family(task: Mapping[str, object]) -> str:
    return str(task["taskDefinition"]).partition(":")[0]


def _task(shown: Mapping[str, object]) -> Task:
    codes = shown["exitCodes"]
    assert isinstance(codes, Mapping)
    return Task(str(shown["arn"]), shown["lastStatus"] == "STOPPED", codes.get("main"))


def judge(seen: Evidence, expected: Expected) -> list[Finding]:
    """Every violation."""
    return [*_leaks(seen), *_double_runs(seen, expected), *_lost_results(seen), *_wrong(seen, expected)]


def _leaks(seen: Evidence) -> Iterator[Finding]:
    for effect in seen.effects:
        for task in effect.tasks:
            if not task.stopped:
                yield Finding(Fault.LEAK, f"{effect.step}: {task.arn} is alive after the run's end")


def _double_runs(seen: Evidence, expected: Expected) -> Iterator[Finding]:
    wanted = Counter(step for step, _ in expected.effects)
    for step, times in Counter(effect.step for effect in seen.effects).items():
        if times > wanted[step]:
            yield Finding(Fault.DOUBLE_RUN, f"{step} was run {times} times, not {wanted[step]}")
    counts = dict(expected.effects)
    for effect in seen.effects:
        if len(effect.tasks) > counts.get(effect.step, 0):
            yield Finding(Fault.DOUBLE_RUN, f"{effect.step} ran as {len(effect.tasks)} tasks")


def _lost_results(seen: Evidence) -> Iterator[Finding]:
    states = _states(seen)
    for n, effect in enumerate(seen.effects):
        if effect.good and states.get(effect.step) is not StepState.SUCCEEDED:
            yield Finding(Fault.LOST_RESULT, f"{effect.step} exited 0, and is {states.get(effect.step)}")
        if effect.good and any(later.step == effect.step for later in seen.effects[n + 1 :]):
            yield Finding(Fault.LOST_RESULT, f"{effect.step} was run again after it exited 0")


def _wrong(seen: Evidence, expected: Expected) -> Iterator[Finding]:
    for words in seen.collapsed:
        yield Finding(Fault.WRONG, words)
    effects = tuple((effect.step, len(effect.tasks)) for effect in seen.effects)
    if effects != expected.effects:
        yield Finding(Fault.WRONG, f"RunTask had the effects {_told(effects)}, not {_told(expected.effects)}")
    if expected.states is None:
        return
    if seen.run is None:
        yield Finding(Fault.WRONG, "there is no record of the run")
        return
    if seen.run.state is not RunState.SUCCEEDED:
        yield Finding(Fault.WRONG, f"the run is {seen.run.state}: {seen.run.message}")
    if _states(seen) != expected.states:
        yield Finding(Fault.WRONG, f"the steps are {_words(_states(seen))}, not {_words(expected.states)}")


def _states(seen: Evidence) -> dict[str, StepState]:
    return {at.name: at.state for at in seen.run.steps} if seen.run is not None else {}


def _told(effects: Sequence[tuple[str, int]]) -> str:
    return " ".join(f"{step}x{count}" for step, count in effects) or "none"


def _words(states: Mapping[str, StepState]) -> str:
    return " ".join(f"{step}:{state}" for step, state in states.items())

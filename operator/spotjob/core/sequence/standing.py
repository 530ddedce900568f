"""What people see of a JobSequence: its status, computed in one place, and the events of its steps. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from spotjob.core.resources import Condition
from spotjob.core.sequence.resources import JobSequence, JobSequenceStatus, SequencePhase
from spotjob.core.sequence.runs import ContainerEnd, Run, RunState, StepRun, StepState
from spotjob.core.sequence.schedule import ScheduleTurn
from spotjob.core.sequence.steps import Sequence, When

COMPLETE, FAILED, SUSPENDED = "Complete", "Failed", "Suspended"
MESSAGE_LENGTH = 1024
MOST_ACTIVE = 100
CONTAINERS_KEPT = 3
"""Of an ended step: an object in etcd may have 1.5 MB, and a sequence 500 steps with ten tasks each."""
RESULT_LENGTH = 1024
"""Characters of a step's result that are kept, as JSON; a longer one is left out, and the step says so."""

_PHASES = {
    RunState.SUCCEEDED: SequencePhase.SUCCEEDED,
    RunState.FAILED: SequencePhase.FAILED,
    RunState.STOPPED: SequencePhase.STOPPED,
}


# ---- status ---------------------------------------------------------------------------------------------------------


def before_the_run(held: JobSequence, now: datetime) -> JobSequenceStatus:
    """Not begun yet."""
    phase = SequencePhase.SUSPENDED if held.spec.suspend else SequencePhase.PENDING
    progress = f"0/{sum(step.active for step in held.spec.steps)}"
    return _dressed(held, held.status.model_copy(update={"phase": phase, "progress": progress}), phase.value, now)


def invalid(held: JobSequence, why: str, now: datetime) -> JobSequenceStatus:
    """It cannot run, and nothing of it was begun."""
    changes: dict[str, Any] = {
        "phase": SequencePhase.FAILED,
        "message": why[:MESSAGE_LENGTH],
        "completion_time": held.status.completion_time or now,
    }
    return _dressed(held, held.status.model_copy(update=changes), "Invalid", now)


def of_run(held: JobSequence, sequence: Sequence, run: Run, now: datetime) -> JobSequenceStatus:
    """While the run goes on, and at its end."""
    record = kept(run.record())
    waits = held.spec.suspend and run.current is not None and run.steps[run.current].state is StepState.PENDING
    phase = _PHASES.get(run.state, SequencePhase.SUSPENDED if waits else SequencePhase.RUNNING)
    shown = _shown(run)
    changes: dict[str, Any] = {
        "phase": phase,
        "progress": _progress(sequence, run),
        "step": shown.name if shown else None,
        "message": (run.message or _says(shown))[:MESSAGE_LENGTH],
        "start_time": run.started_at,
        "completion_time": run.ended_at,
        "run": record,
    }
    return _dressed(held, held.status.model_copy(update=changes), _reason(phase, shown), now)


def of_schedule(held: JobSequence, turn: ScheduleTurn, now: datetime) -> JobSequenceStatus:
    """Of one that only creates others."""
    phase = SequencePhase.SUSPENDED if held.spec.suspend else SequencePhase.SCHEDULED
    changes: dict[str, Any] = {
        "phase": phase,
        "message": turn.message,
        "completion_time": None,
        "active": turn.active[:MOST_ACTIVE],
        "last_schedule_time": turn.last_schedule_time,
        "last_successful_time": turn.last_successful_time,
    }
    return _dressed(held, held.status.model_copy(update=changes), phase.value, now)


def _shown(run: Run) -> StepRun | None:
    """The step whose turn it is; at the end, the first that failed."""
    if run.current is not None:
        return run.steps[run.current]
    return next((step for step in run.steps if step.state is StepState.FAILED), None) if run.failed else None


def _says(step: StepRun | None) -> str:
    if step is None:
        return ""
    return f"{step.name}: {step.message or step.status or step.state}"


def _reason(phase: SequencePhase, shown: StepRun | None) -> str:
    if phase is not SequencePhase.FAILED:
        return phase.value
    return "StepFailed" if shown is not None else "DeadlineExceeded"


def _progress(sequence: Sequence, run: Run) -> str:
    """Steps that are not active do not count; those of onFailure only after a failure."""
    counted = [
        at
        for step, at in zip(sequence.steps, run.steps, strict=True)
        if step.active and (step.when is not When.FAILURE or run.failed)
    ]
    return f"{sum(at.state.over and at.state is not StepState.SKIPPED for at in counted)}/{len(counted)}"


def kept(run: Run) -> Run:
    """The run without what is too long to be kept of steps that have ended."""
    return run.model_copy(update={"steps": tuple(_kept(step) if step.state.over else step for step in run.steps)})


def _kept(step: StepRun) -> StepRun:
    changes: dict[str, Any] = {}
    if len(step.containers) > CONTAINERS_KEPT:
        changes["containers"] = tuple(sorted(step.containers, key=_harmless)[:CONTAINERS_KEPT])
    if step.result is not None and len(json.dumps(step.result)) > RESULT_LENGTH:
        left_out = f"its result is longer than {RESULT_LENGTH} characters and was left out"
        changes |= {"result": None, "message": f"{step.message}; {left_out}".removeprefix("; ")[:MESSAGE_LENGTH]}
    return step.model_copy(update=changes) if changes else step


def _harmless(container: ContainerEnd) -> bool:
    return container.exit_code == 0


# ---- conditions -----------------------------------------------------------------------------------------------------


def _dressed(held: JobSequence, status: JobSequenceStatus, reason: str, now: datetime) -> JobSequenceStatus:
    """With the conditions that follow from the phase; their times change only when they do."""
    status = status.model_copy(update={"observed_generation": held.metadata.generation or None})
    old = {condition.type: condition for condition in held.status.conditions}
    facts = {
        COMPLETE: status.phase is SequencePhase.SUCCEEDED,
        FAILED: status.phase in (SequencePhase.FAILED, SequencePhase.STOPPED),
        SUSPENDED: status.phase is SequencePhase.SUSPENDED,
    }
    made = {kind: _condition(old.get(kind), kind, holds, status, reason, now) for kind, holds in facts.items()}
    conditions = tuple(made[kind] for kind, holds in facts.items() if holds or kind in old)
    return status.model_copy(update={"conditions": conditions})


def _condition(
    old: Condition | None, kind: str, holds: bool, status: JobSequenceStatus, reason: str, now: datetime
) -> Condition:
    word: Literal["True", "False"] = "True" if holds else "False"
    if old is not None and (old.status, old.reason) == (word, reason):
        return old
    since = old.last_transition_time if old is not None and old.status == word else now
    return Condition(
        type=kind,
        status=word,
        reason=reason,
        message=status.message,
        last_transition_time=since,
        observed_generation=status.observed_generation,
    )


# ---- what is written ------------------------------------------------------------------------------------------------


def status_patch(old: JobSequenceStatus, new: JobSequenceStatus) -> dict[str, Any]:
    """The JSON merge patch that turns `old` into `new`; null removes. Empty: no change."""
    return {} if old == new else _difference(_wire(old), _wire(new))


def _wire(status: JobSequenceStatus) -> dict[str, Any]:
    """Without what says nothing: a step whose turn has not come is a name and a state."""
    wire = status.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if status.run is not None:
        for step, written in zip(status.run.steps, wire["run"].get("steps", ()), strict=True):
            written["state"] = step.state.value
        wire["run"]["state"] = status.run.state.value
    return wire


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {name: None for name in old if name not in new}
    for name, value in new.items():
        before = old.get(name)
        if value == before:
            continue
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            made[name] = _difference(before, value)
        else:
            made[name] = value
    return made


# ---- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Happening:
    """A Kubernetes Event."""

    reason: str
    message: str
    warning: bool = False


def happenings(before: Run | None, after: Run) -> list[Happening]:
    """What the change from one record to the next is worth telling."""
    told = [
        happening
        for place, step in enumerate(after.steps)
        if (happening := _about_step(before.steps[place] if before else None, step, place, len(after.steps)))
    ]
    if after.state.over and not (before and before.state.over):
        told.append(_about_run(after))
    return told


def _about_step(before: StepRun | None, step: StepRun, place: int, count: int) -> Happening | None:
    name = f"step {place + 1}/{count} {step.name}"
    if before is not None and before.state is step.state:
        return None
    match step.state:
        case StepState.REQUESTING if before is None or before.state is StepState.PENDING:
            return Happening("StepStarted", name)
        case StepState.SUCCEEDED:
            return Happening("StepSucceeded", name)
        case StepState.FAILED:
            return Happening("StepFailed", f"{name}: {step.reason}: {step.message}", warning=True)
        case StepState.STOPPED:
            return Happening("StepStopped", f"{name}: {step.message}")
        case _:
            return None


def _about_run(run: Run) -> Happening:
    if run.state is RunState.SUCCEEDED:
        return Happening("Completed", "every step has ended well")
    return Happening(str(run.state), run.message, warning=run.state is RunState.FAILED)

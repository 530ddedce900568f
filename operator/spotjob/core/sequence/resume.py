"""A run taken up again, and a run of a part of the list. Pure."""

from __future__ import annotations

from datetime import datetime

from spotjob.core.sequence.runs import Run, RunState, StepRun, StepState
from spotjob.core.sequence.steps import Sequence, When

RUN_AGAIN = (StepState.FAILED, StepState.STOPPED, StepState.SKIPPED)


def resumed(sequence: Sequence, run: Run, now: datetime) -> Run:
    """The run goes on where it stopped: a step that succeeded is never run again, one that is under way is kept.

    Only the steps of on_failure, which answer a failure, are new in each life.
    """
    if run.state is RunState.SUCCEEDED:
        return run
    steps = tuple(
        _fresh(at) if at.state in RUN_AGAIN or (at.state.over and step.turn is When.FAILURE) else at
        for step, at in zip(sequence.steps, run.steps, strict=True)
    )
    fresh = {"state": RunState.RUNNING, "failed": False, "stopping": False, "message": "", "ended_at": None}
    return run.model_copy(update={**fresh, "steps": steps, "started_at": now})


def _fresh(at: StepRun) -> StepRun:
    """To be run again; its tries go on counting, so that its tokens are new."""
    return StepRun(name=at.name, tries=at.tries)


def part(sequence: Sequence, run: Run, first: int, last: int, now: datetime) -> Run:
    """The run without the open steps before `first` and after `last` (places from 0). Clean-up steps are steps, too."""
    steps = tuple(
        at if first <= place <= last or at.state.over else _left_out(at, now) for place, at in enumerate(run.steps)
    )
    return run.model_copy(update={"steps": steps})


def _left_out(at: StepRun, now: datetime) -> StepRun:
    return at.model_copy(update={"state": StepState.SKIPPED, "message": "not asked for", "ended_at": now})

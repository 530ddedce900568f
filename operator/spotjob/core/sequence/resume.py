"""A run taken up again, and a run of a part of the list. Pure."""

from __future__ import annotations

from datetime import datetime

from spotjob.core.sequence.runs import Run, RunState, StepRun, StepState
from spotjob.core.sequence.steps import Sequence, Step, When

LEFT_OUT = "not asked for"
"""The message of a step that --from or --until left out."""


def resumed(sequence: Sequence, run: Run, now: datetime) -> Run:
    """The run goes on where it stopped: a step that succeeded is never run again, one that is under way is kept."""
    if run.state is RunState.SUCCEEDED:
        return run
    # Its driver died: it goes on where it stood. What has failed in it is run anew when it has come to its end.
    if run.state is RunState.RUNNING and not run.stopping:
        return run.model_copy(update={"steps": tuple(map(_stop_again, run.steps)), "started_at": now})
    steps = tuple(_resumed(step, at) for step, at in zip(sequence.steps, run.steps, strict=True))
    fresh = {"state": RunState.RUNNING, "failed": False, "stopping": False, "message": "", "ended_at": None}
    return run.model_copy(update={**fresh, "steps": steps, "started_at": now})


def _resumed(step: Step, at: StepRun) -> StepRun:
    # It was being stopped: that is seen to its end, and then it begins anew.
    if at.state is StepState.STOPPING:
        return _stop_again(at).model_copy(update={"verdict": StepState.PENDING})

    # The steps of on_failure answer a failure: they are new in each life.
    if step.when is When.FAILURE and at.state.over:
        return _fresh(at)

    # Somebody chose to leave it out, or to do without its success.
    if at.state is StepState.SKIPPED and at.message == LEFT_OUT:
        return at
    if at.state is StepState.FAILED and step.ignore_failure:
        return at

    return _fresh(at) if at.state in (StepState.FAILED, StepState.STOPPED, StepState.SKIPPED) else at


def _stop_again(at: StepRun) -> StepRun:
    """The time that its tasks have for their end begins anew: nobody has looked at them meanwhile."""
    return at.model_copy(update={"stopping_since": None, "stop_asked_at": None})


def _fresh(at: StepRun) -> StepRun:
    """To be run again; its tries go on counting, so that its tokens are new."""
    return StepRun(name=at.name, tries=at.tries)


def part(run: Run, first: int, last: int, now: datetime) -> Run:
    """The run without the steps before `first` and after `last` (places from 0), clean-up among them.

    One that is under way is seen to its end, wherever it stands.
    """
    steps = tuple(
        _left_out(at, now) if at.state is StepState.PENDING and not first <= place <= last else at
        for place, at in enumerate(run.steps)
    )
    return run.model_copy(update={"steps": steps})


def _left_out(at: StepRun, now: datetime) -> StepRun:
    return at.model_copy(update={"state": StepState.SKIPPED, "message": LEFT_OUT, "ended_at": now})

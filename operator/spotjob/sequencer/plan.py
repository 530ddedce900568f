"""What a run would ask for, without asking: --dry-run. Pure, but for botocore's model of RunTask."""

from __future__ import annotations

from typing import Any

from spotjob.aws.run_task_model import translate
from spotjob.core.sequence.references import Unresolved, resolve
from spotjob.core.sequence.runs import Run, StepState, started_by
from spotjob.core.sequence.steps import Sequence, Step


def plan(sequence: Sequence, run: Run) -> dict[str, Any]:
    """The steps that a run would have, with the RunTask request or the SpotJob's spec of each.

    References to results stand as they are. Tokens are left out: they belong to a run, and this is none.
    """
    steps = [
        _planned(place, step, run)
        for place, (step, at) in enumerate(zip(sequence.steps, run.steps, strict=True))
        if step.active and at.state is not StepState.SKIPPED
    ]
    return {"digest": run.digest, "steps": steps}


def _planned(place: int, step: Step, run: Run) -> dict[str, Any]:
    said = {"step": place + 1, "name": step.name, "type": step.type, "turn": step.turn.value}
    if step.type == "spot_job":
        return {**said, "spec": _resolved(step, run, place)}
    parameters = {"count": step.count, "started_by": started_by("RUN", place, 1), **_resolved(step, run, place)}
    return {**said, "region": step.region, "request": translate(parameters)}


def _resolved(step: Step, run: Run, place: int) -> dict[str, Any]:
    try:
        return resolve(step.parameters, run, place)
    except Unresolved:
        return step.parameters

"""The lines that a change of a run is worth, in the words of the first Sequencer where it had any. Pure.

People's alarms search the log for these texts, above all for SEQUENCER_ERROR. What the first one had no words for comes
as further lines.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from spotjob.core.sequence import lastlines
from spotjob.core.sequence.ports import JobSeen, Looked, News, Refusal, Refused, Unknown
from spotjob.core.sequence.runs import Run, RunState, StepRun, StepState
from spotjob.core.sequence.steps import Sequence, Step

ALARM = "SEQUENCER_ERROR"
OPEN_TO_LOOKS = (StepState.RUNNING, StepState.STOPPING)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log."""

    level: int
    """Of the module logging."""
    text: str
    often: bool = False
    """It comes with every look: a table shows it better."""


def lines(
    sequence: Sequence, before: Run, after: Run, news: News, now: datetime, failed_looks: int = 0
) -> Iterator[Line]:
    """What happened between two turns, in its order. `news` led from one to the other."""
    looked_at = before.current
    for place, (step, old, new) in enumerate(zip(sequence.steps, before.steps, after.steps, strict=True)):
        if place == looked_at:
            yield from _look(step, old, new, news, failed_looks)
        if old != new:
            yield from _step(step, old, new, now)


def last_lines(run: Run, exit_code: int) -> Iterator[Line]:
    """How a run ended."""
    if run.state is RunState.SUCCEEDED:
        ignored = any(step.state is StepState.FAILED for step in run.steps)
        but = ", but for those whose failure is ignored" if ignored else ""
        yield _info(f"all steps succeeded{but}... exiting with code {exit_code}")
        return
    if run.state is RunState.STOPPED:
        yield _error(f"{ALARM}: stopped by {run.message}")
    else:
        yield _error(f"{ALARM}: {run.message.splitlines()[0] if run.message else 'a step failed'}")
    yield _error(f"failure... exiting with code {exit_code}")


# ---- looks ----------------------------------------------------------------------------------------------------------


def _look(step: Step, old: StepRun, new: StepRun, news: News, failed_looks: int) -> Iterator[Line]:
    looking = old.state in OPEN_TO_LOOKS
    match news:
        case Looked(tasks):
            for task in tasks:
                yield _info(f"{step.name}: {task.arn} current status: {task.last_status}", often=True)
        case JobSeen() if looking:
            yield _info(f"{step.name}: SpotJob {old.job} current status: {new.status}", often=True)
        case Unknown(message) if looking:
            yield from _failed_look(message, failed_looks)
        case Refused(_, code, message) if looking:
            yield from _failed_look(f"{code}: {message}", failed_looks)
        case Refused(Refusal.THROTTLED, code, message):
            yield _warning(f"{step.name}: {code}: {message}; the same request is sent again")
        case Unknown(message):
            yield _warning(f"{step.name}: no answer, the same request is sent again: {message}")
        case _:
            return


def _failed_look(message: str, times: int) -> Iterator[Line]:
    yield _warning(message)
    yield _warning(f"task completion check failed, trying again #{times}")


# ---- changes --------------------------------------------------------------------------------------------------------


def _step(step: Step, old: StepRun, new: StepRun, now: datetime) -> Iterator[Line]:
    if new.state is StepState.REQUESTING and _begins(old, new):
        what = "ECS task" if step.type == "ecs_task" else "SpotJob"
        yield _info(f"starting {what} {step.name}")
        yield Line(logging.DEBUG, f"running {what} {step.name}...")
    yield from _created(step, old, new)
    if lastlines.tried(old, new):
        yield from _ended(step, new, now)
    if (new.state, new.reason, new.next_at) != (old.state, old.reason, old.next_at):
        yield from _state(step, old, new)


def _begins(old: StepRun, new: StepRun) -> bool:
    """The first request of a try; another one for want of capacity is no new start."""
    return old.state is StepState.PENDING or (old.state is StepState.WAITING and new.requests == 1)


def _created(step: Step, old: StepRun, new: StepRun) -> Iterator[Line]:
    for arn in new.tasks:
        if arn not in old.tasks:
            yield _info(f"{step.name} task created {arn} on cluster {step.cluster}")
    if new.job is not None and old.state is StepState.REQUESTING and new.state is StepState.RUNNING:
        yield _info(f"{step.name} SpotJob created {new.job}")


def _ended(step: Step, new: StepRun, now: datetime) -> Iterator[Line]:
    since = new.started_at or now
    yield _info(f"{step.name} completed in {((new.ended_at or now) - since).total_seconds()} seconds")
    for container in new.containers:
        code = "" if container.exit_code is None else container.exit_code
        yield _info(f"{step.name}: container {container.name} {container.arn} completed with exit_code {code}")


def _state(step: Step, old: StepRun, new: StepRun) -> Iterator[Line]:
    match new.state:
        case StepState.FAILED if step.ignore_failure:
            yield _warning(f"{step.name} failed, which is ignored: {new.reason}")
            yield from _message(step, new, logging.WARNING)
        case StepState.FAILED:
            yield from _failed(step, new)
        case StepState.WAITING:
            at = "" if new.next_at is None else f", trying again at {new.next_at:%H:%M:%S} UTC"
            yield _warning(f"{step.name} waits: {new.reason}{at}")
            yield from _message(step, new, logging.WARNING)
        case StepState.STOPPING if old.state is not StepState.STOPPING:
            yield _warning(f"{step.name} is being stopped: {new.reason}")
            yield from _message(step, new, logging.WARNING)
        case StepState.STOPPED:
            yield _warning(f"{step.name} was stopped")
            yield from _message(step, new, logging.WARNING)
        case StepState.SKIPPED:
            yield _info(f"{step.name} is skipped: {new.message}")
        case _:
            return


def _failed(step: Step, new: StepRun) -> Iterator[Line]:
    if new.tasks or new.containers or step.type != "ecs_task":
        yield _error(f"{ALARM}: task failed error")
    else:
        yield _error(f"{ALARM}: response from ECS {new.reason}")
    yield _error(f"{ALARM}: {step.name} failed: {new.reason}")
    yield from _message(step, new, logging.ERROR)


def _message(step: Step, new: StepRun, level: int) -> Iterator[Line]:
    """One line of the log for each of the message: among them what a container logged last."""
    for line in new.message.splitlines():
        yield Line(level, f"{step.name}: {line}")


def _info(text: str, often: bool = False) -> Line:
    return Line(logging.INFO, text, often)


def _warning(text: str) -> Line:
    return Line(logging.WARNING, text)


def _error(text: str) -> Line:
    return Line(logging.ERROR, text)

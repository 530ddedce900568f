"""What a run of a sequence does next. Pure: the command line and the operator do it, each in its own way.

The shell writes `turn.run` before it does `turn.do`, and gives what came of it to the next call. So every call that
has an effect stands in the record before it is made, with the same token in every life of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spotjob.core.sequence.hear import TOKEN_SURE_FOR, failed, hear, lost
from spotjob.core.sequence.ports import (
    Action,
    CreateJob,
    DeleteJob,
    DescribeTasks,
    FindTasks,
    GetJob,
    News,
    RunTask,
    StopTasks,
)
from spotjob.core.sequence.references import Unresolved, resolve
from spotjob.core.sequence.runs import Run, RunState, StepRun, StepState, client_token, job_name, started_by
from spotjob.core.sequence.steps import Sequence, Step, When

STOP_AGAIN_AFTER = timedelta(seconds=30)
STOP_FOR = timedelta(minutes=15)
"""A task that was told to stop and has not by then is left, and the message says so."""


@dataclass(frozen=True, slots=True)
class Turn:
    """The record to be written, then what to do, else until when to wait."""

    run: Run
    do: Action | None = None
    wake_at: datetime | None = None
    """With nothing to do in a run that is open: look again then."""


def advance(
    sequence: Sequence,
    run: Run,
    news: News,
    now: datetime,
    *,
    roll: float = 0.5,
    poll: timedelta = timedelta(seconds=5),
    stop: str = "",
    hold: bool = False,
) -> Turn:
    """The next turn.

    `stop`: why the run is to end before its time; empty means that it goes on. `hold`: no further step is begun. `poll`
    is the time between two looks at a running step, `roll` in [0, 1) the jitter of other waits.
    """
    if run.state.over:
        return Turn(run)

    place = run.current
    if place is not None and news is not None:
        run = run.with_step(place, hear(sequence.steps[place], run.steps[place], news, now, roll))
    run = _told_to_stop(sequence, run, stop, now)

    while (place := run.current) is not None:
        run = _counted(sequence, run)
        step, at = sequence.steps[place], run.steps[place]
        if at.state is StepState.PENDING and (why := _why_skipped(step, run)):
            run = run.with_step(place, _with(at, state=StepState.SKIPPED, message=why, ended_at=now))
            continue
        if at.state is StepState.PENDING and hold:
            return Turn(run)
        turn = _step(sequence, run, place, now, poll)
        if turn.do is not None or turn.wake_at is not None:
            return turn
        run = turn.run  # the step is over, or something else is to be done for it
    return Turn(_closed(_counted(sequence, run), now))


# ---- the run --------------------------------------------------------------------------------------------------------


def _told_to_stop(sequence: Sequence, run: Run, stop: str, now: datetime) -> Run:
    """A person's word ends the run; the end of its time makes it a failure, after which clean-up still runs."""
    if stop and not run.stopping:
        return run.model_copy(update={"stopping": True, "message": run.message or stop})
    limit = sequence.timeout_seconds
    todo = (at for step, at in zip(sequence.steps, run.steps, strict=True) if step.turn is When.SUCCESS)
    if all(at.state.over for at in todo):
        return run
    if limit is None or run.failed or now < run.started_at + timedelta(seconds=limit):
        return run
    return run.model_copy(update={"failed": True, "message": f"timeout_seconds ({limit}) of the sequence have passed"})


def _why_skipped(step: Step, run: Run) -> str:
    if not step.active:
        return "not active"
    if run.stopping:
        return "the run was stopped"
    if step.turn is When.SUCCESS and run.failed:
        return "an earlier step failed"
    if step.turn is When.FAILURE and not run.failed:
        return "nothing failed"
    return ""


def _counted(sequence: Sequence, run: Run) -> Run:
    """The first failure that counts makes the run a failed one."""
    if run.failed:
        return run
    for step, at in zip(sequence.steps, run.steps, strict=True):
        if at.state is StepState.FAILED and not step.ignore_failure:
            return run.model_copy(update={"failed": True, "message": f"{at.name}: {at.reason}: {at.message}"[:1024]})
    return run


def _closed(run: Run, now: datetime) -> Run:
    state = RunState.SUCCEEDED
    if run.failed:
        state = RunState.FAILED
    if run.stopping or any(at.state is StepState.STOPPED for at in run.steps):
        state = RunState.STOPPED
    return run.model_copy(update={"state": state, "ended_at": now})


# ---- one step -------------------------------------------------------------------------------------------------------


def _step(sequence: Sequence, run: Run, place: int, now: datetime, poll: timedelta) -> Turn:
    step, at = sequence.steps[place], run.steps[place]
    if at.state is StepState.PENDING:
        return _requested(step, run, place, _with(at, tries=at.tries + 1, requests=0, started_at=now), now)

    # Its time is over, or somebody ends the run. What may run has to be found and stopped first.
    over = _why_over(sequence, step, run, at, now)
    if over is not None and at.state is not StepState.STOPPING and not _uncertain(at):
        at = _ending(at, *over, now)
        run = run.with_step(place, at)
    if at.state.over:
        return Turn(run)

    # Until it is time to ask again.
    if at.next_at is not None and now < at.next_at:
        bound = over is None and at.state is not StepState.STOPPING
        due = _time_over_at(sequence, step, run, at) if bound else None
        return Turn(run, wake_at=_earliest(at.next_at, due))

    match at.state:
        case StepState.WAITING:
            return _requested(step, run, place, at, now)
        case StepState.REQUESTING:
            return _asked_again(step, run, place, at, now)
        case StepState.STOPPING:
            return _stopped(step, run, place, at, now, poll)
        case _:
            return _look(step, run, place, at, now, poll)


def _why_over(
    sequence: Sequence, step: Step, run: Run, at: StepRun, now: datetime
) -> tuple[StepState, str, str] | None:
    """(what it will be, reason, message) of a step that has to end now."""
    if run.stopping:
        return StepState.STOPPED, "Stopped", run.message
    due = _time_over_at(sequence, step, run, at)
    if due is None or now < due:
        return None
    if (own := _plus(at.started_at, step.timeout_seconds)) is not None and now >= own:
        waited = f", waiting: {at.message}" if at.message else ""
        return StepState.FAILED, "TimedOut", f"timeout_seconds ({step.timeout_seconds}) have passed{waited}"
    return StepState.FAILED, "TimedOut", f"timeout_seconds ({sequence.timeout_seconds}) of the sequence have passed"


def _time_over_at(sequence: Sequence, step: Step, run: Run, at: StepRun) -> datetime | None:
    """When the step's time is over, or that of the run for a step that is no clean-up."""
    own = _plus(at.started_at, step.timeout_seconds)
    whole = _plus(run.started_at, sequence.timeout_seconds) if step.turn is When.SUCCESS else None
    return _earliest(own, whole)


def _uncertain(at: StepRun) -> bool:
    """A request may have had its effect, and its tasks are not known."""
    return at.state is StepState.REQUESTING and (at.asked or at.doubt)


def _ending(at: StepRun, verdict: StepState, reason: str, message: str, now: datetime) -> StepRun:
    told = _with(at, reason=reason, message=message)
    if not at.tasks and at.job is None:
        return _with(told, state=verdict, ended_at=now, next_at=None)
    return _with(told, state=StepState.STOPPING, verdict=verdict, next_at=None)


# ---- its actions ----------------------------------------------------------------------------------------------------


def _requested(step: Step, run: Run, place: int, at: StepRun, now: datetime) -> Turn:
    """A new request, with a new token, or the first look into what it is to be."""
    changes: dict[str, Any] = {"state": StepState.REQUESTING, "requests": at.requests + 1, "requested_at": now}
    asking = _with(at, **changes, asked=True, doubt=False, next_at=None, waiting_since=None, reason="", status="")
    if step.type == "spot_job":
        asking = _with(asking, job=job_name(run.id, place, at.tries))
    try:
        resolve(step.parameters, run, place)
    except Unresolved as error:
        return Turn(run.with_step(place, failed(at, "Unresolved", str(error), now)))
    return Turn(run.with_step(place, asking), do=_request(step, run, place, asking))


def _request(step: Step, run: Run, place: int, at: StepRun) -> Action:
    parameters = resolve(step.parameters, run, place)
    if at.job is not None:
        return CreateJob(at.job, parameters)
    return RunTask(step.region, _run_task(step, run, place, at, parameters))


def _run_task(step: Step, run: Run, place: int, at: StepRun, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The RunTask request in snake_case, for the tasks that are not there yet."""
    ours = {
        "count": step.count - len(at.tasks),
        "client_token": client_token(run.id, place, at.tries, at.requests),
        "started_by": parameters.get("started_by") or started_by(run.id, place, at.tries),
    }
    return {**parameters, **ours}


def _asked_again(step: Step, run: Run, place: int, at: StepRun, now: datetime) -> Turn:
    """No answer so far, or a new life of the run: the same request again, as long as its token is surely known."""
    doubt = at.doubt or at.asked
    if at.requested_at is not None and now - at.requested_at < TOKEN_SURE_FOR:
        asking = run.with_step(place, _with(at, asked=True, doubt=doubt, next_at=None))
        return Turn(asking, do=_request(step, run, place, at))
    run = run.with_step(place, _with(at, asked=False, doubt=True, next_at=None))
    if at.job is not None:
        return Turn(run, do=GetJob(at.job))
    # The file's own startedBy names the tasks of other runs too, and none of them may be taken for ours.
    if step.parameters.get("started_by"):
        return Turn(run.with_step(place, lost(at, now)))
    return Turn(run, do=FindTasks(step.region, step.cluster, started_by(run.id, place, at.tries)))


def _look(step: Step, run: Run, place: int, at: StepRun, now: datetime, poll: timedelta) -> Turn:
    then = run.with_step(place, _with(at, next_at=now + poll))
    if at.job is not None:
        return Turn(then, do=GetJob(at.job))
    return Turn(then, do=DescribeTasks(step.region, step.cluster, _open(at), step.essential_only))


def _open(at: StepRun) -> tuple[str, ...]:
    """Its tasks that were not seen stopped."""
    ended = {end.arn for end in at.ended}
    return tuple(arn for arn in at.tasks if arn not in ended)


def _stopped(step: Step, run: Run, place: int, at: StepRun, now: datetime, poll: timedelta) -> Turn:
    since = at.stopping_since or now
    if now - since >= STOP_FOR:
        left = f"{at.message}; told to stop, and may still run: {' '.join(at.tasks) or at.job}"
        # One that was to begin anew must not: what is left of it may still run.
        verdict = StepState.FAILED if at.verdict is StepState.PENDING else at.verdict or StepState.STOPPED
        ended = _with(at, state=verdict, message=left[:1024], ended_at=now, next_at=None)
        return Turn(run.with_step(place, ended))
    if at.stop_asked_at is not None and now - at.stop_asked_at < STOP_AGAIN_AFTER:
        return _look(step, run, place, at, now, poll)
    then = run.with_step(place, _with(at, stopping_since=since, stop_asked_at=now, next_at=now))
    if at.job is not None:
        return Turn(then, do=DeleteJob(at.job))
    return Turn(then, do=StopTasks(step.region, step.cluster, _open(at), f"sequencer: {at.message}"[:255]))


# ---- time -----------------------------------------------------------------------------------------------------------


def _plus(since: datetime | None, seconds: int | None) -> datetime | None:
    return None if since is None or seconds is None else since + timedelta(seconds=seconds)


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _with(at: StepRun, **changes: Any) -> StepRun:
    return at.model_copy(update=changes)

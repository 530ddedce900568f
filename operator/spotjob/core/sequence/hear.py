"""What the news of a step's last action make of it. Pure.

The rules (aws-facts 8): RunTask may place some tasks and refuse others in one answer; a token is the same request's
for an hour after its task's end at least; ECS does not know a task for a moment after RunTask, nor an hour after its
end; an answer that did not come says nothing.
"""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

from spotjob.core.sequence.endings import NO_ROOM, End, Ending, of_job, of_tasks
from spotjob.core.sequence.ports import (
    STOPPED,
    Container,
    Failure,
    Found,
    JobSeen,
    Launched,
    Looked,
    News,
    Refusal,
    Refused,
    Task,
    Unknown,
)
from spotjob.core.sequence.runs import ContainerEnd, EndedTask, StepRun, StepState
from spotjob.core.sequence.steps import Step

TOKEN_SURE_FOR = timedelta(minutes=55)
"""ECS keeps a token for an hour after its task's end at least: so long a request may be repeated."""
CAPACITY_FOR = timedelta(hours=1)
"""A step without `timeout_seconds` waits so long for capacity."""
LOOK_FOR = timedelta(hours=1)
"""When ECS has not answered for so long, what it would say about a stopped task is gone."""
MISSING_FOR = timedelta(seconds=60)
"""A task that ECS does not know is lost when that has lasted: right after RunTask it is only not yet visible."""
MOST_INTERRUPTIONS = 20

PASSING = ("AGENT", "EMPTY CAPACITY PROVIDER")
"""Reasons in RunTask's `failures` that pass, beside those that speak of room; all others are of the configuration."""

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 2.0, 60.0
LONGEST_RETRY_SECONDS = 3600.0


def hear(step: Step, at: StepRun, news: News, now: datetime, roll: float) -> StepRun:
    """The step after the news. `roll` in [0, 1) is the jitter of whatever is to be waited for."""
    match news:
        case Launched(arns, failures):
            return _placed(step, at, arns, failures, now, roll)
        case Found(arns):
            return _found(step, at, arns, now, roll)
        case Looked():
            return _looked(step, at, news, now, roll)
        case JobSeen(job):
            return _job_seen(step, at, job, now, roll)
        case Refused():
            return _refused(at, news, now, roll)
        case Unknown(message):
            doubt = at.doubt or at.state is StepState.REQUESTING
            return _unknown(_with(at, asked=False, doubt=doubt), "Unanswered", message, now, roll)
        case None:
            return at


# ---- RunTask --------------------------------------------------------------------------------------------------------


def _placed(
    step: Step, at: StepRun, arns: tuple[str, ...], failures: tuple[Failure, ...], now: datetime, roll: float
) -> StepRun:
    tasks = tuple(dict.fromkeys((*at.tasks, *arns)))
    known = _with(at, tasks=tasks, asked=False, doubt=False, reason="", message="")
    if len(tasks) >= step.count:
        return _with(known, state=StepState.RUNNING, next_at=None, waiting_since=None, missing_since=None)

    # Some were not placed. What ECS refuses for good ends the step; those that run are stopped.
    final = next((failure for failure in failures if not _passes(failure)), None)
    if final is not None:
        return failed(known, final.reason, f"RunTask: {final.reason} {final.detail}".strip(), now)

    # The others wait for room, and the rest is asked for with a token of its own.
    why = f"RunTask: {failures[0].reason} {failures[0].detail}".strip() if failures else "RunTask placed no task"
    return _wait_for_capacity(known, why, now, roll)


def _found(step: Step, at: StepRun, arns: tuple[str, ...], now: datetime, roll: float) -> StepRun:
    """Long after the request. Of tasks that are not shown nobody knows whether they have run."""
    tasks = tuple(dict.fromkeys((*at.tasks, *arns)))
    return _placed(step, at, arns, (), now, roll) if len(tasks) >= step.count else lost(_with(at, tasks=tasks), now)


def _passes(failure: Failure) -> bool:
    return failure.reason.startswith(PASSING) or NO_ROOM.search(f"{failure.reason} {failure.detail}") is not None


def _wait_for_capacity(at: StepRun, why: str, now: datetime, roll: float) -> StepRun:
    since = at.short_since or now
    if now - since >= CAPACITY_FOR:
        return failed(at, "CapacityUnavailable", why, now)
    return _with(
        at,
        state=StepState.WAITING,
        waiting_since=None,
        short_since=since,
        next_at=now + _pause(now - since, roll),
        reason="CapacityUnavailable",
        message=why,
    )


def _refused(at: StepRun, news: Refused, now: datetime, roll: float) -> StepRun:
    text, told = f"{news.code}: {news.message}", _with(at, asked=False)
    # A look that is refused ends nothing: the task goes on.
    if at.state is not StepState.REQUESTING:
        return _unknown(told, "Throttled" if news.kind is Refusal.THROTTLED else news.code, text, now, roll)
    # This sending had no effect, but an earlier one may have had.
    if at.doubt:
        return _unknown(told, "Unanswered", text, now, roll)
    match news.kind:
        case Refusal.THROTTLED:
            return _unknown(told, "Throttled", text, now, roll)
        case Refusal.CAPACITY:
            return _wait_for_capacity(told, text, now, roll)
        case Refusal.FINAL:
            return failed(told, news.code, text, now)


def _unknown(at: StepRun, reason: str, message: str, now: datetime, roll: float) -> StepRun:
    """Nothing is known: the same is asked again, a little later each time."""
    since = at.waiting_since or now
    if at.state is StepState.REQUESTING:
        if at.requested_at is not None and now - at.requested_at >= TOKEN_SURE_FOR + LOOK_FOR:
            return lost(at, now) if at.doubt else failed(at, reason, message, now)
    elif now - since >= LOOK_FOR:
        return failed(at, "ResultLost", f"No answer for an hour, the task may still run: {message}", now, stop=False)
    pause = _pause(now - since, roll)
    if at.state is StepState.STOPPING:  # its reason is why it is stopped
        return _with(at, waiting_since=since, next_at=now + pause)
    return _with(at, waiting_since=since, next_at=now + pause, reason=reason, message=message)


def lost(at: StepRun, now: datetime) -> StepRun:
    """Nobody can say any more whether its last request ran."""
    why = "Whether its last request ran cannot be known any more. A resumption runs it again, unless it is left out"
    return failed(at, "ResultLost", why, now)


# ---- DescribeTasks --------------------------------------------------------------------------------------------------


def _looked(step: Step, at: StepRun, news: Looked, now: datetime, roll: float) -> StepRun:
    # What ECS shows now, and what it has shown before of tasks that it may have forgotten since.
    tasks = tuple({**{end.arn: _task(end) for end in at.ended}, **{task.arn: task for task in news.tasks}}.values())
    missing = news.missing - {end.arn for end in at.ended}
    since = (at.missing_since or now) if missing else None
    gone = missing if since is not None and now - since >= MISSING_FOR else frozenset()
    seen = _with(at, status=_status(tasks, at.status), missing_since=since, waiting_since=None)
    if at.state is StepState.RUNNING:
        seen = _with(seen, reason="", message="")
    if any(task.last_status == "RUNNING" for task in tasks):
        seen = _with(seen, short_since=None)
    if all(task.stopped for task in tasks) and len(tasks) + len(gone) >= len(at.tasks):
        return _ended(step, seen, of_tasks(step, tasks, gone, news.essential), now, roll)
    return _with(seen, ended=tuple(_end(task) for task in tasks if task.stopped))


def _end(task: Task) -> EndedTask:
    containers = (
        ContainerEnd(name=c.name, arn=c.arn, exit_code=c.exit_code, reason=c.reason[:1024]) for c in task.containers
    )
    reason, definition = task.stopped_reason[:1024], task.task_definition
    return EndedTask(
        arn=task.arn,
        stop_code=task.stop_code,
        stopped_reason=reason,
        task_definition=definition,
        containers=tuple(containers),
    )


def _task(end: EndedTask) -> Task:
    containers = tuple(Container(c.name, c.exit_code, c.reason, c.arn) for c in end.containers)
    return Task(
        arn=end.arn,
        last_status=STOPPED[0],
        stop_code=end.stop_code,
        stopped_reason=end.stopped_reason,
        task_definition=end.task_definition,
        containers=containers,
    )


def _status(tasks: tuple[Task, ...], before: str) -> str:
    """What the slowest task says."""
    return next((task.last_status for task in tasks if not task.stopped), tasks[0].last_status if tasks else before)


# ---- SpotJobs -------------------------------------------------------------------------------------------------------


def _job_seen(step: Step, at: StepRun, job: Any, now: datetime, roll: float) -> StepRun:
    if job is None and at.state is StepState.REQUESTING:
        return lost(at, now)
    if job is None and at.state is StepState.STOPPING:
        return _over(at, at.verdict or StepState.STOPPED, now)
    if job is None:
        return failed(at, "Deleted", f"SpotJob {at.job} was deleted", now, stop=False)
    phase, reason = job.status.phase or "Scheduled", job.status.reason or "Accepted"
    running = StepState.RUNNING if at.state is StepState.REQUESTING else at.state
    seen = _with(at, state=running, status=f"{phase}/{reason}", waiting_since=None, message="", reason="")
    seen = _with(seen, asked=False, doubt=False)
    if at.state is StepState.STOPPING:
        seen = _with(seen, reason=at.reason, message=at.message)
    if not job.finished:
        return seen
    return _ended(step, _with(seen, result=said(job)), of_job(job), now, roll)


def said(job: Any) -> dict[str, Any] | None:
    """What the job's container called back, if that was a JSON object."""
    attempt = job.current
    if attempt is None or attempt.callback is None:
        return None
    return as_result(attempt.callback.message)


def as_result(text: str) -> dict[str, Any] | None:
    """A JSON object, or nothing."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# ---- endings --------------------------------------------------------------------------------------------------------


def _ended(step: Step, at: StepRun, ending: Ending, now: datetime, roll: float) -> StepRun:
    told = _with(at, containers=ending.containers)
    # Its work was done before it was told to stop.
    if ending.end is End.GOOD:
        return _over(_with(told, reason="", message=ending.message), StepState.SUCCEEDED, now)

    # It was told to stop, and has.
    if at.state is StepState.STOPPING:
        return _over(told, at.verdict or StepState.STOPPED, now)

    told = _with(told, reason=ending.reason, message=ending.message)
    again = _with(told, tasks=(), ended=(), job=None, tries=at.tries + 1, requests=0, missing_since=None)
    match ending.end:
        case End.FINAL:
            return _over(told, StepState.FAILED, now)
        case End.CAPACITY:
            return _wait_for_capacity(again, ending.message, now, roll)
        case End.INTERRUPTED:
            if at.interruptions >= MOST_INTERRUPTIONS:
                return _over(told, StepState.FAILED, now)
            return _later(_with(again, interruptions=at.interruptions + 1, short_since=None), 10.0, now, roll)
        case End.FAILED:
            if at.failures >= step.retries:
                return _over(_with(told, failures=at.failures + 1), StepState.FAILED, now)
            seconds = min(step.retry_delay_seconds * 2.0**at.failures, LONGEST_RETRY_SECONDS)
            return _later(_with(again, failures=at.failures + 1, short_since=None), seconds, now, roll)


def _later(at: StepRun, seconds: float, now: datetime, roll: float) -> StepRun:
    return _with(at, state=StepState.WAITING, next_at=now + timedelta(seconds=seconds * (0.8 + 0.4 * roll)))


def failed(at: StepRun, reason: str, message: str, now: datetime, stop: bool = True) -> StepRun:
    """Failed for good; tasks of it that may run are stopped first."""
    told = _with(at, reason=reason, message=message)
    if stop and at.tasks:
        return _with(told, state=StepState.STOPPING, verdict=StepState.FAILED, next_at=None, waiting_since=None)
    return _over(told, StepState.FAILED, now)


def _over(at: StepRun, state: StepState, now: datetime) -> StepRun:
    if state is StepState.PENDING:  # stopped in an earlier life of the run: it begins anew, with new tokens
        return StepRun(name=at.name, tries=at.tries)
    times = dict.fromkeys(("next_at", "waiting_since", "short_since", "missing_since"))
    return _with(at, state=state, ended_at=now, verdict=None, ended=(), asked=False, doubt=False, **times)


# ---- time -----------------------------------------------------------------------------------------------------------


def _pause(waited: timedelta, roll: float) -> timedelta:
    """As long again as has been waited so far, within bounds: it doubles without being counted."""
    seconds = min(max(waited.total_seconds(), FIRST_DELAY_SECONDS), LONGEST_DELAY_SECONDS)
    return timedelta(seconds=seconds * (0.8 + 0.4 * roll))


def _with(at: StepRun, **changes: Any) -> StepRun:
    return at.model_copy(update=changes)

"""A run of a sequence from outside: an ECS that honours tokens, a record that outlives its driver, and a clock.

The driver may be killed at any point: before and after each write of the record, before an action, after it has had its
effect but before its answer, and after that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spotjob.core.sequence.advance import advance
from spotjob.core.sequence.ports import (
    Action,
    Container,
    CreateJob,
    DeleteJob,
    DescribeTasks,
    FindTasks,
    Found,
    GetJob,
    JobSeen,
    Launched,
    Looked,
    News,
    RunTask,
    StopTasks,
    Task,
)
from spotjob.core.sequence.resume import resumed
from spotjob.core.sequence.runs import Run, new_run
from spotjob.core.sequence.steps import Sequence, Step
from tests.builders import NOW, SECOND

MOST_TURNS = 20_000


def a_step(name: str, **fields: Any) -> Step:
    parameters = {"task_definition": f"{name}:1", **fields.pop("parameters", {})}
    return Step(name=name, type="ecs_task", parameters=parameters, **fields)


def a_sequence(*steps: Step | str, **fields: Any) -> Sequence:
    made = tuple(a_step(step) if isinstance(step, str) else step for step in steps)
    return Sequence(steps=made, **fields)


def states(run: Run) -> list[str]:
    return [str(step.state) for step in run.steps]


class Killed(Exception):
    """The driver is no more."""


@dataclass
class FakeTask:
    """One task: it runs for a while and exits with its code, unless it is stopped."""

    arn: str
    request: dict[str, Any]
    ends_at: datetime
    code: int | None
    stop_code: str = "EssentialContainerExited"
    stopped_reason: str = "Essential container in task exited"

    def shown(self, now: datetime) -> Task:
        if now < self.ends_at:
            return Task(self.arn, "RUNNING", "RUNNING", containers=(Container("main"),))
        ended = (Container("main", self.code),)
        return Task(self.arn, "STOPPED", "STOPPED", self.stop_code, self.stopped_reason, containers=ended)


Says = Callable[[dict[str, Any]], News]
"""What ECS says to a request in place of its tasks; None: it runs."""


@dataclass
class World:
    """ECS, a SpotJob API, the record and the clock."""

    now: datetime = NOW
    seconds: float = 12.0
    """How long a task runs."""
    codes: dict[str, list[int | None]] = field(default_factory=dict)
    """Exit codes of a definition's tasks in the order of their launches; 0 after that."""
    answers: list[News] = field(default_factory=list)
    """Said to the next RunTask requests in place of running them."""
    tasks: dict[str, FakeTask] = field(default_factory=dict)
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    jobs: dict[str, Any] = field(default_factory=dict)
    record: Run | None = None
    calls: list[Action] = field(default_factory=list)
    writes: int = 0
    kill_at: int | None = None
    """The driver is killed at this point, counted from 0 over all its lives."""
    point: int = 0
    missing_until: datetime = NOW
    """ECS does not show its tasks before that."""

    # ---- the driver ----

    def play(self, sequence: Sequence, resume: bool = False, **options: Any) -> Run:
        """One life of the driver. Raises Killed."""
        run = self.record or new_run(sequence, "run-1", "", self.now)
        if resume and self.record is not None:
            run = resumed(sequence, run, self.now)
        news: News = None
        for _ in range(MOST_TURNS):
            turn = advance(sequence, run, news, self.now, **options)
            self._write(turn.run)
            run, news = turn.run, None
            if turn.do is not None:
                news = self._done(turn.do)
            elif run.state.over or turn.wake_at is None:
                return run
            else:
                assert turn.wake_at > self.now, "a wait that is over already"
                self.now = turn.wake_at
        raise AssertionError(f"no end after {MOST_TURNS} turns: {run}")

    def _write(self, run: Run) -> None:
        if self.record is not None and self.record.record() == run.record():
            return
        self._may_die()
        self.record, self.writes = Run.model_validate(run.wire()), self.writes + 1
        self._may_die()

    def _done(self, action: Action) -> News:
        self._may_die()
        self.calls.append(action)
        news = self._effect(action)
        self.now += SECOND / 10
        self._may_die()
        return news

    def _may_die(self) -> None:
        self.point += 1
        if self.kill_at is not None and self.point - 1 == self.kill_at:
            raise Killed

    # ---- the world ----

    def _effect(self, action: Action) -> News:
        match action:
            case RunTask(_, request):
                return self._run_task(dict(request))
            case FindTasks(_, _, by):
                return Found(tuple(t.arn for t in self.tasks.values() if t.request["started_by"] == by))
            case DescribeTasks(_, _, arns):
                return self._describe(arns)
            case StopTasks(_, _, arns, reason):
                for arn in arns:
                    self.stop(arn, reason)
                return None
            case CreateJob(name):
                return JobSeen(self.jobs.setdefault(name, None))
            case GetJob(name):
                return JobSeen(self.jobs.get(name))
            case DeleteJob(name):
                return JobSeen(self.jobs.pop(name, None))

    def _run_task(self, request: dict[str, Any]) -> News:
        token = request["client_token"]
        if token not in self.tokens:
            if self.answers:
                answer = self.answers.pop(0)
                if answer is not None:
                    return answer
            self.tokens[token] = tuple(self.launch(request) for _ in range(request["count"]))
        return Launched(self.tokens[token])

    def launch(self, request: dict[str, Any]) -> str:
        arn = f"arn:task/{len(self.tasks)}"
        codes = self.codes.get(request["task_definition"], [])
        code = codes.pop(0) if codes else 0
        self.tasks[arn] = FakeTask(arn, request, self.now + timedelta(seconds=self.seconds), code)
        return arn

    def _describe(self, arns: tuple[str, ...]) -> Looked:
        if self.now < self.missing_until:
            return Looked((), frozenset(arns))
        return Looked(tuple(self.tasks[arn].shown(self.now) for arn in arns))

    def stop(self, arn: str, reason: str) -> None:
        task = self.tasks[arn]
        if self.now < task.ends_at:
            task.ends_at, task.code, task.stop_code, task.stopped_reason = self.now, 143, "UserInitiated", reason

    def effects(self) -> dict[str, int]:
        """Tasks that were launched, by definition."""
        counted: dict[str, int] = {}
        for task in self.tasks.values():
            name = task.request["task_definition"]
            counted[name] = counted.get(name, 0) + 1
        return counted

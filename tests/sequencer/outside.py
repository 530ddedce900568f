"""What is outside of a run: an ECS that honours tokens, records in memory, and the clock of the event loop.

Each point where a process may die is counted: before and after a write, before a call, after its effect but before its
answer, and after that.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from spotjob.core.sequence.ports import (
    Action,
    Container,
    DescribeTasks,
    Launched,
    Looked,
    News,
    RecordChanged,
    RecordUnreachable,
    RunTask,
    StopTasks,
    Task,
)
from spotjob.core.sequence.resume import resumed
from spotjob.core.sequence.runs import Run, new_run
from spotjob.core.sequence.steps import Sequence, Step
from spotjob.sequencer.play import Outside, play
from tests.builders import NOW


class Killed(Exception):
    """The process is no more."""


class LoopClock:
    """Implements ports.Clock on the event loop's time, which looptime makes virtual."""

    def __init__(self) -> None:
        self._tokens = 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def token(self) -> str:
        self._tokens += 1
        return f"{self._tokens * 0x9E3779B97F4A7C15 % 2**128:032x}"


@dataclass
class World:
    """One account with ECS, and one record that outlives its drivers."""

    task_seconds: float = 12.0
    codes: dict[str, int] = field(default_factory=dict)
    """Exit code of the tasks of a definition, where it is not 0."""
    logs: dict[str, list[str]] = field(default_factory=dict)
    """By definition."""
    launched: Counter[str] = field(default_factory=Counter)
    """Tasks by definition."""
    stopped: list[str] = field(default_factory=list)
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    looks: list[float] = field(default_factory=list)
    """When tasks were looked at."""
    ends: dict[str, tuple[float, str]] = field(default_factory=dict)
    record: tuple[Run, int] | None = None
    unreachable_until: float = 0.0
    die_at: int | None = None
    points: int = 0
    seen: list[Run] = field(default_factory=list)
    stop: str = ""
    clock: LoopClock = field(default_factory=LoopClock)

    async def drive(self, sequence: Sequence, results_used: frozenset[int] = frozenset()) -> Run:
        """One life of a driver, which takes up what there is."""
        stored = await self.load("run-1")
        if stored is None:
            run = new_run(sequence, "run-1", "digest", self.clock.now())
            version = await self.save(run, 0)
        else:
            run = resumed(sequence, stored[0], self.clock.now())
            version = await self.save(run, stored[1])
        return await play(sequence, run, version, self.outside(results_used))

    def outside(self, results_used: frozenset[int] = frozenset()) -> Outside:
        return Outside(
            records=self,
            perform=self.perform,
            log_tail=self.log_tail,
            clock=self.clock,
            watch=lambda run, _: self.seen.append(run),
            stopping=lambda: self.stop,
            results_used=results_used,
        )

    def may_die(self) -> None:
        self.points += 1
        if self.points == self.die_at:
            raise Killed

    # ---- the record ----

    async def load(self, run_id: str) -> tuple[Run, int] | None:
        return self.record

    async def save(self, run: Run, version: int) -> int:
        self.may_die()
        if self.clock.monotonic() < self.unreachable_until:
            raise RecordUnreachable("no answer")
        if version != (0 if self.record is None else self.record[1]):
            raise RecordChanged("written by somebody else")
        self.record = (Run.model_validate(run.wire()), version + 1)
        self.may_die()
        return version + 1

    # ---- ECS ----

    async def perform(self, action: Action) -> News:
        self.may_die()
        await asyncio.sleep(0.1)
        news = self._effect(action)
        self.may_die()
        await asyncio.sleep(0.1)
        self.may_die()
        return news

    def _effect(self, action: Action) -> News:
        match action:
            case RunTask(_, request):
                return Launched(self._launch(request))
            case DescribeTasks(_, _, arns):
                self.looks.append(self.clock.monotonic())
                return Looked(tuple(self._task(arn) for arn in arns))
            case StopTasks(_, _, arns, _):
                self.stopped += arns
                for arn in arns:
                    self.ends[arn] = (self.clock.monotonic(), self.ends[arn][1])
                return None
            case _:
                raise AssertionError(action)

    def _launch(self, request: Mapping[str, Any]) -> tuple[str, ...]:
        assert self.record is not None
        assert any(step.state == "Requesting" for step in self.record[0].steps), "it is not in the record"
        self.requests.append(request)
        token, definition = request["client_token"], request["task_definition"]
        if token not in self.tokens:
            first = len(self.ends)
            arns = tuple(f"arn:aws:ecs:us-east-1:1:task/c/{first + n}" for n in range(request["count"]))
            self.launched[definition] += len(arns)
            self.tokens[token] = arns
            self.ends.update({arn: (self.clock.monotonic() + self.task_seconds, definition) for arn in arns})
        return self.tokens[token]

    def _task(self, arn: str) -> Task:
        end, definition = self.ends[arn]
        if self.clock.monotonic() < end:
            return Task(arn, "RUNNING", "RUNNING", task_definition=definition, containers=(Container("main"),))
        code = 143 if arn in self.stopped else self.codes.get(definition, 0)
        return Task(
            arn,
            "STOPPED",
            "STOPPED",
            stop_code="UserInitiated" if arn in self.stopped else "EssentialContainerExited",
            stopped_reason="Essential container in task exited",
            task_definition=definition,
            containers=(Container("main", code),),
        )

    async def log_tail(self, region: str | None, task: Task, container: str, lines: int) -> tuple[str, ...]:
        return tuple(self.logs.get(task.task_definition, []))[-lines:]


def a_step(name: str, **fields: Any) -> Step:
    parameters = {"cluster": "c", "task_definition": f"{name}:1", "count": 1, **fields.pop("parameters", {})}
    return Step.model_validate({"name": name, "type": "ecs_task", "parameters": parameters, **fields})


def a_sequence(*steps: Step | str) -> Sequence:
    return Sequence(steps=tuple(a_step(step) if isinstance(step, str) else step for step in steps))

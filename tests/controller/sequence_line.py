"""What one operator reaches of the world: the API server and ECS, until it is killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spotjob.core.ports import Conflict, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.ports import (
    Container,
    DescribeTasks,
    FindTasks,
    Found,
    Launched,
    Looked,
    News,
    RunTask,
    StopTasks,
    Task,
)
from spotjob.core.sequence.resources import SEQUENCE_FINALIZER, JobSequence
from tests.builders import merged

if TYPE_CHECKING:
    from tests.controller.sequence_world import World

Raw = dict[str, Any]


@dataclass
class Life:
    """One operator process."""

    dead: bool = False
    leads: bool = True

    def leading(self) -> bool:
        return self.leads


class Line:
    """All that one operator reaches: SequenceApi, the SpotJobs, and ECS."""

    def __init__(self, world: World, life: Life) -> None:
        self._world, self._life = world, life

    async def _effect(self, name: str) -> None:
        await asyncio.sleep(0.005)
        await self._world.at_a_point(self._life)
        self._world.writes[name] += 1

    async def _answered(self, name: str) -> None:
        await self._world.at_a_point(self._life)
        if self._world.lost[name] > 0:
            self._world.lost[name] -= 1
            raise Unanswered(f"{name}: the answer is lost")

    # ---- JobSequences ----

    async def list_all(self) -> list[JobSequence]:
        return [JobSequence.model_validate(raw) for raw in self._world.raw("JobSequence")]

    async def get(self, namespace: str, name: str) -> JobSequence:
        return JobSequence.model_validate(self._found("JobSequence", f"{namespace}/{name}"))

    async def create(self, namespace: str, body: Mapping[str, Any]) -> JobSequence:
        await self._effect("create")
        if self._world.there("JobSequence", body["metadata"]["name"]):
            raise Conflict(409, "AlreadyExists")
        raw = self._world.store("JobSequence", json.loads(json.dumps({**body, "status": {}})))
        await self._answered("create")
        return JobSequence.model_validate(raw)

    async def write_status(self, held: JobSequence, patch: Mapping[str, Any]) -> JobSequence:
        await self._effect("status")
        raw = self._unchanged(held)
        raw["status"] = merged(raw["status"], json.loads(json.dumps(patch)))
        self._world.changed("JobSequence", raw)
        await self._answered("status")
        return JobSequence.model_validate(raw)

    async def guard(self, held: JobSequence) -> JobSequence:
        await self._effect("finalizer")
        raw = self._unchanged(held)
        raw["metadata"]["finalizers"] = [SEQUENCE_FINALIZER]
        self._world.changed("JobSequence", raw)
        await self._answered("finalizer")
        return JobSequence.model_validate(raw)

    async def release(self, held: JobSequence) -> JobSequence | None:
        await self._effect("finalizer")
        raw = self._unchanged(held)
        raw["metadata"]["finalizers"] = []
        (self._world.gone if held.deleting else self._world.changed)("JobSequence", raw)
        await self._answered("finalizer")
        return None if held.deleting else JobSequence.model_validate(raw)

    async def tell(self, held: JobSequence, reason: str, message: str, warning: bool = False) -> None:
        self._world.events.append((held.metadata.name, reason))

    async def delete(self, held: JobSequence) -> None:
        await self._effect("delete")
        if self._world.there("JobSequence", held.metadata.name):
            self._world.delete(name=held.metadata.name)
        await self._answered("delete")

    def _found(self, kind: str, key: str) -> Raw:
        if (kind, key) not in self._world.objects:
            raise NotFound(404, f"{key} not found")
        return self._world.objects[kind, key]

    def _unchanged(self, held: JobSequence) -> Raw:
        raw = self._found("JobSequence", held.key)
        if raw["metadata"]["resourceVersion"] != held.metadata.resource_version:
            raise Conflict(409, f"{held.key} has changed")
        return raw

    # ---- SpotJobs ----

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> SpotJob:
        await self._effect("create job")
        if self._world.there("SpotJob", body["metadata"]["name"]):
            raise Conflict(409, "AlreadyExists")
        body = json.loads(json.dumps(body))
        body["metadata"] |= {"namespace": namespace, "finalizers": ["spotjob.dev/instance"]}
        raw = self._world.store("SpotJob", {**body, "status": {}})
        await self._answered("create job")
        return SpotJob.model_validate(raw)

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        self._world.writes["get job"] += 1
        return SpotJob.model_validate(self._found("SpotJob", f"{namespace}/{name}"))

    async def delete_job(self, job: SpotJob) -> None:
        """Its instance takes a moment to end."""
        await self._effect("delete job")
        raw = self._found("SpotJob", job.key)
        self._world.delete("SpotJob", job.metadata.name)
        asyncio.get_running_loop().call_later(8, self._world.gone, "SpotJob", raw)
        await self._answered("delete job")

    # ---- ECS ----

    async def log_tail(self, region: str | None, task: Task, container: str, lines: int) -> tuple[str, ...]:
        return self._world.said if container == "main" else ("a sidecar's line",)

    async def perform(self, action: RunTask | FindTasks | DescribeTasks | StopTasks) -> News:
        match action:
            case RunTask(_, request):
                return await self._run_task(request)
            case DescribeTasks(_, _, arns, essential):
                self._world.looks.append(self._world.clock.monotonic())
                shown = tuple(self._shown(arn) for arn in arns)
                return Looked(shown, essential={"d:1": frozenset({"main"})} if essential else {})
            case StopTasks(_, _, arns):
                await self._effect("StopTask")
                for arn in arns:
                    self._world.tasks[arn]["ends_at"] = self._world.clock.monotonic()
                await self._answered("StopTask")
                return None
            case FindTasks():
                return Found(())

    async def _run_task(self, request: Mapping[str, Any]) -> Launched:
        await self._effect("RunTask")
        token = request["client_token"]
        if token not in self._world.tokens:
            arns = tuple(f"arn:task/{len(self._world.tasks) + n}" for n in range(request["count"]))
            ends_at = self._world.clock.monotonic() + self._world.seconds
            code = self._world.codes.get(request["task_definition"], 0)
            self._world.tasks |= {arn: {"request": request, "ends_at": ends_at, "code": code} for arn in arns}
            self._world.tokens[token] = arns
        await self._answered("RunTask")
        return Launched(self._world.tokens[token])

    def _shown(self, arn: str) -> Task:
        task = self._world.tasks[arn]
        if self._world.clock.monotonic() < task["ends_at"]:
            return Task(arn, "RUNNING", "RUNNING", containers=(Container("main"),))
        ended = (Container("a-sidecar", 0), Container("main", task["code"]))
        reason = "Essential container in task exited"
        return Task(arn, "STOPPED", "STOPPED", "EssentialContainerExited", reason, "d:1", ended)

"""JobSequences from outside: an API server in memory, an ECS that honours tokens, and operators that can be killed.

Every call that has an effect is two points: before the effect, and after it but before its answer. At the chosen
point the operator is gone, as by kill -9, and another one begins that knows only what the API server holds.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from spotjob.controller.sequences import Sequences
from spotjob.controller.store import Store
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.model_faults import Fault
from spotjob.core.sequence.resources import JobSequence
from tests.controller.sequence_line import Life, Line
from tests.simulation.account import LoopClock

Raw = dict[str, Any]
POLL_SECONDS = 5.0
ENDS = ("Succeeded", "Failed", "Stopped")


@dataclass
class World:
    """The API server, ECS, and whoever works on them."""

    clock: LoopClock = field(default_factory=LoopClock)
    objects: dict[tuple[str, str], Raw] = field(default_factory=dict)
    """By kind and key."""
    events: list[tuple[str, str]] = field(default_factory=list)
    """(name, reason)."""
    writes: Counter[str] = field(default_factory=Counter)
    """By what was written."""
    tasks: dict[str, Raw] = field(default_factory=dict)
    """By ARN: the request, since when and how long it runs, its exit code."""
    tokens: dict[str, tuple[str, ...]] = field(default_factory=dict)
    looks: list[float] = field(default_factory=list)
    """When DescribeTasks was called."""
    seconds: float = 12.0
    """How long a task or a job runs."""
    codes: dict[str, int] = field(default_factory=dict)
    """Exit codes of the tasks of a definition; 0 for all others."""
    said: tuple[str, ...] = ()
    """What every container has logged."""
    kill_at: int | None = None
    point: int = 0
    revision: int = 100
    watched: bool = True
    """False: the watch says nothing any more."""
    lost: Counter[str] = field(default_factory=Counter)
    """So many more calls of a name have their effect and no answer."""

    # ---- operators ----

    async def __aenter__(self) -> World:
        self._killed = asyncio.Event()
        self._begin_life()
        self._nature = asyncio.create_task(self._replace_the_dead())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await _ended(self._nature)
        await _ended(self._working)

    def _begin_life(self) -> None:
        self.life, self.jobs_seen = Life(), Store()
        line = Line(self, self.life)
        self.operator = Sequences(line, line, line, _check, self.jobs_seen, self.clock, self.life, POLL_SECONDS)  # type: ignore[arg-type]
        self._working = asyncio.create_task(self._work(self.operator))

    async def _work(self, operator: Sequences) -> None:
        for job in self.raw("SpotJob"):
            self.jobs_seen.put(SpotJob.model_validate(job))
        await operator.learn()
        await operator.run()

    async def _replace_the_dead(self) -> None:
        while True:
            await self._killed.wait()
            self._killed.clear()
            await self.new_life()

    async def new_life(self) -> None:
        """Another operator leads from now on."""
        self.life.dead = True
        await _ended(self._working)
        self._begin_life()

    async def at_a_point(self, life: Life) -> None:
        """The operator may end here."""
        if life.dead or self.point == self.kill_at:
            self.kill_at = None if self.point == self.kill_at else self.kill_at
            if not life.dead:
                life.dead = True
                self._killed.set()
            await asyncio.Future()
        self.point += 1

    # ---- what people do ----

    def apply(self, *steps: Raw, name: str = "nightly", **spec: Any) -> None:
        metadata = {"name": name, "namespace": "batch"}
        self.store("JobSequence", {"metadata": metadata, "spec": {"steps": list(steps), **spec}, "status": {}})

    def delete(self, kind: str = "JobSequence", name: str = "nightly") -> None:
        raw = self.objects[kind, f"batch/{name}"]
        if raw["metadata"].get("finalizers"):
            raw["metadata"].setdefault("deletionTimestamp", self.clock.now().isoformat())
            self.changed(kind, raw)
        else:
            self.gone(kind, raw)

    def suspend(self, suspend: bool, name: str = "nightly") -> None:
        raw = self.objects["JobSequence", f"batch/{name}"]
        raw["spec"]["suspend"] = suspend
        self.changed("JobSequence", raw)

    def there(self, kind: str = "JobSequence", name: str = "nightly") -> bool:
        return (kind, f"batch/{name}") in self.objects

    def loses_the_lease_at(self, write: int) -> None:
        """Once so many status writes have been made."""

        def leading() -> bool:
            return self.writes["status"] < write

        self.life.leading = leading  # type: ignore[method-assign]

    def sequence(self, name: str = "nightly") -> JobSequence:
        return JobSequence.model_validate(self.objects["JobSequence", f"batch/{name}"])

    def names(self, kind: str = "JobSequence") -> list[str]:
        return [raw["metadata"]["name"] for raw in self.raw(kind)]

    def raw(self, kind: str) -> list[Raw]:
        return [raw for (its_kind, _), raw in self.objects.items() if its_kind == kind]

    def launched(self) -> list[str]:
        """Task definitions, in the order of their launches."""
        return [str(task["request"]["task_definition"]) for task in self.tasks.values()]

    def running(self) -> list[str]:
        now = self.clock.monotonic()
        return [arn for arn, task in self.tasks.items() if now < task["ends_at"]]

    async def over(self, name: str = "nightly", seconds: float = 7200) -> JobSequence:
        """Once it has come to its end and was let go."""
        raw = self.objects["JobSequence", f"batch/{name}"]
        for _ in range(int(seconds)):
            if raw["status"].get("phase") in ENDS and not raw["metadata"].get("finalizers"):
                return self.sequence(name)
            await asyncio.sleep(1)
        raise AssertionError(f"{name} is not over: {self.sequence(name).status}")

    # ---- storage ----

    def store(self, kind: str, raw: Raw) -> Raw:
        self.revision += 1
        known = {"uid": f"uid-{self.revision}", "generation": 1, "creationTimestamp": self.clock.now().isoformat()}
        raw["metadata"] = {"namespace": "batch", "labels": {}, **raw["metadata"], **known}
        self.objects[kind, f"batch/{raw['metadata']['name']}"] = raw
        self.changed(kind, raw)
        if kind == "SpotJob":
            asyncio.get_running_loop().call_later(self.seconds, self._finish, raw)
        return raw

    def changed(self, kind: str, raw: Raw) -> None:
        self.revision += 1
        raw["metadata"]["resourceVersion"] = str(self.revision)
        self._tell(kind, raw, there=True)

    def gone(self, kind: str, raw: Raw) -> None:
        self.revision += 1
        raw["metadata"]["resourceVersion"] = str(self.revision)
        del self.objects[kind, f"batch/{raw['metadata']['name']}"]
        self._tell(kind, raw, there=False)

    def _tell(self, kind: str, raw: Raw, there: bool) -> None:
        """The watch, a little late."""
        if not self.watched:
            return
        whole = json.loads(json.dumps(raw))
        asyncio.get_running_loop().call_later(0.01, self._watched, kind, whole, there)

    def _watched(self, kind: str, raw: Raw, there: bool) -> None:
        if kind == "JobSequence":
            held = JobSequence.model_validate(raw)
            (self.operator.changed if there else self.operator.deleted)(held)
            return
        job = SpotJob.model_validate(raw)
        if there:
            self.jobs_seen.put(job)
        else:
            self.jobs_seen.drop(job.key, job.metadata.uid)
        self.operator.job_changed(job)

    def _finish(self, raw: Raw) -> None:
        if self.there("SpotJob", raw["metadata"]["name"]):
            raw["status"] = {"phase": "TerminatedOK", "reason": "ContainerSucceeded", "exitCode": 0}
            self.changed("SpotJob", raw)


def _check(parameters: Mapping[str, Any]) -> Sequence[Fault]:
    return [] if "task_definition" in parameters else [(("task_definitionn",), "unknown key")]


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def ecs(name: str, **more: Any) -> Raw:
    return {"name": name, "type": "ecs_task", "parameters": {"cluster": "c", "task_definition": name}, **more}


def spot(name: str, **parameters: Any) -> Raw:
    return {"name": name, "type": "spot_job", "parameters": {"image": "busybox:1", **parameters}}


THREE = (ecs("extract"), spot("train"), ecs("report"))

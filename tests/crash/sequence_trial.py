"""Leads one JobSequence through one scenario, with at most one crash, and collects the evidence."""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import Any

from spotjob.core.ports import NotFound
from spotjob.core.sequence.resources import JobSequence
from spotjob.core.sequence.runs import StepState, job_name
from spotjob.core.wire import API_VERSION
from spotjob.kube.objects import read_sequence
from spotjob.kube.sequences import sequences_path
from spotjob.kube.transport import MERGE_PATCH
from tests.crash import run_oracle
from tests.crash.lane import Lane
from tests.crash.oracle import Fault, Finding, judge
from tests.crash.points import Point
from tests.crash.results import Result
from tests.crash.run_oracle import effects_of
from tests.crash.scenarios import WARM_UP
from tests.crash.sequences import LOAD, TRAIN, SequenceScenario, own
from tests.crash.trial import (
    NAMESPACE,
    PATIENCE_SECONDS,
    PAUSE_SECONDS,
    TRAILING_SECONDS,
    Trial,
    delete_class,
    make_class,
    spec_of,
)

JOB = WARM_UP
"""What the SpotJob of the second step lives through."""

_numbers = itertools.count(1)


class SequenceTrial:
    """One JobSequence. Raises nothing that the product does: that is in the findings."""

    def __init__(self, lane: Lane, scenario: SequenceScenario) -> None:
        self._lane, self._scenario = lane, scenario
        self._name = f"crash-{scenario.key}-{next(_numbers)}"
        self._path = sequences_path(NAMESPACE, self._name)
        self._deadline = time.monotonic() + PATIENCE_SECONDS
        self._seen: JobSequence | None = None

    async def live(self, point: Point | None) -> Result:
        begun, gate = time.monotonic(), self._lane.gate
        gate.begin(point)
        await make_class(self._lane, self._name)
        await self._lane.aws("POST", "ecs-rule", {"family": LOAD, **self._scenario.load})
        earlier = len(await self._tasks())
        if not self._scenario.deleted:
            gate.open()
        made = await self._lane.kube.request("POST", sequences_path(NAMESPACE), body=self._manifest())
        job = Trial(self._lane, JOB, job_name(made["metadata"]["uid"], 1, 1))
        try:
            if self._scenario.deleted:
                await self._delete_at_work()
            ended = await self._to_the_end()
            await asyncio.sleep(TRAILING_SECONDS)
        finally:
            gate.close()
        findings = [*self._findings(ended), *await self._judged(earlier), *await self._findings_of(job)]
        await self._clear(job)
        seen = [kind for kind in gate.seen if own(kind)]
        return Result(self._scenario, point, gate.fired, seen, findings, time.monotonic() - begun)

    # ---- the scenario ----

    def _manifest(self) -> dict[str, Any]:
        spec = spec_of(self._lane, JOB, self._name)
        steps = [
            {"name": LOAD, "type": "ecs_task", "parameters": {"task_definition": LOAD, "count": 2}},
            {"name": TRAIN, "type": "spot_job", "parameters": spec},
        ]
        metadata = {"name": self._name, "namespace": NAMESPACE}
        return {"apiVersion": API_VERSION, "kind": "JobSequence", "metadata": metadata, "spec": {"steps": steps}}

    async def _delete_at_work(self) -> None:
        await self._until(lambda held: _state(held) is StepState.RUNNING)
        self._lane.gate.open()
        await self._lane.kube.request("DELETE", self._path)

    async def _to_the_end(self) -> bool:
        """Whether it came to its end in time: gone, or over and let go."""
        if self._scenario.deleted:
            return await self._until(lambda held: held is None)
        return await self._until(lambda held: held is not None and held.over and not held.guarded)

    async def _until(self, condition: Any) -> bool:
        while not condition(await self._look()):
            if time.monotonic() > self._deadline:
                return False
            await asyncio.sleep(PAUSE_SECONDS)
        return True

    async def _look(self) -> JobSequence | None:
        try:
            self._seen = read_sequence(await self._lane.kube.request("GET", self._path))
        except NotFound:
            return None
        return self._seen

    async def _tasks(self) -> list[dict[str, Any]]:
        shown: list[dict[str, Any]] = (await self._lane.aws("GET", "ecs-tasks"))["tasks"]
        return shown

    # ---- afterwards ----

    def _findings(self, ended: bool) -> list[Finding]:
        status = self._seen.status if self._seen is not None else None
        if not ended:
            return [Finding(Fault.WRONG, f"the JobSequence is not over: {status}")]
        if self._scenario.deleted or (
            status and any((c.type, c.status) == ("Complete", "True") for c in status.conditions)
        ):
            return []
        return [Finding(Fault.WRONG, f"the JobSequence is not Complete: {status}")]

    async def _judged(self, earlier: int) -> list[Finding]:
        """The run, by the effects of RunTask and its record."""
        collapsed = tuple(await self._lane.steady())
        effects = effects_of((await self._tasks())[earlier:])
        run = self._seen.status.run if self._seen is not None else None
        return run_oracle.judge(run_oracle.Evidence(effects, run, collapsed), self._scenario.expected)

    async def _findings_of(self, job: Trial) -> list[Finding]:
        """The SpotJob of the second step, as the judge of jobs sees it."""
        if self._scenario.deleted:
            return [Finding(Fault.DOUBLE_RUN, "a SpotJob was created")] if job.history else []
        ended = await self._lane.watching.until(job.over, max(0.0, self._deadline - time.monotonic()))
        return judge(await job.evidence(ended), JOB.expected)

    async def _clear(self, job: Trial) -> None:
        """The SpotJob goes with its owner; what is stuck goes by force."""
        if await self._look() is not None:
            await self._lane.kube.request("DELETE", self._path)
            self._deadline = time.monotonic() + 30
            if not await self._until(lambda held: held is None):
                body: dict[str, Any] = {"metadata": {"finalizers": []}}
                await self._lane.kube.request("PATCH", self._path, body=body, content_type=MERGE_PATCH)
        await job.clear()
        await delete_class(self._lane, self._name)
        await self._lane.aws("DELETE", "ecs-orders")


def _state(held: JobSequence | None) -> StepState | None:
    """Of the first step."""
    return held.status.run.steps[0].state if held is not None and held.status.run is not None else None

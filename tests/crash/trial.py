"""Leads one job through one scenario, with at most one crash, and collects the evidence."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from spotjob.controller.lease import NAME as LEASE
from spotjob.core.contract import RESULT_LINE
from spotjob.core.ports import Conflict, NotFound
from spotjob.core.resources import SpotJob
from spotjob.core.wire import API_VERSION
from spotjob.kube.client import jobs_path
from spotjob.kube.transport import MERGE_PATCH, path
from tests.crash.lane import Lane
from tests.crash.oracle import Evidence, judge
from tests.crash.points import API, OPERATOR, Point
from tests.crash.results import Result
from tests.crash.scenarios import PLENTY, Scenario

NAMESPACE = "default"
CLASSES = path("apis", "spotjob.dev", "v1alpha1", "spotjobclasses")
PATIENCE_SECONDS = 240.0
"""A job that is not over by then is stuck; undisturbed ones take 5 to 20 s. Less than scenarios.LONG: what
is left running must still be seen."""
LAST_WORDS_SECONDS = 20.0
"""A container's connection may close this long after its instance was seen dead."""
TRAILING_SECONDS = 0.5
PAUSE_SECONDS = 0.2

_numbers = itertools.count(1)


class Stuck(Exception):
    """What the scenario waits for does not come."""


class Trial:
    """See scenarios.Trial."""

    def __init__(self, lane: Lane, scenario: Scenario, name: str | None = None) -> None:
        """`name` is that of a job which somebody else creates."""
        self.name = name or f"crash-{scenario.key}-{next(_numbers)}"
        self._lane, self._scenario = lane, scenario
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    # ---- the scenario's hands ----

    async def until(self, condition: Callable[[SpotJob], bool]) -> SpotJob:
        def holds() -> bool:
            return bool(self.history) and condition(self.history[-1])

        if not await self._lane.watching.until(holds, self._left):
            raise Stuck(f"{self.name} did not become what the scenario waits for")
        return self.history[-1]

    async def until_run(self, attempt: int) -> None:
        while not any(run.attempt == attempt for run in self._lane.witness.runs(self.name)):
            if not self._left:
                raise Stuck(f"attempt {attempt} of {self.name} did not run")
            await asyncio.sleep(PAUSE_SECONDS / 2)

    async def until_on_console(self, instance_id: str) -> None:
        while RESULT_LINE not in self._lane.console(instance_id):
            if not self._left:
                raise Stuck(f"no result on the console of {instance_id}")
            await asyncio.sleep(PAUSE_SECONDS)

    async def api(self, *, up: bool) -> None:
        if up:
            self._lane.start(API)
        else:
            self._lane.stop(API)

    def open(self) -> None:
        self._lane.gate.open()

    def close(self) -> None:
        self._lane.gate.close()

    async def lever(self, method: str, name: str, **body: Any) -> None:
        await self._lane.aws(method, name, body)

    async def patch(self, body: Mapping[str, Any]) -> None:
        await self._lane.kube.request("PATCH", jobs_path(NAMESPACE, self.name), body=body, content_type=MERGE_PATCH)

    async def delete_by_rest(self) -> None:
        await self._insist("DELETE", f"/v1/namespaces/{NAMESPACE}/jobs/{self.name}", None, {200, 202, 204, 404})

    async def _insist(self, http_method: str, where: str, body: Mapping[str, Any] | None, good: set[int]) -> None:
        """A client that asks again when it gets no answer, or is told to come again."""
        while self._left:
            with contextlib.suppress(OSError, http.client.HTTPException):
                status = await self._lane.rest(http_method, where, body)
                if status in good:
                    return
                if status < 500:
                    raise Stuck(f"{http_method} {where} was answered with {status}")
            await asyncio.sleep(PAUSE_SECONDS)
        raise Stuck(f"{http_method} {where} was never answered")

    # ---- the whole life ----

    @property
    def history(self) -> list[SpotJob]:
        return self._lane.watching.history(self.name)

    @property
    def gone(self) -> bool:
        return self._lane.watching.gone(self.name)

    @property
    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def live(self, point: Point | None) -> Result:
        """Raises nothing that the product does: that is in the findings."""
        begun = time.monotonic()
        gate = self._lane.gate
        gate.begin(point)
        await make_class(self._lane, self.name)
        if self._scenario.afresh:
            await self._lane.crash(OPERATOR)
            await self._lane.steady()
            await self._delete_lease()
        story = asyncio.create_task(self._tell())
        try:
            if self._scenario.by_rest:
                await self._create_by_rest()
            else:
                await self._lane.kube.create_raw(NAMESPACE, self._manifest())
            await story
            ended = await self._lane.watching.until(self.over, self._left)
            await asyncio.sleep(TRAILING_SECONDS)
        finally:
            story.cancel()
            gate.close()
        evidence = replace(await self.evidence(ended), collapsed=tuple(await self._lane.steady()))
        await self.clear()
        await delete_class(self._lane, self.name)
        seconds = time.monotonic() - begun
        findings = judge(evidence, self._scenario.expected)
        return Result(self._scenario, point, gate.fired, list(gate.seen), findings, seconds)

    async def _tell(self) -> None:
        """A story that gets stuck ends; what is wrong then shows in the job."""
        with contextlib.suppress(Stuck):
            await self._scenario.story(self)

    def over(self) -> bool:
        """The job has come to the end that the scenario has."""
        if self._scenario.expected.gone:
            return self.gone
        job = self.history[-1] if self.history else None
        phase = job.status.phase if job is not None else None
        return job is not None and phase is not None and phase.terminated and not job.guarded

    def _manifest(self) -> dict[str, Any]:
        return {
            "apiVersion": API_VERSION,
            "kind": "SpotJob",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": spec_of(self._lane, self._scenario, self.name),
        }

    async def _create_by_rest(self) -> None:
        """409 is what a second try is told when the first one's answer was lost."""
        body = {"name": self.name, "spec": self._manifest()["spec"]}
        await self._insist("POST", f"/v1/namespaces/{NAMESPACE}/jobs", body, {201, 409})

    async def _delete_lease(self) -> None:
        leases = path("apis", "coordination.k8s.io", "v1", "namespaces", self._lane.home, "leases")
        await self._lane.kube.request("DELETE", f"{leases}/{LEASE}")

    # ---- afterwards ----

    async def evidence(self, ended: bool) -> Evidence:
        instances = {attempt.instance_id for job in self.history for attempt in job.status.attempts}
        # Terminated means that nothing keeps the instance alive: it may still be shutting down.
        alive = await self._lane.alive(ending=False) & instances if ended else set()
        until = time.monotonic() + LAST_WORDS_SECONDS
        runs = self._lane.witness.runs(self.name)
        while any(run.ended is None for run in runs) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_SECONDS / 2)
        return Evidence(
            history=list(self.history),
            ended=ended,
            gone=self.gone,
            runs=runs,
            alive=frozenset(alive),
            item=await self._lane.item(self.history[-1].metadata.uid) if self.history else {},
        )

    async def clear(self) -> None:
        """The next job finds an empty cluster; a stuck job's object goes by force."""
        if self.history:
            self._lane.over(self.history[-1].metadata.uid)
        with contextlib.suppress(NotFound, Conflict):
            await self._lane.kube.delete_raw(NAMESPACE, self.name)
        if not await self._lane.watching.until(lambda: self.gone or not self.history, 30):
            with contextlib.suppress(NotFound):
                await self.patch({"metadata": {"finalizers": []}})


def spec_of(lane: Lane, scenario: Scenario, class_name: str) -> dict[str, Any]:
    """Of the scenario's job, whose container tells the witness what it does."""
    return {
        "image": lane.layout.test_image,
        "command": ["sh", "-c"],
        "args": [lane.witness.script(scenario.work)],
        "className": class_name,
        "instanceTypes": [PLENTY],
        **scenario.spec,
    }


async def make_class(lane: Lane, name: str) -> None:
    """One for each job: it gets its own launch template, and no instance that an earlier job left."""
    default = await lane.kube.request("GET", f"{CLASSES}/default")
    made = {
        "apiVersion": API_VERSION,
        "kind": "SpotJobClass",
        "metadata": {"name": name},
        "spec": default["spec"] | {"tags": {"crash": name}},
    }
    await lane.kube.request("POST", CLASSES, body=made)


async def delete_class(lane: Lane, name: str) -> None:
    await lane.kube.request("DELETE", f"{CLASSES}/{name}")

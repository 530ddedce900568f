"""Everything at once: reclaims, empty pools, throttling, a restarted operator, an API that does not answer.

What containers do is seen past the product: each holds a connection to the test open for as long as it lives.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from spotjob.clock import RealClock
from spotjob.core.reasons import Outcome
from spotjob.core.resources import SpotJob
from spotjob.core.states import Ended
from spotjob.kube.client import KubeClient
from spotjob.kube.config import from_kubeconfig
from spotjob.local.laptop import Options, Platform
from spotjob.local.layout import API, OPERATOR
from spotjob.local.progress import Progress
from tests.builders import after, running
from tests.crash.oracle import Evidence, Expected, Fault, Finding, judge
from tests.crash.watching import Watching
from tests.crash.witness import Run, Witness
from tests.e2e.platform import Person, Raw

JOBS = 200
SHORTEST_SECONDS, LONGEST_SECONDS = 5, 20
STORM_SECONDS = 60
WARNING_SECONDS = 8
WINDOW_SECONDS = 120
PATIENCE_SECONDS = 900
"""For all jobs to end. It takes less than 300 s on two cores that have nothing else to do."""


@pytest.fixture
def laptop(tmp_path: Path, control_plane_programs: object) -> Iterator[Platform]:
    """A platform of its own: this test breaks its parts."""
    platform = Platform(tmp_path / "state", Progress(Console(quiet=True)))
    try:
        platform.up(Options(settings={"SPOTJOB_LAUNCH_WINDOW_SECONDS": str(WINDOW_SECONDS)}))
        yield platform
    finally:
        platform.down()


@pytest.fixture
async def seen(laptop: Platform) -> AsyncIterator[tuple[Watching, Witness]]:
    async with AsyncExitStack() as stack:
        config = from_kubeconfig(Path(laptop.layout.admin_kubeconfig))
        kube = await stack.enter_async_context(KubeClient(config, RealClock()))
        watching = await stack.enter_async_context(Watching(kube))
        yield watching, await stack.enter_async_context(Witness())


class Storm:
    """What goes wrong, by a seed; `noticed` is when each instance got its notice, on the monotonic clock."""

    def __init__(self, person: Person, chance: random.Random) -> None:
        self._person, self._chance = person, chance
        self.noticed: dict[str, float] = {}
        self.done: Counter[str] = Counter()

    async def rage(self) -> None:
        async with asyncio.TaskGroup() as group:
            for trouble in (self._reclaims, self._empty_pools, self._throttling, self._restarts, self._cut):
                group.create_task(trouble())

    async def _reclaims(self) -> None:
        for _ in range(STORM_SECONDS):
            due = time.monotonic() + 1
            await asyncio.to_thread(self._reclaim_one)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _reclaim_one(self) -> None:
        running = [i["id"] for i in self._person.alive() if i["state"] == "running" and i["id"] not in self.noticed]
        if running:
            chosen = self._chance.choice(running)
            order = {"instanceId": chosen, "warningSeconds": WARNING_SECONDS}
            not_before = time.monotonic()  # the answer may come long after the notice, and after the signal
            if self._person.lever("interrupt", order):  # it may have ended since it was listed
                self.noticed[chosen] = not_before
                self.done["notices"] += 1

    async def _empty_pools(self) -> None:
        """One zone after the other for 5 s, and once all of them."""
        for zone in ("us-east-1a", "us-east-1b", "*", "us-east-1c", "us-east-1a", "us-east-1b"):
            await asyncio.to_thread(self._person.capacity, 0, zone=zone)
            await asyncio.sleep(5)
            await asyncio.to_thread(self._person.capacity, None, zone=zone)
            await asyncio.sleep(4)
            self.done["empty pools"] += 1

    async def _throttling(self) -> None:
        await asyncio.to_thread(self._person.aws, "POST", "throttle", {"on": True})
        for action in ("CreateFleet", "DescribeInstances", "TerminateInstances", "CreateFleet") * 3:
            fault = {"action": action, "code": "RequestLimitExceeded", "httpStatus": 503, "times": 2}
            await asyncio.to_thread(self._person.aws, "POST", "fault", fault)
            self.done["throttled calls"] += 2
            await asyncio.sleep(4.5)
        await asyncio.to_thread(self._person.aws, "POST", "throttle", {"on": False})

    async def _restarts(self) -> None:
        laptop = self._person.laptop
        await asyncio.sleep(12)
        await asyncio.to_thread(laptop.kill, OPERATOR)
        await asyncio.to_thread(laptop.start, OPERATOR)
        self.done["kill -9 of the operator"] += 1
        await asyncio.sleep(20)
        await asyncio.to_thread(laptop.processes.stop, [OPERATOR], grace_seconds=30)
        await asyncio.to_thread(laptop.start, OPERATOR)
        self.done["SIGTERM of the operator"] += 1

    async def _cut(self) -> None:
        await asyncio.sleep(20)
        with self._person.stopped(API):
            await asyncio.sleep(20)
        self.done["seconds without API"] += 20


async def test_two_hundred_jobs_survive_a_storm(laptop: Platform, seen: tuple[Watching, Witness]):
    watching, witness = seen
    person, seed = Person(laptop), random.SystemRandom().randrange(10_000)
    chance, names = random.Random(seed), [f"chaos-{n:03}" for n in range(JOBS)]
    storm, begun = Storm(person, chance), time.monotonic()
    print(f"seed {seed}")
    work = {name: f"sleep {chance.uniform(SHORTEST_SECONDS, LONGEST_SECONDS):.1f}; code=0" for name in names}
    await asyncio.to_thread(person.apply, *[person.manifest(name, witness.script(work[name])) for name in names])
    await watching.until(lambda: sum(newest(watching, n) == "Running" for n in names) >= 10, PATIENCE_SECONDS)
    await storm.rage()
    storm_over = time.monotonic() - begun

    def all_over() -> bool:
        return all(ended(watching, name) for name in names)

    over = await watching.until(all_over, PATIENCE_SECONDS)
    took = time.monotonic() - begun
    await asyncio.to_thread(person.leave_no_instance, WINDOW_SECONDS + 60)
    items = {item["name"]: item for item in await asyncio.to_thread(person.items)}

    jobs = {name: watching.history(name)[-1] for name in names}
    print(f"{JOBS} jobs, {dict(storm.done)}; the storm was over after {storm_over:.0f} s, all jobs after {took:.0f} s")
    print(figures(list(jobs.values()), [run for name in names for run in witness.runs(name)]))
    assert over, Counter(str(job.status.reason) for job in jobs.values())
    findings = {name: faults(watching, witness, name, items.get(name, {}), storm.noticed) for name in names}
    assert {name: found for name, found in findings.items() if found} == {}
    outcomes = {str(attempt.outcome) for job in jobs.values() for attempt in job.status.attempts}
    assert outcomes <= {"Succeeded", "Interrupted", "NeverStarted"}
    assert [name for name, job in jobs.items() if job.status.counts.failures or job.status.counts.launch_errors] == []
    assert sum(job.status.counts.interruptions for job in jobs.values()) >= 10  # else the storm was none


@pytest.mark.parametrize(
    ("outcome", "noticed_at", "found"),
    [("Interrupted", None, 1), ("Interrupted", 30.0, 1), ("Interrupted", 10.0, 0), ("Succeeded", None, 0)],
)
def test_an_exit_with_0_that_nobody_had_disturbed_must_be_believed(outcome: str, noticed_at: float | None, found: int):
    job = after(running(), Ended(Outcome(outcome), ""))
    number, instance = job.status.attempts[0].number, job.status.attempts[0].instance_id
    run = Run(job.metadata.name, number, begun=5.0, ended=20.0, exit_code=0)
    assert len(lost(job, [run], {} if noticed_at is None else {instance: noticed_at})) == found


def newest(watching: Watching, name: str) -> str:
    history = watching.history(name)
    return str(history[-1].status.phase or "") if history else ""


def ended(watching: Watching, name: str) -> bool:
    """Nothing will be written about it any more."""
    return newest(watching, name).startswith("Terminated") and not watching.history(name)[-1].guarded


def faults(watching: Watching, witness: Witness, name: str, item: Raw, noticed: dict[str, float]) -> list[Finding]:
    """All that is wrong with one job."""
    runs = witness.runs(name)
    numbers = tuple(run.attempt for run in sorted(runs, key=lambda run: run.begun))
    evidence = Evidence(watching.history(name), ended=True, gone=False, runs=runs, item=item)
    found = [f for f in judge(evidence, Expected(runs=numbers)) if f.fault is not Fault.LOST_RESULT]
    return found + lost(watching.history(name)[-1], runs, noticed)


def lost(job: SpotJob, runs: list[Run], noticed: dict[str, float]) -> list[Finding]:
    """Runs that had exited 0 before EC2 said anything, and were not believed. Later ones may have been signalled."""
    found = []
    for attempt in job.status.attempts:
        run = next((r for r in runs if r.attempt == attempt.number and r.exit_code == 0), None)
        if run is None or run.ended is None or attempt.outcome == "Succeeded":
            continue
        if run.ended < noticed.get(attempt.instance_id, float("inf")):
            found.append(Finding(Fault.LOST_RESULT, f"attempt {attempt.number} had exited 0, and is {attempt.outcome}"))
    return found


def figures(jobs: list[SpotJob], runs: list[Run]) -> str:
    attempts = Counter(str(attempt.outcome) for job in jobs for attempt in job.status.attempts)
    most = max(len(job.status.attempts) for job in jobs)
    again = sum(1 for run in runs if run.exit_code == 0) - sum(1 for job in jobs if job.status.exit_code == 0)
    said = f"attempts {dict(attempts)}, at most {most} of one job; {len(runs)} containers, {again} finished in vain"
    by_end = sorted((job for job in jobs if job.status.completion_time), key=_completion)
    if len(by_end) < 2:
        return said
    late = _completion(by_end[-1]) - _completion(by_end[-2])
    return (
        f"{said}; the last one, {by_end[-1].metadata.name}, ended {late.total_seconds():.0f} s after the last but one"
    )


def _completion(job: SpotJob) -> datetime:
    assert job.status.completion_time is not None
    return job.status.completion_time

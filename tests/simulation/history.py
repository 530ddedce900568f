"""One seed is one history: random jobs, random faults, then peace; in the end, and all the way, the invariants.

The same seed gives the same history exactly, as long as PYTHONHASHSEED is the same (simulate sets it to 0).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any

from spotjob.core.contract import Assignment, FinishedAs
from spotjob.core.resources import SpotJob
from spotjob.local.ec2 import Timing
from tests.simulation.account import START, a_class
from tests.simulation.container import Behaviour
from tests.simulation.faults import Faults
from tests.simulation.invariants import Invariants
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World

TROUBLE_SECONDS = 300.0
SETTLED_SECONDS = 90.0
"""After this long in peace nothing may live on that no job needs."""
LONGEST_PEACE_SECONDS = 2 * 3600.0
LOOK_SECONDS = 5.0
FAILS: tuple[FinishedAs, ...] = ("ImagePullFailed", "RegistryUnavailable", "RegistryUnavailable", "StartFailed")
FALLBACKS = (
    {"afterInterruptions": 1},
    {"afterWaitingSeconds": 30},
    {"afterInterruptions": 2, "afterWaitingSeconds": 60},
)


@dataclass(frozen=True)
class History:
    """What came of one seed."""

    seed: int
    jobs: int
    attempts: int
    faults: Counter[str]
    violations: tuple[str, ...]
    seconds: float
    """Of virtual time."""
    digest: str
    """Equal for equal histories."""


def play(seed: int) -> History:
    """Play one history on a loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner, _errors() as errors:
        return runner.run(_Play(seed, errors).play())


class _Play:
    """One history under way."""

    def __init__(self, seed: int, errors: list[str]) -> None:
        self._seed, self._errors = seed, errors
        self._chance = Random(seed)
        self._trace = hashlib.sha256()

    async def play(self) -> History:
        chance = self._chance
        timing = Timing(
            boot_seconds=chance.uniform(2, 30), shutdown_seconds=chance.uniform(5, chance.choice((60, 240)))
        )
        window = chance.choice((120, 180, 300))
        async with World(timing=timing, tick_seconds=0.5, launch_window_seconds=window) as world:
            world.behaviour = self._behaviour
            most = chance.randint(1, 4) if chance.random() < 0.3 else 1000
            limits = {"maxConcurrent": most, "maxInstanceSeconds": chance.choice((900, 3000))}
            world.cluster.classes[0] = a_class("default", default=True, **limits)
            world.report_seconds = chance.choice((60.0, 600.0))
            world.cluster.watch_seconds = chance.choice((0.01, 0.3, 2.0))
            faults = Faults(world, Random(chance.random()))
            invariants = Invariants(world, faults)
            world.cluster.journal.append(self._note)
            world.network.passing.append(lambda action, request: self._add(world, action, sorted(map(str, request))))
            if chance.random() < 0.5:
                world.start_operator()
            await self._trouble(world, faults)
            await faults.over()
            if chance.random() < 0.4:
                faults.stop_some_calmly()
            await self._peace(world, invariants)
            invariants.at_rest()
            violations = (*invariants.violations, *self._errors)
            return self._told(world, faults, invariants, violations)

    def _told(
        self, world: World, faults: Faults, invariants: Invariants, violations: tuple[str, ...]
    ) -> History:  # fmt: skip
        return History(
            seed=self._seed,
            jobs=invariants.jobs,
            attempts=invariants.attempts,
            faults=faults.injected,
            violations=violations,
            seconds=world.clock.monotonic(),
            digest=self._trace.hexdigest()[:16],
        )

    # ---- what happens ----

    async def _trouble(self, world: World, faults: Faults) -> None:
        chance = self._chance
        kinds = sorted(faults.kinds())
        if chance.random() < 0.5:  # few kinds, often: what only meets by twos would hardly ever meet
            kinds = chance.sample(kinds, chance.randint(2, 5))
        hot = [chance.uniform(0, 150) for _ in range(chance.randint(1, 3))]
        plan = [(self._near(hot, 6), "job", f"job-{n}") for n in range(chance.randint(2, 10))]
        plan += [(self._near(hot, 30), "fault", chance.choice(kinds)) for _ in range(chance.randint(0, 40))]
        async with asyncio.TaskGroup() as group:
            for at, what, name in sorted(plan):
                await asyncio.sleep(max(0.0, at - world.clock.monotonic()))
                if what == "job":
                    world.cluster.apply(name, **self._spec())
                else:
                    group.create_task(faults.inject(name))

    def _near(self, hot: list[float], seconds: float) -> float:
        """A time: as a rule soon after a hot moment, because most of what goes wrong needs two things at once."""
        if self._chance.random() < 0.7:
            return self._chance.choice(hot) + seconds * self._chance.random() ** 2
        return self._chance.uniform(0, TROUBLE_SECONDS)

    def _spec(self) -> dict[str, Any]:
        chance = self._chance
        spec: dict[str, Any] = {"backoffLimit": chance.choice((0, 0, 1, 3))}
        spec["startupDeadlineSeconds"] = chance.choice((60, 120, 600))
        if chance.random() < 0.3:
            spec["interruptionLimit"] = chance.randint(0, 2)
        if chance.random() < 0.15:
            spec["activeDeadlineSeconds"] = chance.randint(30, 400)
        if chance.random() < 0.15:
            spec["attemptDeadlineSeconds"] = chance.randint(5, 100)
        if chance.random() < 0.15:
            spec["capacityTimeoutSeconds"] = chance.randint(30, 300)
        if chance.random() < 0.15:
            spec["startAt"] = (START + timedelta(seconds=chance.randint(10, 300))).isoformat()
        if chance.random() < 0.1:
            spec["suspend"] = True
        if chance.random() < 0.2:
            spec["capacity"] = {"fallback": chance.choice(FALLBACKS)}
        if chance.random() < 0.1:
            spec["retryOn"] = {"never": [7]}
        if chance.random() < 0.2:
            spec["interruption"] = {"exitZero": "Succeeded"}
        spec["terminationGracePeriodSeconds"] = chance.choice((0, 10, 30, 100))
        return spec

    def _behaviour(self, pair: Assignment) -> Behaviour:
        """The container's run, the same whenever it is asked for."""
        chance = Random(f"{self._seed}/{pair.uid}/{pair.attempt}")
        return Behaviour(
            seconds=chance.choice((1.0, 10.0, 30.0, 60.0, 200.0, 900.0)) * chance.uniform(0.5, 1),
            code=chance.choice((0, 0, 0, 0, 1, 7)),
            prepare_seconds=chance.choice((0.0, 0.0, 5.0, 30.0, 100.0)),
            fails=chance.choice(FAILS) if chance.random() < 0.05 else None,
            says=chance.choice(("ok", "nok")) if chance.random() < 0.2 else None,
            stops_in=chance.choice((0.0, 1.0, 20.0, 200.0)),
        )

    async def _peace(self, world: World, invariants: Invariants) -> None:
        """Until nothing is left to do; longer than everything that may be waited for, it is a violation."""
        began = world.clock.monotonic()
        while world.clock.monotonic() - began < LONGEST_PEACE_SECONDS:
            await asyncio.sleep(LOOK_SECONDS)
            if world.clock.monotonic() - began > SETTLED_SECONDS:
                invariants.settled()
            if invariants.everything_is_done():
                return

    # ---- what is noted ----

    def _note(self, _: SpotJob | None, job: SpotJob) -> None:
        moment = asyncio.get_running_loop().time()
        line = f"{moment:.6f} {job.key} {job.metadata.resource_version} {job.status.reason} {job.status.instance_id}"
        self._trace.update(line.encode())

    def _add(self, world: World, *words: object) -> None:
        self._trace.update(f"{world.clock.monotonic():.6f} {words}".encode())


class _Collector(logging.Handler):
    """What the operator logs with a traceback is a bug of it."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self._errors.append(f"the operator failed: {record.getMessage()}: {record.exc_info[1]!r}")


@contextmanager
def _errors() -> Iterator[list[str]]:
    errors: list[str] = []
    collector, loggers = _Collector(errors), [logging.getLogger("spotjob"), logging.getLogger("asyncio")]
    levels = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(collector)
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        yield errors
    finally:
        for logger, level, propagate in levels:
            logger.removeHandler(collector)
            logger.setLevel(level)
            logger.propagate = propagate

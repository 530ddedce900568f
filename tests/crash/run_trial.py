"""Leads one run of a sequence to its end, with at most one crash on the way, and collects the evidence."""

from __future__ import annotations

import itertools
import time

from tests.crash.points import Point
from tests.crash.results import Result
from tests.crash.run_lane import RunLane
from tests.crash.run_oracle import Evidence, effects_of, judge
from tests.crash.run_records import FileRecord, Record, TableRecord
from tests.crash.runs import TABLE, RunScenario

KILLED, DONE, FAILED = -9, 0, 1
LAST_LINES = 5

_numbers = itertools.count(1)


class RunTrial:
    """One run. Raises nothing that the product does: that is in the findings."""

    def __init__(self, lane: RunLane, scenario: RunScenario) -> None:
        self._lane, self._scenario = lane, scenario
        number = next(_numbers)
        self._document = lane.folder / f"{scenario.key}-{number}.yml"
        self._record: Record = FileRecord(lane.folder / f"runs-{number}")
        if scenario.record == TABLE:
            self._record = TableRecord(lane, f"SequenceRuns-{number}")

    async def live(self, point: Point | None) -> Result:
        begun = time.monotonic()
        self._document.write_text(self._scenario.document)
        await self._lane.lever("DELETE", "ecs-orders")
        for order in self._scenario.orders:
            await self._lane.lever("POST", "ecs-rule", **order)
        earlier = len(await self._lane.tasks())
        gate = self._lane.gate
        gate.begin(point)
        collapsed = await self._to_the_end()
        gate.close()
        tasks = (await self._lane.tasks())[earlier:]
        evidence = Evidence(effects_of(tasks), await self._record.read(), collapsed)
        findings = judge(evidence, self._scenario.expected)
        return Result(self._scenario, point, gate.fired, list(gate.seen), findings, time.monotonic() - begun)

    async def _to_the_end(self) -> tuple[str, ...]:
        """Resume the run until it is good: how a process ended that should not have, and its last words."""
        failures, crashes = 0, self._lane.crashes
        while True:
            if failures == self._scenario.failing:
                self._lane.gate.open()
            code = await self._lane.run(await self._arguments())
            if code == DONE:
                return ()
            if code == KILLED and self._lane.crashes > crashes:
                crashes = self._lane.crashes
            elif code == FAILED and failures < self._scenario.failing:
                failures += 1
            else:
                return (f"the command line ended with {code}: {self._last_words()}",)

    async def _arguments(self) -> list[str]:
        run = await self._record.read()
        again = ["--resume", run.id] if run is not None else []
        return [str(self._document), "--state", self._record.state, *again]

    def _last_words(self) -> str:
        return "\n".join(self._lane.log.read_text(errors="replace").splitlines()[-LAST_LINES:])

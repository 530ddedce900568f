"""A few of the points of `make crashtest` at which the command line of the Sequencer is killed and its run resumed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.crash.points import Kind, Moment, Point, Write
from tests.crash.run_lane import SEQUENCER, RunLane
from tests.crash.run_trial import RunTrial
from tests.crash.runs import RUNS

pytestmark = pytest.mark.asyncio(loop_scope="module")

BY_KEY = {scenario.key: scenario for scenario in RUNS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lane(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunLane]:
    async with RunLane(tmp_path_factory.mktemp("account")) as lane:
        yield lane


@pytest.mark.parametrize(
    ("key", "what", "moment"),
    [
        ("seq-table", "RunTask, load, Requesting", Moment.CALLED),
        ("seq-file", "record: load, Requesting", Moment.CALLED),
        ("seq-again", "GetItem", Moment.CALLED),
    ],
)
async def test_a_resumed_run_runs_every_step_exactly_once(lane: RunLane, key: str, what: str, moment: Moment):
    crashes = lane.crashes
    result = await RunTrial(lane, BY_KEY[key]).live(Point(key, Write(Kind(SEQUENCER, what), 1), moment))
    assert (result.fired, result.findings) == (True, [])
    assert lane.crashes == crashes + 1

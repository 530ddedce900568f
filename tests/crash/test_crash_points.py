"""A few of the points of `make crashtest`, so that it stays able to find something."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from spotjob.local.laptop import Platform
from tests.crash import account
from tests.crash.lane import Lane
from tests.crash.points import API, OPERATOR, Kind, Moment, Point, Write
from tests.crash.scenarios import SCENARIOS, WARM_UP
from tests.crash.sequence_trial import SequenceTrial
from tests.crash.sequences import SEQUENCES
from tests.crash.trial import Trial

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module")]

PLAIN = next(scenario for scenario in SCENARIOS if scenario.key == "a")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lane(laptop: Platform) -> AsyncIterator[Lane]:
    """The shared platform, with proxies; afterwards it is as it was, and without instances."""
    try:
        async with Lane(laptop) as lane:
            account.register(lane.layout.aws_url)
            await Trial(lane, WARM_UP).live(None)
            yield lane
            for instance in await lane.alive(ending=False):
                await lane.aws("POST", "reclaim", {"instanceId": instance})
    finally:
        laptop.up()


@pytest.mark.parametrize(
    ("process", "what", "moment"),
    [
        (OPERATOR, "CreateFleet", Moment.CALLED),
        (OPERATOR, "status Requested Booting (bind)", Moment.CALLED),
        (API, "status PullingImage (claim)", Moment.CALLED),
        (API, "status FinishedOK ContainerSucceeded", Moment.BEFORE),
        (OPERATOR, "status TerminatedOK", Moment.REPLIED),
        (OPERATOR, "finalizer off", Moment.CALLED),
    ],
)
async def test_a_job_outlives_a_kill(lane: Lane, process: str, what: str, moment: Moment):
    crashes = lane.crashes
    result = await Trial(lane, PLAIN).live(Point(PLAIN.key, Write(Kind(process, what), 1), moment))
    assert (result.fired, result.findings) == (True, [])
    assert lane.crashes == crashes + 1


@pytest.mark.parametrize(
    ("what", "moment"), [("RunTask", Moment.CALLED), ("create spotjob", Moment.CALLED)], ids=["RunTask", "its SpotJob"]
)
async def test_a_sequence_outlives_a_kill_and_runs_each_step_once(lane: Lane, what: str, moment: Moment):
    crashes = lane.crashes
    completing = SEQUENCES[0]
    point = Point(completing.key, Write(Kind(OPERATOR, what), 1), moment)
    result = await SequenceTrial(lane, completing).live(point)
    assert (result.fired, result.findings) == (True, [])
    assert lane.crashes == crashes + 1

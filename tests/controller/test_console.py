"""The search for a result on a dead instance's console, on a virtual clock."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import pytest

from spotjob.controller.console import AT_ONE_TIME, LAST_PAUSE, ConsoleReader
from spotjob.core.contract import RESULT_LINE
from spotjob.core.handover import token_claims
from spotjob.core.ports import Console, Ec2Unanswered
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Claimed, Started, Waiting
from spotjob.core.tokens import sign
from tests.builders import a_job, after, an_instance
from tests.simulation.account import START, LoopClock

pytestmark = pytest.mark.looptime

KEYRING = {"k1": b"a key of the test of 32 bytes..."}
LAUNCHED = START - timedelta(hours=1)


class Ec2:
    """EC2 in every region. The console of every instance is `console`; what raises is `trouble`."""

    def __init__(self) -> None:
        self.console: Console | None = Console("", LAUNCHED + timedelta(minutes=2))
        self.trouble: Exception | None = None
        self.seconds: dict[str, float] = {}
        """How long an answer takes, by region."""
        self.asked: list[float] = []
        self.under_way = self.most_under_way = 0

    def ec2(self, region: str) -> Region:
        return Region(self, region)


class Region:
    def __init__(self, account: Ec2, name: str) -> None:
        self._account, self._name = account, name

    async def console_output(self, instance_id: str) -> Console | None:
        account = self._account
        account.asked.append(asyncio.get_running_loop().time())
        account.under_way += 1
        account.most_under_way = max(account.most_under_way, account.under_way)
        await asyncio.sleep(account.seconds.get(self._name, 0.01))
        account.under_way -= 1
        if account.trouble is not None:
            raise account.trouble
        return account.console


class Searching:
    """A reader, and the keys that it has put into the queue."""

    def __init__(self) -> None:
        self.ec2, self.told = Ec2(), asyncio.Queue[str]()
        self.reader = ConsoleReader(self.ec2, KEYRING, LoopClock(), self.told.put_nowait)  # type: ignore[arg-type]

    async def outcome(self, job: SpotJob) -> tuple[int | str, float]:
        """The exit code that was found, or `nothing`, and after how many seconds."""
        self.reader.want(job)
        async with asyncio.timeout(3600):
            assert await self.told.get() == job.key
        words = self.reader.answer(job)
        assert words is not None
        found = "nothing" if words.report is None else words.report.exit_code
        assert found is not None
        return found, asyncio.get_running_loop().time()


@asynccontextmanager
async def searching() -> AsyncIterator[Searching]:
    made = Searching()
    try:
        yield made
    finally:
        made.reader.stop()
        await asyncio.sleep(0)


def a_silent_job(name: str = "night", region: str = "us-east-1", noted: datetime = START) -> SpotJob:
    """It ran for an hour, then its instance died; the operator has noted that at `noted`."""
    ran = after(a_job(name=name), Bound(an_instance(region=region)), Claimed("hash"), Started(LAUNCHED), at=LAUNCHED)
    return after(ran, Waiting(Reason.AWAITING_RESULT, "gone"), at=noted)


def a_result(job: SpotJob, exit_code: int = 7) -> str:
    assert job.current is not None
    words = f"{job.current.instance_id} {job.metadata.uid} {job.current.number} Exited {exit_code} free"
    token = sign(KEYRING, token_claims("agent", job, job.current))
    return f"{RESULT_LINE} {words} {hmac.new(token.encode(), words.encode(), hashlib.sha256).hexdigest()}\r\n"


async def test_a_result_that_is_there_is_found_at_once() -> None:
    async with searching() as search:
        job = a_silent_job()
        search.ec2.console = Console(a_result(job), START)
        assert await search.outcome(job) == (7, pytest.approx(0.01, abs=0.1))


async def test_a_result_that_ec2_shows_minutes_after_the_end_is_found() -> None:
    async with searching() as search:
        job = a_silent_job()
        later = Console(a_result(job), START)
        asyncio.get_running_loop().call_later(240, setattr, search.ec2, "console", later)
        exit_code, seconds = await search.outcome(job)
        assert exit_code == 7
        assert 240 <= seconds < 240 + 1.2 * LAST_PAUSE + 1


async def test_the_console_of_the_boot_is_not_taken_for_the_end() -> None:
    async with searching() as search:
        job = a_silent_job()
        search.reader.want(job)
        await asyncio.sleep(590)
        assert search.reader.answer(job) is None
        assert len(search.ec2.asked) > 15


async def test_the_end_without_a_result_is_certain_when_ec2_has_shown_it_and_had_its_time() -> None:
    async with searching() as search:
        search.ec2.console = Console("reboot: Power down\n", START - timedelta(seconds=10))
        found, seconds = await search.outcome(a_silent_job())
        assert found == "nothing"
        assert 30 <= seconds < 75


async def test_an_instance_that_ec2_has_forgotten_tells_nothing() -> None:
    async with searching() as search:
        search.ec2.console = None
        assert await search.outcome(a_silent_job()) == ("nothing", pytest.approx(0.01, abs=0.1))


async def test_a_question_without_an_answer_is_asked_again() -> None:
    async with searching() as search:
        job = a_silent_job()
        search.ec2.console, search.ec2.trouble = Console(a_result(job), START), Ec2Unanswered("lost")
        asyncio.get_running_loop().call_later(20, setattr, search.ec2, "trouble", None)
        exit_code, seconds = await search.outcome(job)
        assert exit_code == 7
        assert seconds >= 20


async def test_wanting_twice_is_one_search_and_an_answer_is_kept_until_it_is_forgotten() -> None:
    async with searching() as search:
        job = a_silent_job()
        search.ec2.console = Console(a_result(job), START)
        search.reader.want(job)
        await search.outcome(job)
        search.reader.want(job)
        await asyncio.sleep(100)
        assert len(search.ec2.asked) == 1
        search.reader.forget(job.key)
        assert search.reader.answer(job) is None


async def test_a_search_ends_when_nobody_wants_it_any_more() -> None:
    async with searching() as search:
        job = a_silent_job()
        search.reader.want(job)
        await asyncio.sleep(10)
        search.reader.forget(job.key)
        asked = len(search.ec2.asked)
        await asyncio.sleep(300)
        assert len(search.ec2.asked) == asked > 0


async def test_few_are_asked_about_at_one_time() -> None:
    async with searching() as search:
        search.ec2.seconds["us-east-1"] = 5
        for number in range(50):
            search.reader.want(a_silent_job(f"job-{number}"))
        await asyncio.sleep(60)
        assert search.ec2.most_under_way == AT_ONE_TIME


async def test_a_region_that_does_not_answer_holds_up_no_other() -> None:
    async with searching() as search:
        search.ec2.seconds["eu-west-1"] = 3600
        for number in range(10):
            search.reader.want(a_silent_job(f"job-{number}", region="eu-west-1"))
        await asyncio.sleep(1)
        job = a_silent_job()
        search.ec2.console = Console(a_result(job), START)
        assert await search.outcome(job) == (7, pytest.approx(1, abs=0.2))

"""Asks the serial console of an instance that died without a report for the result that its agent left there.

`core.decide` says for how long; here it is asked with growing pauses until there is an answer: the result, or the
certainty that the console shows the instance's end and no result.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta

from spotjob.core.lastwords import read
from spotjob.core.ports import Aws, Clock, Console, Ec2Error, Ec2Unanswered
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import LastWords
from spotjob.core.tokens import Keyring

log = logging.getLogger(__name__)

PAUSES = (0.0, 2.0, 5.0, 10.0, 15.0)
LAST_PAUSE = 30.0
SETTLED = timedelta(seconds=30)
"""A console that was fetched at the instance's death, and this long ago, will say no more."""
DEATH_NOTED_WITHIN = timedelta(seconds=60)
"""Between an instance's death and the operator's note of it, as a rule. If it took longer, the search goes on."""
AT_ONE_TIME = 4
"""Questions in one region. Regions do not wait for each other."""

Key = tuple[str, int]
"""Of an attempt: the job's uid and the number."""


class ConsoleReader:
    """One search per attempt, from `want` until `forget`."""

    def __init__(self, aws: Aws, keyring: Keyring, clock: Clock, enqueue: Callable[[str], None]) -> None:
        self._aws, self._keyring, self._clock, self._enqueue = aws, keyring, clock, enqueue
        self._answers: dict[Key, LastWords] = {}
        self._searches: dict[str, tuple[Key, asyncio.Task[None]]] = {}  # by job key
        self._turns: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONE_TIME))

    def want(self, job: SpotJob) -> None:
        """Look for the result of the job's newest attempt, which must not be over."""
        attempt = job.running
        if attempt is None or (job.metadata.uid, attempt.number) in self._answers:
            return
        key = (job.metadata.uid, attempt.number)
        known = self._searches.get(job.key)
        if known is not None and known[0] == key:
            return
        self.forget(job.key)
        self._searches[job.key] = (key, asyncio.create_task(self._search(job, attempt)))

    def answer(self, job: SpotJob) -> LastWords | None:
        """What was found for the job's newest attempt; None while nothing is certain."""
        attempt = job.current
        return None if attempt is None else self._answers.get((job.metadata.uid, attempt.number))

    def forget(self, job_key: str) -> None:
        """Nobody needs the answer (any more)."""
        known = self._searches.pop(job_key, None)
        if known is not None:
            known[1].cancel()
            self._answers.pop(known[0], None)

    def stop(self) -> None:
        """This process does not lead any more."""
        for job_key in list(self._searches):
            self.forget(job_key)

    async def _search(self, job: SpotJob, attempt: Attempt) -> None:
        for number in range(1000):
            await self._clock.sleep(self._pause(number))
            async with self._turns[attempt.region]:
                words = await self._ask(job, attempt)
            if words is not None:
                self._answers[job.metadata.uid, attempt.number] = words
                self._enqueue(job.key)
                return

    def _pause(self, number: int) -> float:
        """Up to a fifth longer than planned, so that the searches after one outage drift apart."""
        jitter = int(self._clock.token()[:6], 16) / 0xFFFFFF
        return (PAUSES[number] if number < len(PAUSES) else LAST_PAUSE) * (1 + 0.2 * jitter)

    async def _ask(self, job: SpotJob, attempt: Attempt) -> LastWords | None:
        try:
            console = await self._aws.ec2(attempt.region).console_output(attempt.instance_id)
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("%s: the console of %s: %s", job.key, attempt.instance_id, error)
            return None
        if console is None:
            return LastWords(None)
        now = self._clock.now()
        report = read(console.text, job, attempt, self._keyring, now)
        if report is not None:
            log.info("%s: the console of %s tells the result", job.key, attempt.instance_id)
            return LastWords(report)
        return LastWords(None) if _final(console, job, attempt, now) else None


def _final(console: Console, job: SpotJob, attempt: Attempt, now: datetime) -> bool:
    """It shows the instance's end, and has had its time to.

    EC2 fetches the console soon after the boot too, and shows that until the one of the end has come, which may take
    minutes. Since `waitingSince` the operator knows of the death.
    """
    noted = job.status.waiting_since or now
    claimed = (attempt.claimed_at or attempt.bound_at) + timedelta(seconds=1)  # it is kept in whole seconds
    begun = max(claimed, noted - DEATH_NOTED_WITHIN)
    return console.updated_at >= begun and now - max(console.updated_at, noted) >= SETTLED

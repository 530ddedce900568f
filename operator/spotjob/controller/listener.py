"""Hears what EventBridge says about our instances: a reclaim seconds after EC2 decides it, without a poll.

The queue holds the events of the whole account, so most messages are foreign, and some are broken: those are dropped
and counted. A message is deleted once it is handled; one whose handling fails is deleted too, lest it comes for ever.
What is missed here the agent and the poller still find out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any

from spotjob.controller.lease import Lease
from spotjob.controller.store import Store
from spotjob.core.ec2_events import Dropped, Event, Kind, Why, parse
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Clock, Message, Queue, QueueError
from spotjob.core.signs import SignBook

log = logging.getLogger(__name__)

RECEIVERS = 4
"""Per region, each with a receive under way."""
REGIONS_EVERY_SECONDS = 10.0
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
QUIET_SECONDS = 60.0
"""About one kind of trouble there is at most one log line in this time."""

BROKEN, OTHER, FOREIGN, FAILED = "broken", "other", "foreign", "failed"
RESULTS = (*(str(kind) for kind in Kind), FOREIGN, BROKEN, OTHER, FAILED)
"""What became of a message: every key that `Listener.counts` may have."""


class Listener:
    """Turns messages into signs, or into a look at an instance. Run it on the leader, with its ledger built."""

    def __init__(
        self,
        open_queue: Callable[[str], Queue] | None,
        signs: SignBook,
        ledger: Ledger,
        store: Store,
        clock: Clock,
        lease: Lease,
        changed: Callable[[str], None],
        look: Callable[[str, Collection[str]], None],
    ) -> None:
        """`open_queue` gives a region's queue; None: there is none. `changed` hears of an instance with a new sign,
        `look` of a region's instances that EC2 should be asked about."""
        self._open, self._signs, self._ledger, self._store = open_queue, signs, ledger, store
        self._clock, self._lease, self._changed, self._look = clock, lease, changed, look
        self.counts: Counter[str] = Counter()
        """Messages by what became of them, since the process began."""
        self._trouble: dict[str, str] = {}  # by region, as last logged
        self._lines = _Sparing(clock)

    async def run(self) -> None:
        """Until cancelled: listen in every region where an instance of ours may live."""
        if self._open is None:
            return
        regions: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = self._store.regions()
                for region in regions.keys() - wanted:
                    regions.pop(region).cancel()
                for region in wanted - regions.keys():
                    regions[region] = group.create_task(self._listen(region, self._open(region)))
                await self._clock.sleep(REGIONS_EVERY_SECONDS)

    async def _listen(self, region: str, queue: Queue) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(RECEIVERS):
                group.create_task(self._receive(region, queue))

    async def _receive(self, region: str, queue: Queue) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                await self._round(region, queue)
            except QueueError as error:
                self._in_trouble(region, str(error))
                await self._clock.sleep(pause * (0.5 + 0.5 * self._chance()))
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            else:
                pause = FIRST_PAUSE_SECONDS
                self._well_again(region)

    def _chance(self) -> float:
        return int(self._clock.token()[:6], 16) / 0xFFFFFF

    async def _round(self, region: str, queue: Queue) -> None:
        messages = await queue.receive()
        # Another may lead by now: what is not deleted comes again, to whoever does.
        if messages and self._lease.leading():
            self._handle(region, messages)
            await queue.delete(messages)

    # ---- messages ----

    def _handle(self, region: str, messages: Sequence[Message]) -> None:
        moved: set[str] = set()
        for message in messages:
            try:
                result = self._take(message, moved)
            except Exception as error:  # a poisoned message must not block the others
                result = FAILED
                self._lines.say(FAILED, logging.ERROR, "an event of EC2 is dropped: %r", error, exc_info=error)
            self.counts[result] += 1
        if moved:
            self._look(region, moved)

    def _take(self, message: Message, moved: set[str]) -> str:
        """What becomes of one message. Instances in a state that is news are added to `moved`."""
        event = parse(message.body)
        if isinstance(event, Dropped):
            return self._dropped(event)
        ours = [i for i in event.instance_ids if self._ledger.get(i) is not None or self._ledger.owners(i)]
        for instance_id in ours:
            self._tell(event, instance_id, moved)
        return str(event.kind) if ours else FOREIGN

    def _dropped(self, dropped: Dropped) -> str:
        if dropped.why is Why.OF_ANOTHER_KIND:
            return OTHER
        self._lines.say(BROKEN, logging.WARNING, "a message in the queue of EC2's events is %s", dropped.why)
        return BROKEN

    def _tell(self, event: Event, instance_id: str, moved: set[str]) -> None:
        match event.kind:
            case Kind.INTERRUPTION | Kind.RESERVATION:
                news = self._signs.reclaim(instance_id, event.at)
            case Kind.REBALANCE | Kind.MAINTENANCE:
                news = self._signs.advise(instance_id, event.at)
            case Kind.STATE_CHANGE:
                news = False
                if event.state is not self._ledger.state_of(instance_id):
                    moved.add(instance_id)
        if news:
            log.info("%s: EC2 tells of %s, %s", instance_id, event.kind, event.at.isoformat())
            self._changed(instance_id)

    # ---- the queue's own trouble ----

    def _in_trouble(self, region: str, error: str) -> None:
        said = self._trouble.get(region) != error and self._lines.say(
            f"trouble in {region}", logging.WARNING, "EC2's events in %s are not heard: %s", region, error
        )
        if said:
            self._trouble[region] = error

    def _well_again(self, region: str) -> None:
        if region in self._trouble and self._lines.say(
            f"end of trouble in {region}", logging.INFO, "EC2's events in %s are heard again", region
        ):
            del self._trouble[region]


class _Sparing:
    """Log lines, at most one per kind and QUIET_SECONDS; the next one says how many were left out."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said_at: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def say(self, kind: str, level: int, text: str, *values: object, **options: Any) -> bool:
        """Whether it was said. The kinds must be few: each is remembered."""
        now = self._clock.monotonic()
        if now - self._said_at.get(kind, -QUIET_SECONDS) < QUIET_SECONDS:
            self._left_out[kind] += 1
            return False
        self._said_at[kind] = now
        if left_out := self._left_out.pop(kind, 0):
            text, values = f"{text} (and %d times more since the last such line)", (*values, left_out)
        log.log(level, text, *values, **options)
        return True

"""Terminates instances in batches: TerminateInstances takes many ids, and calls are scarce."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable

from spotjob.controller.lease import Lease
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Aws, Clock, Ec2Error, Ec2Unanswered

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.1
RETRY_SECONDS = 2.0


class Terminator:
    """Collects ids and terminates them together. Every id stays here until EC2 has taken it."""

    def __init__(self, aws: Aws, ledger: Ledger, clock: Clock, lease: Lease, changed: Callable[[str], None]) -> None:
        self._aws, self._ledger, self._clock, self._lease = aws, ledger, clock, lease
        self._changed = changed
        self._ids: dict[str, set[str]] = defaultdict(set)
        self._more = asyncio.Event()
        self._busy: set[str] = set()  # regions with a call under way

    def add(self, region: str, instance_id: str) -> None:
        """This instance has to go."""
        self._ids[region].add(instance_id)
        self._more.set()

    async def run(self) -> None:
        """Until cancelled. Regions do not wait for each other."""
        self._busy.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._more.wait()
                await self._clock.sleep(GATHER_SECONDS)
                self._more.clear()
                for region in self._ids.keys() - self._busy:
                    self._busy.add(region)
                    group.create_task(self._empty(region))

    async def _empty(self, region: str) -> None:
        try:
            while ids := self._ids.pop(region, None):
                await self._terminate(region, ids)
        finally:
            self._busy.discard(region)

    async def _terminate(self, region: str, ids: set[str]) -> None:
        try:
            if not self._lease.leading():
                raise Ec2Unanswered("this operator does not lead now")
            states = await self._aws.ec2(region).terminate(sorted(ids))
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("%d instances are not terminated yet: %s", len(ids), error)
            await self._clock.sleep(RETRY_SECONDS)
            for instance_id in ids:
                self.add(region, instance_id)
            return
        log.info("terminated %s", ", ".join(sorted(states)))
        for instance_id, state in states.items():
            if self._ledger.now_in(instance_id, state):
                self._changed(instance_id)

"""Carries out, for one scheduled JobSequence at a time, what `core.sequence.schedule` decides about it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from spotjob.controller.lease import Lease
from spotjob.controller.sequence_store import NotLeading, SequenceApi, SequenceStore, parent_key
from spotjob.core.ports import Clock, Conflict
from spotjob.core.sequence import standing
from spotjob.core.sequence.checks import Check, problems
from spotjob.core.sequence.resources import JobSequence, JobSequenceStatus
from spotjob.core.sequence.schedule import InvalidSchedule, child_body, child_name, decide_schedule

log = logging.getLogger(__name__)


class Planner:
    """One pass over one JobSequence with a schedule."""

    def __init__(
        self,
        api: SequenceApi,
        check: Check,
        known: SequenceStore,
        clock: Clock,
        lease: Lease,
        begun: Callable[[str], None],
    ) -> None:
        """`begun` hears of each run that was created: the watch says nothing that is known already."""
        self._api, self._check, self._known, self._begun = api, check, known, begun
        self._clock, self._lease = clock, lease

    async def plan(self, held: JobSequence) -> datetime | None:
        """Begin what is due; returns when to look again. Raises NotLeading, and as SequenceApi."""
        if held.deleting:  # its runs go with it
            return None
        now = self._clock.now()
        try:
            self._look_for_problems(held)
            turn = decide_schedule(held, self._known.runs_of(held), now)
        except InvalidSchedule as error:
            await self._refuse(held, str(error))
            return None
        if not self._lease.leading():
            raise NotLeading
        if turn.create is not None:
            await self._create(held, turn.create)
        await self._write(held, standing.of_schedule(held, turn, now))
        for run in turn.delete:
            await self._api.delete(run)
        return turn.wake_at

    def _look_for_problems(self, held: JobSequence) -> None:
        """When the schedule is made, not when it is first due; what was found good is not asked again."""
        good = held.status.observed_generation == held.metadata.generation and not held.over
        if not good and (found := problems(held.spec, self._check)):
            raise InvalidSchedule("; ".join(found))

    async def _refuse(self, held: JobSequence, why: str) -> None:
        written = await self._write(held, standing.invalid(held, why, self._clock.now()))
        if not held.over:
            await self._api.tell(written, "Invalid", written.status.message, warning=True)

    async def _create(self, held: JobSequence, due: datetime) -> None:
        """The name holds the time, so that a repeated create finds the first one's run."""
        name = child_name(held, due)
        try:
            created = await self._api.create(held.metadata.namespace, child_body(held, due))
        except Conflict:
            taken = await self._api.get(held.metadata.namespace, name)
            if parent_key(taken) != held.key:
                await self._api.tell(held, "NameTaken", f"{name} is there and not of this schedule", warning=True)
            return
        self._known.put(created)
        self._begun(created.key)
        log.info("%s: begins %s", held.key, name)
        await self._api.tell(held, "Created", f"created {name}")

    async def _write(self, held: JobSequence, status: JobSequenceStatus) -> JobSequence:
        patch = standing.status_patch(held.status, status)
        if not patch:
            return held
        written = await self._api.write_status(held, patch)
        self._known.put(written)
        return written

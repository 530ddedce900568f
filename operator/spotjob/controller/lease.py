"""Who leads: a Lease of coordination.k8s.io, held by one operator at a time.

The rules (kopf-notes 3.3): a monotonic clock only; validity counts from before the renewal was sent; each request
has a time limit of its own; writes carry the resourceVersion; another's lease is over when it has not changed for its
duration by our own clock, whatever times it holds; it is given back at exit.

Who waits for the lease watches it, so that one that was given back is taken at once; it looks all the same now and
then, because a watch may be silent, and at the very moment when another's lease ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

from spotjob.core.ports import Clock, Conflict, KubeError, NotFound, Unanswered

log = logging.getLogger(__name__)

NAME = "spotjob-operator"
GIVE_BACK_SECONDS = 2.0
"""An API server that does not answer by then must not hold up the exit."""


class Leases(Protocol):
    """The Lease object, as JSON. All of them raise NotFound, Conflict, KubeError or Unanswered."""

    async def get_lease(self, name: str) -> Mapping[str, Any]: ...

    async def create_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]: ...

    async def update_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]: ...

    async def lease_changed(self, name: str, resource_version: str) -> None:
        """Returns once the Lease is another than it was at this version."""


class Lease:
    """Elects a leader. `leading()` is asked right before every AWS mutation."""

    def __init__(self, leases: Leases, clock: Clock, identity: str, seconds: float) -> None:
        self._leases, self._clock, self._identity = leases, clock, identity
        self._seconds = seconds
        self._valid_until = 0.0
        self._seen: tuple[object, ...] = ()
        self._seen_at = 0.0
        self._taken = ""  # the version at which another was seen to hold it, while that is the newest that we know
        self._taken_until = 0.0
        self.changed = asyncio.Event()
        """Set whenever leadership was gained or lost."""

    def leading(self) -> bool:
        """Our lease is valid now, with a third of its duration to spare before anybody else may take it."""
        return self._clock.monotonic() < self._valid_until

    async def run(self) -> None:
        """Keep trying until cancelled; then give the lease back."""
        was = False
        try:
            while True:
                await self._try_bounded()
                was = self._tell(was)
                await self._rest()
                # A lapse counts even if the next renewal mends it: another may have led in between.
                was = self._tell(was)
        finally:
            await asyncio.shield(self._give_back())

    def _tell(self, was: bool) -> bool:
        """Say so if leadership has changed; returns whether we lead."""
        leads = self.leading()
        if leads != was:
            log.info("leadership %s as %s", "gained" if leads else "lost", self._identity)
            self.changed.set()
        return leads

    async def _rest(self) -> None:
        """Until it is time to try again."""
        if not self._taken:
            return await self._clock.sleep(self._pause(self._valid_until if self.leading() else math.inf))
        pause = self._pause(self._taken_until)
        try:
            async with asyncio.timeout(pause):
                return await self._leases.lease_changed(NAME, self._taken)
        except TimeoutError:
            return None
        except (KubeError, Unanswered) as error:
            log.debug("lease not watched: %r", error)
        return await self._clock.sleep(pause)

    def _pause(self, end: float) -> float:
        """Seconds to the next try: a period, but not beyond the end of the lease that holds now."""
        period = self._seconds / 7.5  # 2 s of 15, as kube-controller-manager
        return min(period, max(0.05, end - self._clock.monotonic()))

    async def _try_bounded(self) -> None:
        try:
            async with asyncio.timeout(self._seconds / 3):  # wait_for of 3.11 may swallow a cancellation
                await self._try()
        except (Conflict, TimeoutError, Unanswered) as error:
            log.debug("lease not renewed: %r", error)
        except KubeError as error:
            log.warning("lease refused: %s", error)

    async def _try(self) -> None:
        sent = self._clock.monotonic()
        self._taken = ""
        try:
            lease = await self._leases.get_lease(NAME)
        except NotFound:
            await self._leases.create_lease(self._document({}, {"name": NAME}, transitions=1))
            return self._won(sent)
        if self._held_by_another(lease):
            return None
        spec = lease["spec"]
        taking = spec.get("holderIdentity") != self._identity or not self.leading()
        transitions = int(spec.get("leaseTransitions") or 0) + (1 if taking else 0)
        await self._leases.update_lease(self._document(spec, lease["metadata"], transitions=transitions))
        return self._won(sent)

    def _won(self, sent: float) -> None:
        self._valid_until = sent + self._seconds * 2 / 3

    def _held_by_another(self, lease: Mapping[str, Any]) -> bool:
        """Somebody else holds it and has changed it within its duration, by our own clock."""
        spec = lease["spec"]
        seen = (spec.get("holderIdentity"), spec.get("renewTime"), lease["metadata"]["resourceVersion"])
        if seen != self._seen:
            self._seen, self._seen_at = seen, self._clock.monotonic()
        holder = spec.get("holderIdentity")
        if not holder or holder == self._identity:
            return False
        self._taken_until = self._seen_at + float(spec.get("leaseDurationSeconds") or self._seconds)
        if self._clock.monotonic() >= self._taken_until:
            return False
        self._taken = lease["metadata"]["resourceVersion"]
        return True

    def _document(self, spec: Mapping[str, Any], metadata: Mapping[str, Any], transitions: int) -> dict[str, Any]:
        now = _micro_time(self._clock.now())
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": dict(metadata),
            "spec": {
                **spec,
                "holderIdentity": self._identity,
                "leaseDurationSeconds": max(1, round(self._seconds)),
                "acquireTime": spec.get("acquireTime") if self.leading() else now,
                "renewTime": now,
                "leaseTransitions": transitions,
            },
        }

    async def _give_back(self) -> None:
        """Whether or not we still trust it: a lease that lapsed for us alone is ours to everybody else."""
        self._valid_until = 0.0
        try:
            async with asyncio.timeout(GIVE_BACK_SECONDS):
                while not await self._emptied():
                    # A renewal that was under way when we were told to end arrived after our look at the lease.
                    log.debug("lease changed while it was given back")
        except (KubeError, Unanswered, TimeoutError) as error:
            log.warning("lease not given back, the next leader waits for it to end: %r", error)

    async def _emptied(self) -> bool:
        """Give it back, if it is ours; False if it changed meanwhile."""
        try:
            lease = await self._leases.get_lease(NAME)
            if lease["spec"].get("holderIdentity") == self._identity:
                spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
                await self._leases.update_lease({**lease, "spec": spec})
        except Conflict:
            return False
        except NotFound:
            return True
        return True


def _micro_time(moment: datetime) -> str:
    """metav1.MicroTime."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")

"""Asks EC2 how all instances are: one paginated DescribeInstances by tag serves every job.

What the listing lacks is asked for by id, because a listing by tag proves nothing about an instance that is not in
it: tags of terminated instances disappear early. Unbound instances above the window are reaped here.

Beside it EC2 is asked which Spot requests say that it takes an instance back, and whose status checks fail. Neither
may hold up or spoil the look at the instances.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Set
from datetime import datetime, timedelta

from spotjob.controller.lease import Lease
from spotjob.controller.store import Store
from spotjob.controller.terminator import Terminator
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Aws, Clock, Ec2, Ec2Error, Ec2Unanswered
from spotjob.core.signs import SignBook

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.1
CHECKS_EVERY_SECONDS = 60.0
"""Between two questions for failing status checks in one region."""
SWEEP_TEMPLATES_EVERY = timedelta(minutes=10)
TEMPLATE_UNUSED_AFTER = timedelta(hours=1)


class Poller:
    """Keeps the ledger true."""

    def __init__(
        self,
        aws: Aws,
        ledger: Ledger,
        signs: SignBook,
        store: Store,
        terminator: Terminator,
        clock: Clock,
        lease: Lease,
        cluster_uid: str,
        changed: Callable[[str], None],
        seconds: float,
    ) -> None:
        self._aws, self._ledger, self._store, self._terminator = aws, ledger, store, terminator
        self._signs = signs
        self._clock, self._lease, self._cluster_uid = clock, lease, cluster_uid
        self._changed, self._seconds = changed, seconds
        self._looking: set[str] = set()  # regions with a look under way
        self._heard_of: dict[str, set[str]] = {}  # by region: instances to ask about before the next listing
        self._heard = asyncio.Event()
        self._asking: set[str] = set()  # regions that are being asked for signs
        self._checked: dict[str, float] = {}  # by region: when it was last asked for failing status checks

    async def run(self) -> None:
        """Until cancelled. A look that failed is tried again; regions do not wait for each other."""
        self._looking.clear()
        self._asking.clear()
        self._checked.clear()
        async with asyncio.TaskGroup() as group:
            while True:
                await self._clock.sleep(self._seconds)
                for region in self._store.regions() - self._looking:
                    self._looking.add(region)
                    group.create_task(self._try(region))
                for region in self._store.regions() - self._asking:
                    self._asking.add(region)
                    group.create_task(self._ask_for_signs(region))

    async def first_round(self) -> None:
        """A new leader's look. A region that does not answer stops nobody's work elsewhere."""
        self._ledger.blind = self._store.regions()
        await asyncio.gather(*(self._try(region) for region in sorted(self._ledger.blind)))

    async def _try(self, region: str) -> None:
        try:
            await self._look(self._aws.ec2(region))
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("DescribeInstances in %s: %s", region, error)
        finally:
            self._looking.discard(region)

    def look_at(self, region: str, instance_ids: Collection[str]) -> None:
        """Ask about these instances now: something was heard of them."""
        self._heard_of.setdefault(region, set()).update(instance_ids)
        self._heard.set()

    async def run_hearsay(self) -> None:
        """Until cancelled: what was heard of together is asked about together."""
        while True:
            await self._heard.wait()
            await self._clock.sleep(GATHER_SECONDS)
            self._heard.clear()
            heard_of, self._heard_of = self._heard_of, {}
            await asyncio.gather(*(self._describe(region, ids) for region, ids in heard_of.items()))

    async def _describe(self, region: str, instance_ids: Collection[str]) -> None:
        """One that is not shown, or whose region does not answer, is left to the next listing."""
        try:
            found = await self._aws.ec2(region).describe_ids(sorted(instance_ids))
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("DescribeInstances of %d instances in %s: %s", len(instance_ids), region, error)
            return
        for instance in found:
            if self._ledger.saw(instance):
                self._changed(instance.id)

    async def _look(self, ec2: Ec2) -> None:
        listed = await ec2.describe_cluster(self._cluster_uid)
        for instance in listed:
            if self._ledger.saw(instance):
                self._changed(instance.id)
        await self._ask_by_id(ec2, {i.id for i in listed})
        self._ledger.blind.discard(ec2.region)
        self._reap(ec2.region)
        self._ledger.forget_the_dead()
        self._signs.keep(self._ledger.known())

    async def _ask_by_id(self, ec2: Ec2, listed: set[str]) -> None:
        asked = [i for i in self._ledger.unlisted(listed) if self._region_of(i) == ec2.region]
        if not asked:
            return
        found = await ec2.describe_ids(asked)
        for instance in found:
            if self._ledger.saw(instance):
                self._changed(instance.id)
        now = self._clock.now()
        for instance_id in set(asked) - {i.id for i in found}:
            if self._ledger.missed(instance_id, now):
                self._changed(instance_id)

    # ---- signs ----

    async def _ask_for_signs(self, region: str) -> None:
        ec2 = self._aws.ec2(region)
        try:
            await self._ask_for_reclaims(ec2)
            if self._clock.monotonic() - self._checked.get(region, -CHECKS_EVERY_SECONDS) >= CHECKS_EVERY_SECONDS:
                self._checked[region] = self._clock.monotonic()
                await self._ask_for_checks(ec2)
        finally:
            self._asking.discard(region)

    async def _ask_for_reclaims(self, ec2: Ec2) -> None:
        """EC2 tells of a reclaim for hours; of a dead instance that no job names it is no news."""
        try:
            reclaims = await ec2.describe_reclaims(self._cluster_uid)
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("DescribeSpotInstanceRequests in %s: %s", ec2.region, error)
            return
        alive = self._ledger.alive()
        for instance_id, at in reclaims.items():
            matters = instance_id in alive or self._ledger.owners(instance_id)
            if matters and self._signs.reclaim(instance_id, at):
                log.info("%s: its Spot request says that EC2 takes it back", instance_id)
                self._changed(instance_id)

    async def _ask_for_checks(self, ec2: Ec2) -> None:
        asked_about = self._alive_in(ec2.region)
        try:
            failing = await ec2.describe_impaired()
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("DescribeInstanceStatus in %s: %s", ec2.region, error)
            return
        still = asked_about & self._alive_in(ec2.region)
        for instance_id in self._signs.impaired(sorted(still), failing, self._clock.now()):
            self._changed(instance_id)

    def _alive_in(self, region: str) -> Set[str]:
        return {i.id for i in self._ledger.alive().values() if i.region == region}

    def _region_of(self, instance_id: str) -> str:
        known = self._ledger.get(instance_id)
        if known is not None and known.region:
            return known.region
        for key in self._ledger.owners(instance_id):
            job = self._store.get(key)
            for attempt in job.status.attempts if job else ():
                if attempt.instance_id == instance_id:
                    return attempt.region
        return ""

    def _reap(self, region: str) -> None:
        if not self._lease.leading():
            return
        for instance in self._ledger.reapable(self._clock.now()):
            if instance.region == region:
                log.warning("reaping %s: no job names it and it is older than the launch window", instance.id)
                self._terminator.add(region, instance.id)


class TemplateSweep:
    """Deletes launch templates of this cluster that no launch has used for an hour."""

    def __init__(
        self, aws: Aws, store: Store, clock: Clock, lease: Lease, cluster_uid: str, used: Mapping[str, datetime]
    ) -> None:
        self._aws, self._store, self._clock, self._lease = aws, store, clock, lease
        self._cluster_uid, self._used = cluster_uid, used

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(SWEEP_TEMPLATES_EVERY.total_seconds())
            for region in sorted(self._store.regions()):
                await self.round(self._aws.ec2(region))

    async def round(self, ec2: Ec2) -> None:
        """Delete what is old and unused in one region."""
        now = self._clock.now()
        try:
            for name, created in await ec2.list_launch_templates(self._cluster_uid):
                unused_since = max(created, self._used.get(name, created))
                if now - unused_since > TEMPLATE_UNUSED_AFTER and self._lease.leading():
                    await ec2.delete_launch_template(name)
                    log.info("deleted launch template %s, unused since %s", name, unused_since)
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("launch templates in %s: %s", ec2.region, error)

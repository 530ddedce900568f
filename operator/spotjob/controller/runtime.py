"""The operator's engine room: builds the parts, and runs them while this process leads.

A new leader lists the SpotJobs itself (paginated, without a resourceVersion), then describes the instances, then builds
the ledger; before that nothing is launched, bound or reaped, since a watch has no has-synced signal.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any

from spotjob.controller.console import ConsoleReader
from spotjob.controller.fleet import Fleet
from spotjob.controller.launcher import Launcher
from spotjob.controller.lease import Lease
from spotjob.controller.listener import Listener
from spotjob.controller.mirror import Mirror
from spotjob.controller.orders import Cluster, Orders
from spotjob.controller.poller import Poller, TemplateSweep
from spotjob.controller.reconcile import Reconciler
from spotjob.controller.sequences import Sequences
from spotjob.controller.store import Store
from spotjob.controller.terminator import Terminator
from spotjob.controller.workqueue import WorkQueue
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Aws, Clock, KubeError, Kubernetes, Queue, Table, Unanswered
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.sequence.resources import JobSequence
from spotjob.core.signs import SignBook
from spotjob.core.tokens import Keyring
from spotjob.settings import Settings

log = logging.getLogger(__name__)

START_RETRY_SECONDS = 2.0
WARM_UP_SECONDS = 60.0


class Runtime:
    """Every part of the operator but kopf."""

    def __init__(
        self,
        settings: Settings,
        kube: Kubernetes,
        aws: Aws,
        open_table: Callable[[], Awaitable[Table]] | None,
        lease: Lease,
        clock: Clock,
        cluster: Cluster,
        keyring: Keyring,
        open_queue: Callable[[str], Queue] | None = None,
        make_sequences: Callable[[Store], Sequences] | None = None,
    ) -> None:
        """`make_sequences` is given the SpotJobs; None: this operator runs no JobSequences."""
        self._settings, self._kube, self._lease, self._clock = settings, kube, lease, clock
        self.store = Store()
        self._queue = WorkQueue()
        self._ledger = Ledger(timedelta(seconds=settings.launch_window_seconds))
        self._signs = SignBook()
        self._console = ConsoleReader(aws, keyring, clock, self._queue.add)
        self._terminator = Terminator(aws, self._ledger, clock, lease, self._instance_changed)
        self._mirror = Mirror(
            open_table,
            self.store,
            clock,
            lease,
            self._queue.add,
            settings.mirror_patience_seconds,
            settings.mirror_ttl_days,
        )
        self._orders = Orders(aws, kube, clock, cluster)
        self._fleet = Fleet(self._orders, clock, lease)
        self._launcher = Launcher(
            self._orders,
            self._fleet,
            self._ledger,
            self.store,
            clock,
            lease,
            self._queue.add,
            settings.batch_idle_seconds,
            settings.batch_max_seconds,
        )
        self._reconciler = Reconciler(
            kube,
            self.store,
            self._queue,
            self._ledger,
            self._signs,
            self._console,
            self._launcher,
            self._terminator,
            self._mirror,
            clock,
            lease,
        )
        self._poller = Poller(
            aws,
            self._ledger,
            self._signs,
            self.store,
            self._terminator,
            clock,
            lease,
            cluster.uid,
            self._instance_changed,
            settings.poll_seconds,
        )
        self.listener = Listener(
            open_queue,
            self._signs,
            self._ledger,
            self.store,
            clock,
            lease,
            self._instance_changed,
            self._poller.look_at,
        )
        self._sweep = TemplateSweep(aws, self.store, clock, lease, cluster.uid, self._fleet.template_used)
        self._sequences = make_sequences(self.store) if make_sequences else None
        self.working = False
        """This process leads and its ledger is built."""
        self.synced = False
        """This process has listed the jobs and classes: it can take over at any time."""

    def waiting(self) -> int:
        """Jobs that wait to be looked at."""
        return len(self._queue)

    def sequences(self) -> Iterable[JobSequence]:
        """Every JobSequence that this process knows."""
        return () if self._sequences is None else self._sequences.known.all()

    def instances_alive(self) -> int:
        """Instances that may cost money now, as far as this process has seen."""
        return len(self._ledger.alive())

    # ---- news from the watch: store and enqueue, nothing else ----

    def job_changed(self, job: SpotJob) -> None:
        if self.store.put(job):
            self._queue.add(job.key)
            self._mirror.add(job.key)
            self._tell_sequences(job)

    def job_deleted(self, job: SpotJob) -> None:
        self.store.drop(job.key, job.metadata.uid)
        self._mirror.gone(job)
        self._queue.add(job.key)
        self._tell_sequences(job)

    def sequence_changed(self, held: JobSequence) -> None:
        if self._sequences is not None:
            self._sequences.changed(held)

    def sequence_deleted(self, held: JobSequence) -> None:
        if self._sequences is not None:
            self._sequences.deleted(held)

    def _tell_sequences(self, job: SpotJob) -> None:
        if self._sequences is not None:
            self._sequences.job_changed(job)

    def class_changed(self, job_class: SpotJobClass) -> None:
        self.store.put_class(job_class)
        self._launcher.classes_changed()

    def class_deleted(self, name: str) -> None:
        self.store.drop_class(name)
        self._launcher.classes_changed()

    def _instance_changed(self, instance_id: str) -> None:
        instance = self._ledger.get(instance_id)
        owners = self._ledger.owners(instance_id)
        if instance is not None and instance.reclaimed and owners:  # without an owner it may be an hour ago
            self._fleet.reclaimed(instance.pool)
        if instance is None or instance.state.ending:
            self._launcher.capacity_freed()
        for key in owners:
            self._queue.add(key)

    # ---- running ----

    async def run(self) -> None:
        """Until cancelled: elect, and work while leading. A part that dies takes the process with it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lease.run())
            group.create_task(self._follow_the_lease())
            group.create_task(self._stay_warm())

    async def _follow_the_lease(self) -> None:
        while True:
            while not self._lease.leading():
                self._lease.changed.clear()
                await self._lease.changed.wait()
            work = asyncio.create_task(self._lead())
            lost = asyncio.create_task(self._until_lost())
            try:
                await asyncio.wait({work, lost}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self.working = False
                self._console.stop()
                lost.cancel()
                work.cancel()
                await _ended(work)

    async def _until_lost(self) -> None:
        while self._lease.leading():
            self._lease.changed.clear()
            await self._lease.changed.wait()

    async def _lead(self) -> None:
        await self._learn()
        self.working = True
        log.info("leading: %d SpotJobs, %d instances alive", len(list(self.store.jobs())), len(self._ledger.alive()))
        async with asyncio.TaskGroup() as group:
            for part in self._parts():
                group.create_task(part)

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        workers = [self._work() for _ in range(self._settings.workers)]
        return [
            *workers,
            self._launcher.run(),
            self._terminator.run(),
            self._poller.run(),
            self._poller.run_hearsay(),
            self.listener.run(),
            self._mirror.run(),
            self._sweep.run(),
            *([self._sequences.run()] if self._sequences else []),
        ]

    async def _stay_warm(self) -> None:
        """Leading or not: resolve every class now and then, so that neither a job nor a handover waits for it."""
        await self._listed()
        self.synced = True
        while True:
            for job_class in list(self.store.classes().values()):
                await self._orders.warm_up(job_class)
            await self._clock.sleep(WARM_UP_SECONDS)

    async def _learn(self) -> None:
        """The leader's start: jobs first, then instances, then the queue. Tried until it works."""
        self._signs.keep(())  # what was heard in an earlier term may not be so any more
        await self._listed()
        for job in self.store.jobs():
            self._ledger.job_is(job.key, job)
        await self._poller.first_round()
        if self._sequences is not None:
            await self._until_answered(self._sequences.learn)
        for job in self.store.jobs():
            self._queue.add(job.key)

    async def _listed(self) -> None:
        await self._until_answered(self._list)

    async def _until_answered(self, listing: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await listing()
            except (KubeError, Unanswered) as error:
                log.warning("cannot list the objects of this cluster yet: %s", error)
            await self._clock.sleep(START_RETRY_SECONDS)

    async def _list(self) -> None:
        """The whole truth about jobs and classes, whatever the watch has missed."""
        jobs, classes = self.store.keys(), frozenset(self.store.classes())
        for key in self.store.listed(await self._kube.list_jobs(), jobs):
            self._queue.add(key)
        self.store.listed_classes(await self._kube.list_classes(), classes)

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._reconciler.reconcile(key)
            except Exception:  # a bug about one job must not stop the others
                log.exception("%s: reconcile failed", key)
                self._queue.add_after(key, 60.0)
            finally:
                self._queue.done(key)


async def _ended(task: asyncio.Task[None]) -> None:
    """Wait for a cancelled task; what it died of goes on."""
    try:
        await task
    except asyncio.CancelledError:
        if task.cancelled():
            return
        raise

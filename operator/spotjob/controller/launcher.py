"""Launches instances for jobs that are due: jobs of one shape that come together share one CreateFleet.

A launch is cheap talk: nothing is committed until a job's status names the instance. So the launcher may be late,
may launch too much or be forgotten with its memory; what nobody binds powers itself off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

from spotjob.controller.fleet import Answer, Fleet
from spotjob.controller.lease import Lease
from spotjob.controller.orders import Order, Orders
from spotjob.controller.store import Store
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Clock, Fault
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import Obstacle

log = logging.getLogger(__name__)

ROUNDS = 6
"""CreateFleet rounds for one batch before the rest of it waits."""
FIRST_RETRY_SECONDS = 5
LONGEST_RETRY_SECONDS = 60
LIMIT_RETRY = timedelta(seconds=15)


class Launcher:
    """Collects wishes, batches them, and offers what comes back."""

    def __init__(
        self,
        orders: Orders,
        fleet: Fleet,
        ledger: Ledger,
        store: Store,
        clock: Clock,
        lease: Lease,
        enqueue: Callable[[str], None],
        idle_seconds: float,
        longest_seconds: float,
    ) -> None:
        self._orders, self._fleet, self._ledger, self._store = orders, fleet, ledger, store
        self._clock, self._lease, self._enqueue = clock, lease, enqueue
        self._idle, self._longest = idle_seconds, longest_seconds
        self._wanted: dict[str, SpotJob] = {}
        self._in_flight: set[str] = set()
        self._obstacles: dict[str, Obstacle] = {}
        self._troubles: Counter[str] = Counter()  # by shape: launches in a row that gave nothing
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- what reconcile asks ----

    def want(self, job: SpotJob) -> None:
        """This job needs an instance. Asking twice is asking once; while an obstacle stands, asking does nothing."""
        if job.key in self._in_flight or self.obstacle(job.key) is not None:
            return
        self._wanted[job.key] = job
        self._more.set()

    def forget(self, key: str) -> None:
        """This job needs no instance (any more): its offer is free again."""
        self._wanted.pop(key, None)
        self._obstacles.pop(key, None)
        self._ledger.release(key)

    def obstacle(self, key: str) -> Obstacle | None:
        """Why the last launch gave this job nothing, until it is time to try again."""
        obstacle = self._obstacles.get(key)
        if obstacle is None or obstacle.retry_at is None or obstacle.retry_at > self._clock.now():
            return obstacle
        del self._obstacles[key]
        return None

    def classes_changed(self) -> None:
        """A class came, went or changed: what waits for one is looked at again."""
        for key in [k for k, o in self._obstacles.items() if o.reason is Reason.CLASS_NOT_READY]:
            del self._obstacles[key]
            self._enqueue(key)

    def capacity_freed(self) -> None:
        """An instance has ended: what waits for a limit of ours is looked at again."""
        for key in [k for k, o in self._obstacles.items() if o.reason is Reason.QUOTA_EXCEEDED]:
            del self._obstacles[key]
            self._enqueue(key)

    # ---- batching ----

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                await self._more.wait()
                await self._gather()
                batch, self._wanted = self._wanted, {}
                if batch:
                    self._start(batch)
        finally:
            for task in self._tasks:
                task.cancel()

    async def _gather(self) -> None:
        """Wait for company: until nobody has come for a while, but not for ever."""
        waited = 0.0
        while waited < self._longest:
            self._more.clear()
            before = len(self._wanted)
            await self._clock.sleep(self._idle)
            waited += self._idle
            if len(self._wanted) == before:
                break
        self._more.clear()

    def _start(self, batch: dict[str, SpotJob]) -> None:
        self._in_flight |= batch.keys()
        task = asyncio.create_task(self._serve(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, batch: dict[str, SpotJob]) -> None:
        try:
            by_shape: dict[str, tuple[Order, list[str]]] = {}
            for key, job in batch.items():
                order = await self._orders.order(job, dict(self._store.classes()))
                if isinstance(order, Obstacle):
                    self._obstacles[key] = order
                else:
                    by_shape.setdefault(order.shape, (order, []))[1].append(key)
            await asyncio.gather(*(self._launch(order, keys) for order, keys in by_shape.values()))
        except Exception:  # a bug here must not strand the batch
            log.exception("launch of %d jobs failed", len(batch))
            for key in batch:
                problem = "The operator failed at this launch; see its log"
                self._obstacles[key] = self._orders.obstacle(Reason.LAUNCHING, problem, LIMIT_RETRY)
        finally:
            self._in_flight -= batch.keys()
            for key in batch:
                self._enqueue(key)

    # ---- one shape ----

    async def _launch(self, order: Order, keys: list[str]) -> None:
        waiting = [key for key in keys if self._ledger.take(order.shape, key, self._clock.now()) is None]
        waiting = self._within_limit(order, waiting)
        faults: tuple[Fault, ...] = ()
        for _ in range(ROUNDS):
            if not waiting or not self._lease.leading():
                break
            # After trouble one probe goes first: a crowd would only be refused as a crowd.
            probing = self._troubles[order.shape] > 0
            answer = await self._fleet.launch(order, 1 if probing else len(waiting), desperate=probing)
            waiting = self._assign(order, answer, waiting)
            faults = answer.faults
            if not answer.instances and not answer.try_other_pools:
                break
        if waiting and self._lease.leading():
            self._obstruct(order, waiting, faults)

    def _assign(self, order: Order, answer: Answer, waiting: list[str]) -> list[str]:
        for instance in answer.instances:
            self._ledger.saw(instance)
        if answer.instances:
            del self._troubles[order.shape]
        for key, instance in zip(waiting, answer.instances, strict=False):
            self._ledger.reserve(instance, key)
        return waiting[len(answer.instances) :]

    def _within_limit(self, order: Order, keys: list[str]) -> list[str]:
        """As many as maxConcurrent admits; the others wait for an instance to end."""
        limit = order.job_class.spec.max_concurrent
        name = order.job_class.name
        alive = sum(1 for i in self._ledger.alive().values() if i.job_class == name)
        room = max(0, limit - alive)
        for key in keys[room:]:
            problem = f"SpotJobClass {name} allows {limit} instances at one time (maxConcurrent)"
            self._obstacles[key] = self._orders.obstacle(Reason.QUOTA_EXCEEDED, problem, LIMIT_RETRY)
        return keys[:room]

    def _obstruct(self, order: Order, keys: list[str], faults: tuple[Fault, ...]) -> None:
        self._troubles[order.shape] += 1
        fault = worst(faults)
        retry_in = timedelta(seconds=self._retry_seconds(self._troubles[order.shape]))
        obstacle = self._orders.obstacle(fault.reason, f"{fault.code}: {fault.message}", retry_in)
        log.warning("no instance for %d jobs of shape %s: %s", len(keys), order.shape, obstacle.message)
        for key in keys:
            self._obstacles[key] = obstacle

    def _retry_seconds(self, troubles: int) -> float:
        full: float = min(FIRST_RETRY_SECONDS * 2 ** min(troubles - 1, 10), LONGEST_RETRY_SECONDS)
        jitter = int(self._clock.token()[:6], 16) / 0xFFFFFF
        return full * (0.75 + 0.25 * jitter)


NO_ANSWER = Fault("NoCapacity", "EC2 launched nothing and gave no reason", Reason.INSUFFICIENT_CAPACITY)


def worst(faults: tuple[Fault, ...]) -> Fault:
    """The fault to show. One that is not about capacity explains more (as Karpenter orders them)."""
    others = [f for f in faults if f.reason is not Reason.INSUFFICIENT_CAPACITY]
    # A refusal of one pool among many that were merely short is not yet a refusal of the launch.
    if others and len(others) < len(faults) and others[0].reason is Reason.LAUNCH_REJECTED:
        others = []
    return next(iter(others or faults), NO_ANSWER)

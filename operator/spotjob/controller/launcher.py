"""Launches instances for jobs that are due: jobs of one shape that come together share one CreateFleet.

A launch is cheap talk: nothing is committed until a job's status names the instance. So the launcher may be late,
may launch too much or be forgotten with its memory; what nobody binds powers itself off.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime, timedelta
from typing import Any

from spotjob.controller.fleet import Answer, Fleet
from spotjob.controller.lease import Lease
from spotjob.controller.orders import Order, Orders
from spotjob.controller.store import Store
from spotjob.core.buying import capacity_type
from spotjob.core.ledger import Ledger
from spotjob.core.ports import Clock, Fault
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.states import CapacityType, Instance, Obstacle

log = logging.getLogger(__name__)

ROUNDS = 6
"""CreateFleet rounds for one batch before the rest of it waits."""
FIRST_RETRY_SECONDS = 5
LONGEST_RETRY_SECONDS = 60
FAILED_RETRY = timedelta(seconds=15)
LIMIT_RETRY = timedelta(seconds=60)
"""In case it was missed that there is room: as a rule who waits for a limit is called."""


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
        self._served: dict[str, Wish] = {}  # what an offer or an obstacle is for
        self._over_limit: dict[str, dict[str, None]] = {}  # by class: jobs that wait for maxConcurrent, in order
        self._asked: Counter[str] = Counter()  # by class: instances that are being asked for
        self._troubles: Counter[str] = Counter()  # by shape: launches in a row that gave nothing
        self._more = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # ---- what reconcile asks ----

    def want(self, job: SpotJob) -> None:
        """This job needs an instance. While it has an offer, or an obstacle stands, asking does nothing."""
        if job.key in self._in_flight or self.offer(job.key) is not None or self.obstacle(job.key) is not None:
            return
        if job.current is not None:
            self._fleet.learn_from(job.current)
        self._wanted[job.key] = job
        self._more.set()

    def forget(self, key: str) -> None:
        """This job needs no instance (any more): its offer is free again."""
        self._wanted.pop(key, None)
        self._served.pop(key, None)
        self._forget_obstacle(key)
        self._ledger.release(key)

    def look_at(self, job: SpotJob) -> None:
        """What was brought for a namesake, or for another spec or way of buying, is not for this job."""
        served = self._served.get(job.key)
        if served is not None and served != wish_of(job, self._clock.now()):
            self.forget(job.key)

    def offer(self, key: str) -> Instance | None:
        """The instance that is reserved for this job. None while it is in flight: it may be somebody else's wish."""
        return None if key in self._in_flight else self._ledger.offer_for(key, self._clock.now())

    def obstacle(self, key: str) -> Obstacle | None:
        """Why the last launch gave this job nothing, until it is time to try again. None while it is in flight."""
        if key in self._in_flight:
            return None
        obstacle = self._obstacles.get(key)
        if obstacle is None or obstacle.retry_at is None or obstacle.retry_at > self._clock.now():
            return obstacle
        del self._obstacles[key]
        return None

    def _forget_obstacle(self, key: str) -> None:
        self._obstacles.pop(key, None)
        for queue in self._over_limit.values():
            queue.pop(key, None)

    def classes_changed(self) -> None:
        """A class came, went or changed: what waits for one, or for its limit, is looked at again."""
        for key in [k for k, o in self._obstacles.items() if o.reason is Reason.CLASS_NOT_READY]:
            del self._obstacles[key]
            self._enqueue(key)
        self.capacity_freed()

    def capacity_freed(self) -> None:
        """An instance has ended: of the jobs that wait for a limit of ours, as many as have room are looked at."""
        for name, queue in self._over_limit.items():
            job_class = self._store.classes().get(name)
            room = len(queue) if job_class is None else self._room(job_class)
            for key in list(queue)[:room]:
                del queue[key]
                self._obstacles.pop(key, None)
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
        """Classes are served side by side: a region that does not answer holds up nobody else's jobs."""
        by_class: dict[str | None, dict[str, SpotJob]] = {}
        for key, job in batch.items():
            by_class.setdefault(job.spec.class_name, {})[key] = job
        for jobs in by_class.values():
            self._in_flight |= jobs.keys()
            task = asyncio.create_task(self._serve(jobs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, left: dict[str, SpotJob]) -> None:
        """Serve jobs of one class. Who has an offer or an obstacle is taken out of `left`."""
        try:
            by_shape: dict[str, tuple[Order, list[str]]] = {}
            for key, job in left.items():
                order = await self._orders.order(job, dict(self._store.classes()))
                if isinstance(order, Obstacle):
                    self._obstacles[key] = order
                else:
                    by_shape.setdefault(order.shape, (order, []))[1].append(key)
            await _all(self._launch(order, keys, left) for order, keys in by_shape.values())
        except Exception:  # a bug here must not strand the batch
            log.exception("launch of %d jobs failed", len(left))
            for key in left:
                problem = "The operator failed at this launch; see its log"
                self._obstacles[key] = self._orders.obstacle(Reason.LAUNCHING, problem, FAILED_RETRY)
        finally:
            self._settle(left, list(left))

    def _settle(self, left: dict[str, SpotJob], keys: list[str]) -> None:
        """These jobs are no longer in flight: what they got is looked at."""
        for key in keys:
            self._served[key] = wish_of(left.pop(key), self._clock.now())
            self._in_flight.discard(key)
            self._enqueue(key)

    # ---- one shape ----

    async def _launch(self, order: Order, keys: list[str], left: dict[str, SpotJob]) -> None:
        if order.job_class.spec.region in self._ledger.blind:
            problem = f"The instances in {order.job_class.spec.region} could not be listed yet"
            for key in keys:
                self._obstacles[key] = self._orders.obstacle(Reason.LAUNCHING, problem, FAILED_RETRY)
            return self._settle(left, keys)
        waiting = self._within_limit(order, list(self._ledger.take(order.shape, keys, self._clock.now())))
        name, asked = order.job_class.name, len(waiting)
        self._asked[name] += asked
        try:
            waiting, faults = await self._rounds(order, waiting)
        finally:
            self._asked[name] -= asked
        if waiting and self._lease.leading():
            self._obstruct(order, waiting, faults)
        self._settle(left, keys)
        return self.capacity_freed()

    async def _rounds(self, order: Order, waiting: list[str]) -> tuple[list[str], tuple[Fault, ...]]:
        """Ask until everybody is served or asking does not help. Returns who is left, and why."""
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
        return waiting, faults

    def _assign(self, order: Order, answer: Answer, waiting: list[str]) -> list[str]:
        now = self._clock.now()
        free = [instance for instance in answer.instances if self._ledger.launched(instance, now)]
        if answer.instances:
            del self._troubles[order.shape]
        for key, instance in zip(waiting, free, strict=False):
            self._ledger.reserve(instance, key)
        return waiting[len(free) :]

    def _within_limit(self, order: Order, keys: list[str]) -> list[str]:
        """As many as maxConcurrent admits; the others wait for an instance to end."""
        limit = order.job_class.spec.max_concurrent
        name = order.job_class.name
        room = self._room(order.job_class)
        for key in keys[room:]:
            self._over_limit.setdefault(name, {})[key] = None
            problem = f"SpotJobClass {name} allows {limit} instances at one time (maxConcurrent)"
            self._obstacles[key] = self._orders.obstacle(Reason.QUOTA_EXCEEDED, problem, LIMIT_RETRY)
        return keys[:room]

    def _room(self, job_class: SpotJobClass) -> int:
        """How many more instances the class admits: those that are being asked for count."""
        alive = sum(1 for i in self._ledger.alive().values() if i.job_class == job_class.name)
        return max(0, job_class.spec.max_concurrent - alive - self._asked[job_class.name])

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


Wish = tuple[str, int, CapacityType]


def wish_of(job: SpotJob, now: datetime) -> Wish:
    """Equal for equal wishes: the object, its spec, and how its instance is bought now."""
    return job.metadata.uid, job.metadata.generation, capacity_type(job, now)


async def _all(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """All of them to their end; a bug in one must not leave the others running unwatched."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


NO_ANSWER = Fault("NoCapacity", "EC2 launched nothing and gave no reason", Reason.INSUFFICIENT_CAPACITY)


def worst(faults: tuple[Fault, ...]) -> Fault:
    """The fault to show. One that is not about capacity explains more (as Karpenter orders them)."""
    others = [f for f in faults if f.reason is not Reason.INSUFFICIENT_CAPACITY]
    # A refusal of one pool among many that were merely short is not yet a refusal of the launch.
    if others and len(others) < len(faults) and others[0].reason is Reason.LAUNCH_REJECTED:
        others = []
    return next(iter(others or faults), NO_ANSWER)

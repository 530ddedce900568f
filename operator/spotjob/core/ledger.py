"""The ledger: every instance id that this operator has heard of, and what it may be used for.

Bind young, reap old (by EC2's LaunchTime and the window W): an instance is bound only below W - 60 s of age; its agent
powers off unclaimed at W; it is reaped only above W + 60 s. The two sets never overlap, so a late call of a paused
leader is harmless. An instance serves at most one attempt, ever.

In memory, rebuilt at start from the SpotJobs and from DescribeInstances. Time comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from spotjob.core.resources import SpotJob
from spotjob.core.states import Instance, InstanceState

MARGIN = timedelta(seconds=60)
ABSENT_AFTER_LISTINGS = 3
ABSENT_AFTER = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Missing:
    """How often, and since when, a listing by id did not show an instance."""

    since: datetime
    listings: int


class Ledger:
    """Who has which instance."""

    def __init__(self, window: timedelta) -> None:
        self._window = window
        self._instances: dict[str, Instance] = {}
        self._reserved: dict[str, str] = {}  # instance id -> key of the job it is offered to
        self._offers: dict[str, str] = {}  # the same, by job key
        self._named: dict[str, str] = {}  # job key -> instance id of its newest attempt, until the job is released
        self._named_by: dict[str, set[str]] = {}  # the same, by instance id
        self._live: dict[str, set[str]] = {}  # instance id -> keys of the jobs whose live attempt names it
        self._spent: set[str] = set()  # ids that were bound once
        self._missing: dict[str, Missing] = {}
        self.blind: set[str] = set()
        """Regions that have not shown their instances to this leader yet: nothing is launched there."""

    # ---- what EC2 says ----

    def saw(self, instance: Instance) -> bool:
        """Note an instance as EC2 shows it; True when its state is news."""
        before = self._instances.get(instance.id)
        self._missing.pop(instance.id, None)
        # A listing may be older than a termination that EC2 has already answered.
        if before is not None and before.state.ending and not instance.state.ending:
            return False
        self._instances[instance.id] = instance
        return before is None or before.state is not instance.state

    def now_in(self, instance_id: str, state: InstanceState) -> bool:
        """Note only a state, as TerminateInstances answers it; True when it is news."""
        known = self._instances.get(instance_id)
        return known is not None and self.saw(replace(known, state=state))

    def unlisted(self, listed: Iterable[str]) -> list[str]:
        """Ids that matter and that a full listing by tag did not show: ask for them by id."""
        shown = set(listed)
        asked = set(self._named_by) | set(self._instances)
        return sorted(i for i in asked - shown if not self.state_of(i).dead)

    def missed(self, instance_id: str, now: datetime) -> bool:
        """A successful listing by id did not show this one; True when it has just become absent."""
        before = self._missing.get(instance_id)
        noted = Missing(before.since, before.listings + 1) if before else Missing(now, 1)
        self._missing[instance_id] = noted
        if noted.listings < ABSENT_AFTER_LISTINGS or now - noted.since < ABSENT_AFTER:
            return False
        known = self._instances.get(instance_id)
        if known is not None and known.state is InstanceState.ABSENT:
            return False
        absent = known or Instance(instance_id, "", InstanceState.ABSENT, noted.since)
        self._instances[instance_id] = replace(absent, state=InstanceState.ABSENT)
        return True

    def forget_the_dead(self) -> None:
        """Drop dead instances that no job names any more."""
        for instance_id in [i for i, seen in self._instances.items() if seen.state.dead]:
            if instance_id not in self._named_by:
                del self._instances[instance_id]
        heard_of = self.known()
        self._spent &= heard_of
        for instance_id in self._missing.keys() - heard_of:
            del self._missing[instance_id]

    # ---- what the jobs say ----

    def job_is(self, key: str, job: SpotJob | None) -> None:
        """Note which instance a job answers for now; None when the job is gone.

        Only the newest attempt matters, and only until the finalizer is off: older instances were dead before it.
        """
        self._unname(key)
        if job is None:
            return self.release(key)
        for attempt in job.status.attempts:
            self._spend(attempt.instance_id, key)
        if job.current is None or not (job.guarded or job.running):
            return None
        instance_id = job.current.instance_id
        self._named[key] = instance_id
        self._named_by.setdefault(instance_id, set()).add(key)
        if job.running is not None:
            self._live.setdefault(instance_id, set()).add(key)
        if self._offers.get(key) == instance_id:
            self.release(key)
        return None

    def _spend(self, instance_id: str, key: str) -> None:
        """The instance was bound; an offer of it to another job, made by an earlier leader's view, ends."""
        self._spent.add(instance_id)
        offered_to = self._reserved.get(instance_id)
        if offered_to is not None and offered_to != key:
            self.release(offered_to)

    def _unname(self, key: str) -> None:
        instance_id = self._named.pop(key, None)
        if instance_id is None:
            return
        for index in (self._named_by, self._live):
            keys = index.get(instance_id, set())
            keys.discard(key)
            if not keys:
                index.pop(instance_id, None)

    # ---- who may have what ----

    def take(self, shape: str, keys: Sequence[str], now: datetime) -> Sequence[str]:
        """Reserve free instances of this shape, the youngest first, for jobs. Returns the jobs that get none."""
        free = [i for i in self._instances.values() if i.shape == shape and self._is_free(i, now)]
        free.sort(key=lambda i: i.launch_time, reverse=True)
        for key, instance in zip(keys, free, strict=False):
            self.reserve(instance, key)
        return keys[len(free) :]

    def reserve(self, instance: Instance, key: str) -> None:
        """Keep a free instance for this job, in place of what it was offered before."""
        self.release(key)
        self._reserved[instance.id] = key
        self._offers[key] = instance.id

    def launched(self, instance: Instance, now: datetime) -> bool:
        """Note an instance as CreateFleet answers it; True when it is free.

        A repeated call brings the instances of the call whose answer was lost. Meanwhile a listing may have shown
        them, and another job may have them. What the listing said is newer and knows more.
        """
        known = self._instances.setdefault(instance.id, instance)
        return self._is_free(known, now)

    def offer_for(self, key: str, now: datetime) -> Instance | None:
        """The instance reserved for a job, if it is still young enough and alive; otherwise the reservation ends."""
        instance = self._instances.get(self._offers.get(key, ""))
        if instance is not None and self._is_young(instance, now) and not instance.state.ending:
            return instance
        self.release(key)
        return None

    def release(self, key: str) -> None:
        """The job does not want its offer any more: the instance is free again."""
        instance_id = self._offers.pop(key, None)
        if instance_id is not None:
            del self._reserved[instance_id]

    def _is_free(self, instance: Instance, now: datetime) -> bool:
        used = instance.id in self._reserved or instance.id in self._spent
        alive = instance.state in (InstanceState.PENDING, InstanceState.RUNNING)
        return alive and not used and self._is_young(instance, now)

    def _is_young(self, instance: Instance, now: datetime) -> bool:
        return now - instance.launch_time < self._window - MARGIN

    def reapable(self, now: datetime) -> list[Instance]:
        """Instances that live, that no live attempt names, and that are older than W + 60 s."""
        return [
            i
            for i in self._instances.values()
            if not i.state.ending
            and i.id not in self._live
            and i.id not in self._reserved
            and now - i.launch_time > self._window + MARGIN
        ]

    def contested(self, key: str) -> bool:
        """Another live attempt names the instance of this job's live attempt."""
        return len(self._live.get(self._named.get(key, ""), set()) | {key}) > 1

    def needed_by_another(self, instance_id: str, key: str) -> bool:
        """A live attempt of another job names this instance: it must not be terminated for this one."""
        return bool(self._live.get(instance_id, set()) - {key})

    # ---- questions ----

    def get(self, instance_id: str) -> Instance | None:
        return self._instances.get(instance_id)

    def known(self) -> set[str]:
        """Every id that is not forgotten."""
        return self._instances.keys() | self._named_by.keys()

    def state_of(self, instance_id: str) -> InstanceState:
        known = self._instances.get(instance_id)
        return known.state if known else InstanceState.UNSEEN

    def owners(self, instance_id: str) -> set[str]:
        """Keys of the jobs that name an instance or are offered it."""
        owners = set(self._named_by.get(instance_id, set()))
        if instance_id in self._reserved:
            owners.add(self._reserved[instance_id])
        return owners

    def alive(self) -> Mapping[str, Instance]:
        """Every instance that may cost money now."""
        return {i.id: i for i in self._instances.values() if not i.state.ending}

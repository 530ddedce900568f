"""What a fault may hit, and the record of what was hit: the invariants excuse nothing that is not in it."""

from __future__ import annotations

from collections import Counter
from random import Random

from spotjob.core.reasons import Reason
from spotjob.core.states import InstanceState
from spotjob.local.ec2.records import Ec2Instance
from tests.simulation.cluster import Line
from tests.simulation.host import Host
from tests.simulation.world import Operator, World


class Choosing:
    """One history's faults: chance, and the record."""

    def __init__(self, world: World, chance: Random) -> None:
        self._world, self._chance = world, chance
        self.injected: Counter[str] = Counter()
        """Faults by kind."""
        self.reclaimed: set[str] = set()
        """Instances that EC2 took back, or gave notice of."""
        self.impaired: Counter[str] = Counter()
        """How often the status checks of an instance began to fail."""
        self.rebooted: set[str] = set()
        """Instances."""
        self.drills: Counter[str] = Counter()
        """Annotations that people set, by the job's uid."""
        self.edits: Counter[str] = Counter()
        """What people did to a job, by uid."""
        self.deleted: set[str] = set()
        """By uid."""
        self.suspended: set[str] = set()
        """By uid."""
        self.calmly_stopped: set[str] = set()
        """Deleted or suspended in peace while their containers ran, by uid."""

    def _operator(self) -> Operator | None:
        """As a rule the one that leads."""
        alive = self._world.alive_operators()
        working = [operator for operator in alive if operator.runtime.working]
        if working and self._chance.random() < 0.7:
            return self._chance.choice(working)
        return self._chance.choice(alive) if alive else None

    def _line(self) -> Line:
        """An operator's connection to the API server, or the API's."""
        operator = self._operator()
        return self._world.api_line if operator is None or self._chance.random() < 0.3 else operator.line

    def _instance(self) -> str | None:
        """A Spot Instance that lives and is not under notice; as a rule one with a container."""
        alive = [i for i in self._world.ec2.instances() if _spot(i) and i.reclaim_at is None]
        busy = [i for i in alive if (host := self._world.hosts.get(i.id)) and host.container is not None]
        chosen = busy if busy and self._chance.random() < 0.7 else alive
        return self._chance.choice(chosen).id if chosen else None

    def _busy_longest(self) -> Host | None:
        """The host that works and whose container runs longest: what takes minutes must find it there."""
        busy = [h for h in self._working() if h.container is not None]
        return max(busy, key=lambda host: (host.container_seconds, host.id), default=None)

    def _working(self) -> list[Host]:
        hosts = [h for h in self._world.hosts.values() if not (h.hung or h.rebooting)]
        return [h for h in hosts if h.instance.state is InstanceState.RUNNING]

    def _host(self) -> Host | None:
        """One that works; as a rule with a container."""
        hosts = self._working()
        busy = [h for h in hosts if h.container is not None]
        chosen = busy if busy and self._chance.random() < 0.7 else hosts
        return self._chance.choice(chosen) if chosen else None

    def _job(self) -> str | None:
        keys = [k for k in self._world.cluster.jobs if not self._world.cluster.job(k).deleting]
        open_keys = [k for k in keys if not self._world.cluster.job(k).finished]
        young = [k for k in open_keys if self._world.cluster.job(k).status.reason in (None, Reason.BOOTING)]
        if young and self._chance.random() < 0.5:
            return self._chance.choice(young)
        return self._chance.choice(open_keys or keys) if keys else None


def _spot(instance: Ec2Instance) -> bool:
    return instance.spot and instance.state in (InstanceState.PENDING, InstanceState.RUNNING)

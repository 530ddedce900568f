"""Instances, what is observed of a job, what may change in its status, and what may be decided about it.

Everything here is frozen and knows nothing of the outside.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from spotjob.core.contract import Report
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.signs import NO_SIGNS, Signs


class InstanceState(StrEnum):
    """EC2's `Instance.State.Name`, and two words of our own for instances that EC2 does not list."""

    PENDING = "pending"
    RUNNING = "running"
    SHUTTING_DOWN = "shutting-down"
    STOPPING = "stopping"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    UNSEEN = "unseen"
    """Named by a job and not listed (yet): as good as alive."""
    ABSENT = "absent"
    """Missing from three successful listings by id over five minutes."""

    @property
    def dead(self) -> bool:
        """The container is proven to have stopped. A stopped instance can start again, so it is alive."""
        return self in (InstanceState.TERMINATED, InstanceState.ABSENT)

    @property
    def ending(self) -> bool:
        """No further call is needed for this instance to go."""
        return self.dead or self is InstanceState.SHUTTING_DOWN


class CapacityType(StrEnum):
    """How an instance is bought."""

    SPOT = "spot"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True, order=True)
class Pool:
    """A capacity pool: what EC2 can run out of."""

    instance_type: str
    availability_zone: str
    capacity_type: CapacityType = CapacityType.SPOT


@dataclass(frozen=True, slots=True)
class Instance:
    """One EC2 instance as last seen. Past `aws/` there are no raw EC2 dicts."""

    id: str
    region: str
    state: InstanceState
    launch_time: datetime
    instance_type: str = ""
    availability_zone: str = ""
    capacity_type: CapacityType = CapacityType.SPOT
    spot_instance_request_id: str = ""
    shape: str = ""
    """The tag `spotjob.shape`: which launches this instance may serve."""
    job_class: str = ""
    """The tag `spotjob.class`: whose limit this instance counts against."""
    state_reason: str = ""
    """EC2's StateReason.Code, such as Server.SpotInstanceTermination."""

    @property
    def pool(self) -> Pool:
        return Pool(self.instance_type, self.availability_zone, self.capacity_type)

    @property
    def reclaimed(self) -> bool:
        """EC2 says that it took the instance back (aws-facts 3.5)."""
        return self.state_reason.startswith("Server.Spot")


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why the last launch gave this job no instance."""

    reason: Reason
    message: str
    retry_at: datetime | None
    """When the launcher tries again; None when waiting does not help (the job ends)."""


@dataclass(frozen=True, slots=True)
class LastWords:
    """What became of the search for a result on a dead instance's serial console."""

    report: Report | None
    """The agent's final report; None when the console shows the end of the instance and no result."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the controller knows about one job beside the object itself. Lives in memory only."""

    instances: tuple[Instance, ...] = ()
    """Every instance that an attempt of this job names, as last seen."""
    offer: Instance | None = None
    """An instance reserved for this job by the launcher and not bound yet."""
    obstacle: Obstacle | None = None
    contested: bool = False
    """Another job names the current attempt's instance too."""
    signs: Signs = NO_SIGNS
    """What was heard about the newest attempt's instance."""
    last_words: LastWords | None = None
    """Of the newest attempt's instance; None while they are looked for, or not wanted."""
    mirrored: bool = True
    """The table holds the job's current status, or is given up, or there is no table."""

    def state_of(self, instance_id: str) -> InstanceState:
        for instance in self.instances:
            if instance.id == instance_id:
                return instance.state
        return InstanceState.UNSEEN

    def instance(self, instance_id: str) -> Instance | None:
        return next((i for i in self.instances if i.id == instance_id), None)


# ---- what may change in a job's status: one of these, applied by conditions.next_status --------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """The job waits, for this reason; nothing about its attempts changes."""

    reason: Reason
    message: str
    next_attempt_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Bound:
    """A new attempt begins on this instance. This write is the commit."""

    instance: Instance


@dataclass(frozen=True, slots=True)
class Claimed:
    """The instance took the attempt up. `claim_hash` is sha256 of the agent's nonce, in hex."""

    claim_hash: str
    power_off_at: datetime | None = None
    """When the instance's kill timer fires now."""


@dataclass(frozen=True, slots=True)
class Started:
    """The container runs."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Noticed:
    """EC2 will take the current attempt's instance back at about `reclaim_at`."""

    reclaim_at: datetime


@dataclass(frozen=True, slots=True)
class Advised:
    """EC2 recommends to leave the current attempt's instance."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Impaired:
    """The status checks of the current attempt's instance have failed since then; None: they hold again."""

    since: datetime | None


@dataclass(frozen=True, slots=True)
class Heard:
    """The agent lives. Written only while the status checks fail."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """Somebody wants the agent to behave as if EC2 took the instance back at this time."""

    reclaim_at: datetime


@dataclass(frozen=True, slots=True)
class Stopping:
    """The container is told to stop; its instance is terminated at `stop_by` in any case."""

    stop_by: datetime
    message: str


@dataclass(frozen=True, slots=True)
class CalledBack:
    """The container said how it went, before it exited."""

    ok: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Ended:
    """The current attempt is over. Whether the job is too depends on its budgets: `budgets.after`."""

    outcome: Outcome
    message: str = ""
    exit_code: int | None = None
    log_tail: str = ""
    started_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The job is over for a reason that no attempt gave: a deadline, a cancellation, a refused launch."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Terminated:
    """The verdict was known, and now no instance remains."""

    spot_instance_request_id: str = ""
    """Of the last instance: CreateFleet does not answer it, so the bind could not write it."""


Change = (
    Waiting
    | Bound
    | Claimed
    | Started
    | Noticed
    | Advised
    | Impaired
    | Heard
    | Drilled
    | Stopping
    | CalledBack
    | Ended
    | Verdict
    | Terminated
)


@dataclass(frozen=True, slots=True)
class News:
    """One Kubernetes Event: its reason, its note, and whether it is a warning."""

    reason: str
    note: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do next about one job. Carried out in the order of the fields; all of them may be empty."""

    guard: bool = False
    """Put the finalizer on, so that the object outlives its instances."""
    change: Change | None = None
    """Write this to the status, on the condition that the object is still the one that was looked at."""
    launch: bool = False
    """Have an instance reserved for this job: ask the launcher for one, unless there is an offer."""
    keep_offer: bool = False
    """Ask for nothing, but let nobody else have the instance that is reserved."""
    ask_console: bool = False
    """Look for the current attempt's result on its instance's serial console."""
    end_drill: bool = False
    """Take the drill annotation off: it was seen."""
    tell: News | None = None
    """Record this Event: nothing in the status shows it."""
    terminate: frozenset[str] = field(default_factory=frozenset)
    """Instances to terminate."""
    release: bool = False
    """Take the finalizer off: nothing of this job is left."""
    delete: bool = False
    """Delete the object: ttlSecondsAfterFinished have passed."""
    wake_at: datetime | None = None
    """Look again at this time even if nothing happens."""

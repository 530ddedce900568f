"""What the controller and the API need from outside, as Protocols: EC2, Kubernetes, the table, the clock.

The controller is written against these, so that the same code runs on boto3, on the simulator in process
with a virtual clock, and on an in-memory API server. The types in the signatures are frozen and ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.states import Instance, InstanceState, Pool

# ---- EC2 ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What DescribeInstanceTypes says, as far as it matters here."""

    name: str
    vcpus: int
    memory_mib: int
    gpus: int
    architectures: frozenset[str]
    """amd64, arm64."""
    current_generation: bool
    spot: bool
    bare_metal: bool = False


@dataclass(frozen=True, slots=True)
class Subnet:
    """One subnet that instances may be launched into."""

    id: str
    availability_zone: str


@dataclass(frozen=True, slots=True)
class Place:
    """What a class resolves to in AWS: asked for seldom, cached for long."""

    image_id: str
    subnets: tuple[Subnet, ...]
    instance_types: tuple[InstanceType, ...]
    offered: frozenset[tuple[str, str]]
    """(instance type, availability zone) pairs that EC2 offers."""
    root_device: str = "/dev/xvda"
    """The AMI's RootDeviceName: a volume mapped to another name would be a second disk."""


@dataclass(frozen=True, slots=True)
class LaunchTemplate:
    """A launch template: `name` is derived from a hash of `data`, so equal names mean equal templates."""

    name: str
    data: Mapping[str, Any]
    """RequestLaunchTemplateData, as EC2 takes it."""
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Fault:
    """One error of EC2, already named: `reason` is what a job's status shows."""

    code: str
    message: str
    reason: Reason
    pool: Pool | None = None


@dataclass(frozen=True, slots=True)
class FleetAnswer:
    """CreateFleet(instant): both parts may be non-empty, and both may be empty."""

    instances: tuple[Instance, ...] = ()
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True)
class Console:
    """What GetConsoleOutput answers: the end of what an instance has written to its serial console."""

    text: str
    updated_at: datetime
    """When EC2 last fetched it from the instance."""


class Ec2Error(Exception):
    """An EC2 call failed as a whole and is known to have had no effect."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code}: {fault.message}")
        self.fault = fault


class Ec2Unanswered(Exception):
    """An EC2 call got no answer or a 5xx: it may have had its effect. Repeat it with the same ClientToken."""


class Ec2(Protocol):
    """EC2 in one region. Each method is one call, or one paginated call."""

    @property
    def region(self) -> str: ...

    async def place(self, job_class: SpotJobClass) -> Place:
        """Resolve a class. Raises Ec2Error (LAUNCH_REJECTED for what does not exist)."""

    async def ensure_launch_template(self, template: LaunchTemplate) -> None:
        """Create it unless it is there."""

    async def list_launch_templates(self, cluster_uid: str) -> Sequence[tuple[str, datetime]]:
        """(name, create time) of the templates with this cluster's tag."""

    async def delete_launch_template(self, name: str) -> None:
        """Delete it; one that is gone is fine."""

    async def create_fleet(self, request: Mapping[str, Any]) -> FleetAnswer:
        """CreateFleet with this whole request. Raises Ec2Error or Ec2Unanswered."""

    async def describe_cluster(self, cluster_uid: str) -> Sequence[Instance]:
        """All instances with the tag spotjob.cluster-uid, terminated ones too as long as EC2 lists them."""

    async def describe_ids(self, instance_ids: Sequence[str]) -> Sequence[Instance]:
        """These instances, as far as EC2 knows them (filter instance-id, so an unknown id is just missing)."""

    async def describe_reclaims(self, cluster_uid: str) -> Mapping[str, datetime]:
        """Instances whose Spot request says that EC2 takes them back, or has: by id, about when."""

    async def describe_impaired(self) -> Set[str]:
        """Instances in this region, of anybody, whose instance or system status check fails."""

    async def console_output(self, instance_id: str) -> Console | None:
        """GetConsoleOutput; None when EC2 does not know the instance (any more)."""

    async def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, InstanceState]:
        """TerminateInstances; the state each id is now in. An id that EC2 does not know is missing."""


class Aws(Protocol):
    """The regions of one account."""

    def ec2(self, region: str) -> Ec2: ...


# ---- the queue of EC2's events ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a queue."""

    body: str
    receipt: str
    """What deletes it."""


class QueueError(Exception):
    """The queue refused, gave no answer, or does not exist. Nothing was deleted."""


class Queue(Protocol):
    """The queue that EventBridge fills with EC2's events, in one region."""

    async def receive(self) -> Sequence[Message]:
        """At most ten; waits up to 20 s for the first one. Raises QueueError."""

    async def delete(self, messages: Sequence[Message]) -> None:
        """At most ten. One that is not deleted comes again. Raises QueueError."""


# ---- Kubernetes ---------------------------------------------------------------------------------------------------


class KubeError(Exception):
    """The API server refused; `status` is the HTTP code, `message` its own text."""

    def __init__(self, status: int, message: str, body: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{status}: {message}")
        self.status, self.message, self.body = status, message, body or {}


class Conflict(KubeError):
    """409: the object has changed since it was read. Nothing was written."""


class NotFound(KubeError):
    """404: there is no such object. Nothing was written."""


class Unanswered(Exception):
    """No answer, or a 5xx: the write may have happened. Read again before you decide anything."""


class Kubernetes(Protocol):
    """The few calls that the operator makes. Every write carries the resourceVersion of what was read."""

    async def list_jobs(self) -> Sequence[SpotJob]:
        """All SpotJobs, paginated, most recent (no resourceVersion)."""

    async def list_classes(self) -> Sequence[SpotJobClass]:
        """All SpotJobClasses."""

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        """Raises NotFound."""

    async def write_status(self, job: SpotJob, status: Mapping[str, Any]) -> SpotJob:
        """Merge-patch the status subresource with `status` (null removes) and job's resourceVersion.

        Raises Conflict, NotFound, KubeError, Unanswered. Returns the object as written.
        """

    async def add_finalizer(self, job: SpotJob) -> SpotJob:
        """JSON patch with a test on resourceVersion. Raises as write_status."""

    async def remove_finalizer(self, job: SpotJob) -> SpotJob | None:
        """As add_finalizer; None when the object went with its last finalizer, or was gone."""

    async def remove_annotation(self, job: SpotJob, name: str) -> SpotJob:
        """As add_finalizer. The job must have it."""

    async def delete_job(self, job: SpotJob) -> None:
        """Delete exactly this object (precondition uid)."""

    async def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        """Labels of a namespace. Raises NotFound."""

    async def record_event(self, job: SpotJob, reason: str, message: str, warning: bool = False) -> None:
        """A Kubernetes Event about the job, best effort."""


# ---- the table ----------------------------------------------------------------------------------------------------


class Table(Protocol):
    """The DynamoDB table `Jobs`."""

    async def put(self, item: Mapping[str, Any]) -> bool:
        """Write the item unless the table holds the same or a newer `version` of it; False when it does."""

    async def get(self, item_id: str) -> Mapping[str, Any] | None:
        """The item by id, consistent."""

    async def open_items(self) -> Sequence[Mapping[str, Any]]:
        """Every item whose job is not finished: the sparse index byStatus."""


class Clock(Protocol):
    """Time and chance, so that tests can own them."""

    def now(self) -> datetime:
        """The time, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back."""

    async def sleep(self, seconds: float) -> None: ...

    def token(self) -> str:
        """A fresh random id of 32 hex digits."""

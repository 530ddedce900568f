"""What to launch for a job: its class, resolved, gives a launch template and the pools that may serve it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from spotjob.core import plan, userdata
from spotjob.core.buying import capacity_type as capacity_type_for
from spotjob.core.offerings import Refused, admissible
from spotjob.core.ports import Aws, Clock, Ec2, Ec2Error, Ec2Unanswered, Kubernetes, LaunchTemplate, NotFound, Subnet
from spotjob.core.ports import Place as Resolved
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.states import CapacityType, Obstacle, Pool

log = logging.getLogger(__name__)

CLASS_RETRY = timedelta(seconds=30)
LABELS_KEPT = timedelta(seconds=60)
ORDERS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Cluster:
    """Who we are in AWS, and what our instances need to find us."""

    name: str
    uid: str
    """uid of the namespace kube-system."""
    agent_source: str
    launch_token: str
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that makes two launches interchangeable."""

    shape: str
    job_class: SpotJobClass
    template: LaunchTemplate
    pools: tuple[Pool, ...]
    subnets: tuple[Subnet, ...]
    capacity_type: CapacityType
    disk: plan.Disk | None
    tags: Mapping[str, str]
    """On everything that this launch makes."""


class Orders:
    """Turns jobs into orders."""

    def __init__(self, aws: Aws, kube: Kubernetes, clock: Clock, cluster: Cluster) -> None:
        self._aws, self._kube, self._clock, self._cluster = aws, kube, clock, cluster
        self._labels: dict[str, tuple[datetime, dict[str, str]]] = {}
        self._made: dict[tuple[str, str], tuple[Resolved, Order | Obstacle]] = {}

    def ec2(self, region: str) -> Ec2:
        return self._aws.ec2(region)

    async def warm_up(self, job_class: SpotJobClass) -> None:
        """Resolve a class before its first job: it takes seconds, and a job's start time may be near."""
        try:
            await self._aws.ec2(job_class.spec.region).place(job_class)
        except (Ec2Error, Ec2Unanswered) as error:
            log.warning("SpotJobClass %s cannot be resolved yet: %s", job_class.name, error)

    async def order(self, job: SpotJob, classes: dict[str, SpotJobClass]) -> Order | Obstacle:
        """The order for this job, or why there is none."""
        found = find_class(job, classes)
        if isinstance(found, str):
            return self._class_not_ready(found)
        if not await self._admits(found, job.metadata.namespace):
            return self._class_not_ready(
                f"SpotJobClass {found.name} does not admit namespace {job.metadata.namespace} (namespaceSelector)"
            )
        try:
            place = await self._aws.ec2(found.spec.region).place(found)
        except Ec2Error as error:
            return self.obstacle(error.fault.reason, f"SpotJobClass {found.name}: {error.fault.message}", CLASS_RETRY)
        except Ec2Unanswered as error:
            return self._class_not_ready(f"SpotJobClass {found.name}: EC2 gave no answer ({error})")
        return self._remembered(job, found, place)

    def _remembered(self, job: SpotJob, job_class: SpotJobClass, place: Resolved) -> Order | Obstacle:
        """A thousand equal jobs make one order: a region has a thousand instance types to choose from."""
        capacity_type = capacity_type_for(job, self._clock.now())
        wishes = (job.spec.resources, job.spec.architecture, job.spec.instance_types, capacity_type)
        key = (f"{job_class.metadata.uid}/{job_class.metadata.resource_version}", repr(wishes))
        known = self._made.get(key)
        if known is None or known[0] is not place:
            if len(self._made) >= ORDERS_KEPT:
                self._made.clear()
            known = self._made[key] = (place, self._order(job, job_class, place, capacity_type))
        return known[1]

    def _order(
        self, job: SpotJob, job_class: SpotJobClass, place: Resolved, capacity_type: CapacityType
    ) -> Order | Obstacle:
        pools = admissible(job.spec, job_class.spec, place, capacity_type)
        if isinstance(pools, Refused):
            return Obstacle(Reason.LAUNCH_REJECTED, pools.message, retry_at=None)
        tags = plan.tags_of(job_class, self._cluster.name, self._cluster.uid)
        try:
            user_data = self._user_data(job_class)
        except ValueError as error:
            return Obstacle(Reason.LAUNCH_REJECTED, f"SpotJobClass {job_class.name}: {error}", retry_at=None)
        template = plan.launch_template(
            job_class,
            place,
            job.spec.architecture,
            user_data=user_data,
            user_data_key=self._user_data_key(job_class),
            capacity_type=capacity_type,
            tags=tags,
        )
        disk = plan.larger_disk(job.spec, job_class.spec, place)
        shape = plan.shape_of(template.name, pools, capacity_type, disk)
        return Order(shape, job_class, template, pools, place.subnets, capacity_type, disk, tags)

    def _user_data(self, job_class: SpotJobClass) -> str:
        return userdata.render(
            self._cluster.agent_source,
            api_url=job_class.spec.api_url,
            window_seconds=self._cluster.window_seconds,
            launch_token=self._cluster.launch_token,
            ca_bundle=job_class.spec.ca_bundle,
        )

    def _user_data_key(self, job_class: SpotJobClass) -> str:
        """What the user data means: its gzip differs between Python versions, this does not."""
        cluster = self._cluster
        meaning = [cluster.agent_source, job_class.spec.api_url, cluster.window_seconds, cluster.launch_token]
        return hashlib.sha256(json.dumps([*meaning, job_class.spec.ca_bundle]).encode()).hexdigest()

    def obstacle(self, reason: Reason, message: str, retry_in: timedelta) -> Obstacle:
        """An obstacle that ends the job if waiting does not help, and is retried otherwise."""
        hopeless = reason is Reason.LAUNCH_REJECTED
        return Obstacle(reason, message, None if hopeless else self._clock.now() + retry_in)

    def _class_not_ready(self, message: str) -> Obstacle:
        return self.obstacle(Reason.CLASS_NOT_READY, message, CLASS_RETRY)

    async def _admits(self, job_class: SpotJobClass, namespace: str) -> bool:
        wanted = job_class.spec.namespace_selector.match_labels
        if not wanted:
            return True
        labels = await self._labels_of(namespace)
        return all(labels.get(name) == value for name, value in wanted.items())

    async def _labels_of(self, namespace: str) -> dict[str, str]:
        now = self._clock.now()
        cached = self._labels.get(namespace)
        if cached is not None and now - cached[0] < LABELS_KEPT:
            return cached[1]
        try:
            labels = dict(await self._kube.namespace_labels(namespace))
        except NotFound:
            labels = {}
        self._labels[namespace] = (now, labels)
        return labels


def find_class(job: SpotJob, classes: dict[str, SpotJobClass]) -> SpotJobClass | str:
    """The job's class, or a sentence that says why there is none."""
    if job.spec.class_name is not None:
        return classes.get(job.spec.class_name) or f"SpotJobClass {job.spec.class_name} does not exist"
    defaults = [c for c in classes.values() if c.default]
    if len(defaults) == 1:
        return defaults[0]
    names = ", ".join(sorted(c.name for c in defaults)) or "none"
    return f"spec.className is not set and there must be exactly one default SpotJobClass; there is: {names}"

"""The port Ec2 on boto3: one region of one account."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import UTC, datetime
from functools import partial
from typing import Any

from spotjob.aws.buckets import Bucket, Buckets
from spotjob.aws.calls import Calls, Raw, pages
from spotjob.aws.catalogue import Catalogue
from spotjob.aws.ec2_answers import RECLAIM_CODES, console_from, fleet_answer_from, instance_from, reclaims_from
from spotjob.aws.errors import INSTANCE_UNKNOWN, TEMPLATE_EXISTS, TEMPLATE_MISSING
from spotjob.core.plan import CLUSTER_UID_TAG
from spotjob.core.ports import Clock, Console, Ec2Error, Fault, FleetAnswer, LaunchTemplate, Place
from spotjob.core.reasons import Reason
from spotjob.core.resources import SpotJobClass
from spotjob.core.states import Instance, InstanceState

TEMPLATE_SECONDS = 600
"""How long a launch template that was seen is taken for existing."""
IDS_PER_FILTER = 200
"""EC2's limit for the values of one filter."""
IDS_PER_TERMINATION = 500
"""Half of EC2's limit: one id that EC2 refuses fails the whole call."""
MOST_UNANSWERED = 1000
"""Launches without an answer whose first time is remembered."""


class BotoEc2:
    """Calls EC2. `launches` is a client without retries of its own, `calls` one with."""

    def __init__(self, region: str, launches: Calls, calls: Calls, ssm: Calls, clock: Clock) -> None:
        self._region, self._launches, self._calls, self._clock = region, launches, calls, clock
        self._catalogue = Catalogue(calls, ssm, clock)
        self._buckets = Buckets(clock)
        self._templates_seen: dict[str, float] = {}
        self._first_asked: dict[str, datetime] = {}

    @property
    def region(self) -> str:
        return self._region

    async def place(self, job_class: SpotJobClass) -> Place:
        return await self._catalogue.place(job_class.spec)

    # ---- launch templates ----

    async def ensure_launch_template(self, template: LaunchTemplate) -> None:
        """Create it unless it was seen lately, or is there."""
        seen = self._templates_seen.get(template.name)
        if seen is not None and self._clock.monotonic() - seen < TEMPLATE_SECONDS:
            return
        if not await self._template_exists(template.name):
            await self._create_template(template)
        self._templates_seen[template.name] = self._clock.monotonic()

    async def _template_exists(self, name: str) -> bool:
        try:
            await self._paced(self._buckets.describe_templates, "describe_launch_templates", LaunchTemplateNames=[name])
        except Ec2Error as error:
            if error.fault.code in TEMPLATE_MISSING:
                return False
            raise
        return True

    async def _create_template(self, template: LaunchTemplate) -> None:
        """One that exists by now has the same contents: its name is their hash."""
        tags = [{"Key": key, "Value": value} for key, value in sorted(template.tags.items())]
        request = {
            "LaunchTemplateName": template.name,
            "LaunchTemplateData": dict(template.data),
            "TagSpecifications": [{"ResourceType": "launch-template", "Tags": tags}],
        }
        try:
            await self._paced(self._buckets.create_template, "create_launch_template", **request)
        except Ec2Error as error:
            if error.fault.code not in TEMPLATE_EXISTS:
                raise

    async def list_launch_templates(self, cluster_uid: str) -> Sequence[tuple[str, datetime]]:
        call = partial(self._paced, self._buckets.describe_templates, "describe_launch_templates")
        every = pages(call, Filters=_of_cluster(cluster_uid), MaxResults=200)
        listed = [raw async for page in every for raw in page["LaunchTemplates"]]
        return [(raw["LaunchTemplateName"], raw["CreateTime"].astimezone(UTC)) for raw in listed]

    async def delete_launch_template(self, name: str) -> None:
        self._templates_seen.pop(name, None)
        try:
            await self._paced(self._buckets.delete_template, "delete_launch_template", LaunchTemplateName=name)
        except Ec2Error as error:
            if error.fault.code not in TEMPLATE_MISSING:
                raise

    # ---- launching ----

    async def create_fleet(self, request: Mapping[str, Any]) -> FleetAnswer:
        """CreateFleet. Instances get the time when this ClientToken was first sent as their launch time.

        That is earlier than the truth, also when a repeat brings the instances of a call whose answer was lost, so
        no instance is ever taken for younger than it is. The next listing brings EC2's own LaunchTime.
        """
        await self._buckets.create_fleet.take()
        token = str(request["ClientToken"])
        asked = self._first_asked.setdefault(token, self._clock.now())
        self._forget_long_lost()
        try:
            raw = await self._launches.call("create_fleet", **request)
        except Ec2Error as error:
            self._learn(request, error.fault)
            del self._first_asked[token]
            raise
        del self._first_asked[token]
        answer = fleet_answer_from(raw, request, self._region, asked)
        for fault in answer.faults:
            self._learn(request, fault)
        return answer

    def _learn(self, request: Mapping[str, Any], fault: Fault) -> None:
        if fault.code in TEMPLATE_MISSING:
            self._templates_seen.pop(_template_of(request), None)
        if fault.reason is Reason.THROTTLED:
            self._buckets.create_fleet.drain()

    def _forget_long_lost(self) -> None:
        while len(self._first_asked) > MOST_UNANSWERED:
            del self._first_asked[next(iter(self._first_asked))]

    # ---- looking ----

    async def describe_cluster(self, cluster_uid: str) -> Sequence[Instance]:
        return await self._describe(_of_cluster(cluster_uid))

    async def describe_ids(self, instance_ids: Sequence[str]) -> Sequence[Instance]:
        """By filter, not by parameter: an unknown id is then just missing, and the larger request bucket applies."""
        found: list[Instance] = []
        for chunk in _chunks(instance_ids, IDS_PER_FILTER):
            found += await self._describe([{"Name": "instance-id", "Values": chunk}])
        return found

    async def _describe(self, filters: list[dict[str, Any]]) -> list[Instance]:
        call = partial(self._paced, self._buckets.describe_instances, "describe_instances")
        every = pages(call, Filters=filters, MaxResults=1000)
        reservations = [raw async for page in every for raw in page["Reservations"]]
        return [instance_from(raw, self._region) for each in reservations for raw in each["Instances"]]

    async def describe_reclaims(self, cluster_uid: str) -> Mapping[str, datetime]:
        """EC2 picks them by their status, so that a quiet cluster's answer is empty."""
        call = partial(self._paced, self._buckets.describe_spot_requests, "describe_spot_instance_requests")
        filters = [*_of_cluster(cluster_uid), {"Name": "status-code", "Values": list(RECLAIM_CODES)}]
        every = pages(call, Filters=filters, MaxResults=1000)
        return reclaims_from([raw async for page in every for raw in page["SpotInstanceRequests"]])

    async def describe_impaired(self) -> Set[str]:
        """Two listings, because filters are joined by `and`. Neither knows tags (DescribeInstanceStatus has none)."""
        failing: set[str] = set()
        for check in ("instance-status.status", "system-status.status"):
            call = partial(self._paced, self._buckets.describe_status, "describe_instance_status")
            every = pages(call, Filters=[{"Name": check, "Values": ["impaired"]}], MaxResults=1000)
            failing |= {raw["InstanceId"] async for page in every for raw in page["InstanceStatuses"]}
        return failing

    async def console_output(self, instance_id: str) -> Console | None:
        """What EC2 kept at the last change of state, for at least an hour (EC2 API, GetConsoleOutput).

        Not `Latest`: that reads the machine itself, which Nitro alone can, and only while it runs.
        """
        try:
            raw = await self._paced(self._buckets.console, "get_console_output", InstanceId=instance_id)
        except Ec2Error as error:
            if error.fault.code in INSTANCE_UNKNOWN:
                return None
            raise
        return console_from(raw)

    # ---- terminating ----

    async def terminate(self, instance_ids: Sequence[str]) -> Mapping[str, InstanceState]:
        """TerminateInstances in chunks. A chunk that EC2 refuses is halved until the culprit stands alone.

        One unknown or protected instance fails a whole call with no effect; and an instance that was terminated a
        while ago has lost its tags, so that a policy on tags denies it. Unknown ids are left out; after all others
        were tried, any other refusal is raised.
        """
        states: dict[str, InstanceState] = {}
        refusal: Ec2Error | None = None
        waiting = list(_chunks(instance_ids, IDS_PER_TERMINATION))
        while waiting:
            chunk = waiting.pop()
            try:
                states |= await self._terminate(chunk)
            except Ec2Error as error:
                if error.fault.reason is not Reason.LAUNCH_REJECTED:
                    raise
                if len(chunk) > 1:
                    waiting += _chunks(chunk, (len(chunk) + 1) // 2)
                elif error.fault.code not in INSTANCE_UNKNOWN:
                    refusal = error
        if refusal is not None:
            raise refusal
        return states

    async def _terminate(self, instance_ids: Sequence[str]) -> dict[str, InstanceState]:
        await self._buckets.terminated_instances.take(len(instance_ids))
        raw = await self._paced(self._buckets.terminate, "terminate_instances", InstanceIds=list(instance_ids))
        changes = raw["TerminatingInstances"]
        return {change["InstanceId"]: InstanceState(change["CurrentState"]["Name"]) for change in changes}

    # ---- calls ----

    async def _paced(self, bucket: Bucket, operation: str, **request: Any) -> Raw:
        await bucket.take()
        try:
            return await self._calls.call(operation, **request)
        except Ec2Error as error:
            if error.fault.reason is Reason.THROTTLED:
                bucket.drain()
            raise


# ---- parts of requests --------------------------------------------------------------------------------------------


def _template_of(request: Mapping[str, Any]) -> str:
    return str(request["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["LaunchTemplateName"])


def _of_cluster(cluster_uid: str) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{CLUSTER_UID_TAG}", "Values": [cluster_uid]}]


def _chunks(ids: Sequence[str], size: int) -> Iterator[list[str]]:
    """Each id once, in order, at most `size` together."""
    distinct = list(dict.fromkeys(ids))
    return (distinct[start : start + size] for start in range(0, len(distinct), size))

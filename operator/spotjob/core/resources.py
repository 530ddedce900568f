"""The kinds SpotJob and SpotJobClass. `crds/*.yaml` are generated from these models by `make crds`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.spec import SpotJobSpec
from spotjob.core.states import CapacityType, InstanceState
from spotjob.core.wire import GROUP, Metadata, ShortText, Wire, atomic, cel, list_map, rules

FINALIZER = f"{GROUP}/instance"
DEFAULT_CLASS_ANNOTATION = f"{GROUP}/is-default-class"
DRILL_ANNOTATION = f"{GROUP}/drill"
"""On a SpotJob: seconds from now at which a make-believe reclaim takes its instance. Removed once it is seen."""


# ---- SpotJob status -----------------------------------------------------------------------------------------------


class Condition(Wire):
    """metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    status: Literal["True", "False", "Unknown"]
    reason: Annotated[str, Field(max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")]
    message: Annotated[str, Field(max_length=32_768)] = ""
    last_transition_time: datetime
    observed_generation: int | None = None


class Counts(Wire):
    """How much of each budget is used."""

    failures: int = 0
    interruptions: int = 0
    launch_errors: int = 0


class CallbackResult(Wire):
    """What the container itself said."""

    ok: bool
    message: ShortText = ""


class Attempt(Wire):
    """One run of the container on one instance."""

    number: int
    instance_id: str
    region: str = ""
    spot_instance_request_id: str | None = None
    instance_type: str | None = None
    availability_zone: str | None = None
    capacity_type: CapacityType = CapacityType.SPOT
    bound_at: datetime
    claimed_at: datetime | None = None
    claim_hash: str | None = None
    """sha256 of the agent's nonce, in hex: the first claim wins, the same nonce may repeat."""
    power_off_at: datetime | None = None
    """When the instance powers itself off, whatever happens."""
    started_at: datetime | None = None
    notice_at: datetime | None = None
    """When EC2 said it would take the instance back; of a drill, when that would be."""
    drill_at: datetime | None = None
    """When the reclaim that is only a drill would be."""
    advised_at: datetime | None = None
    """When EC2 recommended to leave the instance."""
    impaired_at: datetime | None = None
    """Since when the instance's status checks fail."""
    heard_at: datetime | None = None
    """When the agent was last heard; kept only while the status checks fail."""
    stop_by: datetime | None = None
    """The container was told to stop; at this time its instance is terminated in any case."""
    callback: CallbackResult | None = None
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    message: ShortText | None = None
    log_tail: Annotated[str, Field(max_length=2048)] | None = None
    """The last output, of the last attempt only."""

    @property
    def over(self) -> bool:
        return self.outcome is not None

    @property
    def called_back_ok(self) -> bool:
        """The container itself has said that all went well."""
        return self.callback is not None and self.callback.ok

    def silent(self, state: InstanceState) -> bool:
        """Nothing of this attempt can run any more, with its instance in this state.

        shutting-down is not enough by itself: the container may still get its last seconds. It is enough when the
        agent has reported the container's end, or when the attempt is over and was never claimed (the API refuses
        the claim then).
        """
        if state.dead or self.outcome is Outcome.NEVER_STARTED:
            return True
        told = self.outcome is not None and (self.outcome.container_stopped or self.exit_code is not None)
        stopped = told or (self.over and self.claimed_at is None)
        return stopped and state is InstanceState.SHUTTING_DOWN


class SpotJobStatus(Wire):
    """Where the job stands. Written by the operator and by the API, always with a resourceVersion."""

    phase: Phase | None = None
    """Where the job stands."""
    reason: Reason | None = None
    """Why the job is in its phase, from a closed list."""
    message: ShortText | None = None
    """The reason in words."""
    observed_generation: int | None = None
    """The generation of the spec that this status is about."""
    start_time: datetime | None = None
    """When the first instance was bound."""
    completion_time: datetime | None = None
    """When the verdict was known."""
    waiting_since: datetime | None = None
    """Since when the job has been in its present wait."""
    attempt: int | None = None
    """The number of the newest attempt, from 1."""
    instance_id: str | None = None
    """The newest attempt's instance."""
    spot_instance_request_id: str | None = None
    """The newest attempt's Spot request; absent for on-demand."""
    capacity_type: CapacityType | None = None
    """How the newest instance is bought, or the one that the job waits for: on-demand after a fallback."""
    exit_code: int | None = None
    """The exit code of the newest attempt's container."""
    next_attempt_time: datetime | None = None
    """When EC2 is asked for an instance next, or at the latest (AwaitingResult)."""
    counts: Counts = Counts()
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
    """What `kubectl wait` waits for: Complete, Failed and more."""
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=10, json_schema_extra=list_map("number"))] = ()
    """The last ten."""


class SpotJob(Wire):
    """One container on one EC2 Spot Instance."""

    metadata: Metadata
    spec: SpotJobSpec
    status: SpotJobStatus = SpotJobStatus()

    @property
    def key(self) -> str:
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @property
    def deleting(self) -> bool:
        return self.metadata.deletion_timestamp is not None

    @property
    def guarded(self) -> bool:
        """The finalizer is on."""
        return FINALIZER in self.metadata.finalizers

    @property
    def finished(self) -> bool:
        return self.status.phase is not None and self.status.phase.finished

    @property
    def current(self) -> Attempt | None:
        """The newest attempt, running or over."""
        return self.status.attempts[-1] if self.status.attempts else None

    @property
    def running(self) -> Attempt | None:
        """The newest attempt, if it is not over."""
        attempt = self.current
        return None if attempt is None or attempt.over else attempt


# ---- SpotJobClass -------------------------------------------------------------------------------------------------


class Subnets(Wire):
    """Where instances are launched: by ids, or by tags."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("has(self.ids) != has(self.tags)", "exactly one of ids and tags is needed"),
        )
    )
    ids: (
        Annotated[
            tuple[Annotated[str, Field(pattern=r"^subnet-[0-9a-f]+$", max_length=64)], ...],
            Field(min_length=1, max_length=32, json_schema_extra=atomic()),
        ]
        | None
    ) = None
    tags: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(min_length=1, max_length=10)] | None = None


class InstanceTypes(Wire):
    """Which instance types the class admits; `*` stands for any text."""

    allow: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=100, json_schema_extra=atomic())
    ] = ()
    """Empty means all of the current generation."""
    exclude: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=100, json_schema_extra=atomic())
    ] = ()


class Volume(Wire):
    """The root volume. It is deleted with its instance."""

    size_gib: Annotated[int, Field(ge=8, le=16_384, alias="sizeGiB")] = 30
    type: Literal["gp3", "gp2", "io2"] = "gp3"
    encrypted: bool = True


class LabelSelector(Wire):
    """Labels that must all be there."""

    match_labels: Annotated[dict[str, Annotated[str, Field(max_length=63)]], Field(max_length=16)] = {}


class SpotJobClassSpec(Wire):
    """Where and as what instances run. Set by the administrator: the AWS rights of a job live here."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("self.region == oldSelf.region", "region cannot be changed", ".region", "FieldValueForbidden"),
        )
    )
    region: Annotated[str, Field(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$", max_length=32)]
    """The AWS region, such as eu-central-1."""
    subnets: Subnets
    security_groups: Annotated[
        tuple[Annotated[str, Field(pattern=r"^sg-[0-9a-f]+$", max_length=64)], ...],
        Field(min_length=1, max_length=16, json_schema_extra=atomic()),
    ]
    """Ids of the security groups of the instances."""
    instance_profile: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The IAM instance profile by name; absent means that instances have no AWS rights."""
    ami_alias: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^(ami-[0-9a-f]+|ssm:/.+)$")] = (
        "ssm:/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id"
    )
    """An AMI id, or `ssm:` and the name of a parameter that holds one."""
    instance_types: InstanceTypes = InstanceTypes()
    volume: Volume = Volume()
    max_concurrent: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Instances of this class at one time."""
    max_instance_seconds: Annotated[int, Field(ge=300, le=2_592_000)] = 86_400
    """The longest that any attempt may take; the instance powers itself off then."""
    metadata_access: Literal["none", "instance-role"] = "none"
    """Whether containers may reach the instance's metadata service, and so the rights of its role."""
    namespace_selector: LabelSelector = LabelSelector()
    """Namespaces that may use this class; empty means all."""
    tags: Annotated[dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=30)] = {}
    """Extra tags on instances and volumes."""
    api_url: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=512)]
    """Where instances reach the API."""
    ca_bundle: Annotated[str, Field(max_length=8192)] | None = None
    """PEM certificates that the agent trusts for apiURL; absent means those of the AMI."""


class SpotJobClass(Wire):
    """Where and as what instances run."""

    metadata: Metadata
    spec: SpotJobClassSpec

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def default(self) -> bool:
        return self.metadata.annotations.get(DEFAULT_CLASS_ANNOTATION) == "true"

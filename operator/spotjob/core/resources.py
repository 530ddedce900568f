"""The wire types of the kinds. `crds/*.yaml` are generated from these models by `make crds`.

Reading is lenient (a field that this version does not know is ignored, so an older operator tolerates a newer
object); the API server is strict, since unknown fields are refused with fieldValidation=Strict.
Lengths and counts are bounded everywhere: CEL rules have a cost budget that is computed from the bounds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from spotjob.core.states import CapacityType, InstanceState, Outcome, Phase, Reason

GROUP = "spotjob.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FINALIZER = f"{GROUP}/instance"
DEFAULT_CLASS_ANNOTATION = f"{GROUP}/is-default-class"
RESERVED_ENV_PREFIX = "SPOTJOB_"

_ACRONYMS = {"id": "ID", "url": "URL"}


def wire_name(name: str) -> str:
    """The Kubernetes spelling of a Python name: `instance_id` is `instanceID`, `api_url` is `apiURL`."""
    first, *rest = name.split("_")
    return first + "".join(_ACRONYMS.get(word, word.title()) for word in rest)


def cel(rule: str, message: str, field_path: str = "", reason: str = "FieldValueInvalid") -> dict[str, str]:
    """One CEL validation rule. `field_path` names the field that the error shows, such as `.env`."""
    made = {"rule": rule, "message": message, "reason": reason}
    return {**made, "fieldPath": field_path} if field_path else made


def rules(*all_rules: dict[str, str]) -> dict[str, Any]:
    """Schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": list(all_rules)}


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extension of a list whose items are told apart by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def atomic() -> dict[str, Any]:
    """Schema extension of a list that is replaced as a whole."""
    return {"x-kubernetes-list-type": "atomic"}


class Wire(BaseModel):
    """Base of everything that travels: camelCase on the wire, frozen here."""

    model_config = ConfigDict(
        alias_generator=wire_name,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def wire(self) -> dict[str, Any]:
        """As JSON data, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# ---- values -------------------------------------------------------------------------------------------------------

Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
"""The name of a Kubernetes object: it becomes part of a URL, so nothing else gets in."""
ShortText = Annotated[str, Field(max_length=1024)]
Quantity = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maxLength": 32,
            "pattern": r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        }
    ),
]
"""A Kubernetes quantity above zero, such as 2, 500m or 4Gi; YAML may give a whole number.

A pattern and not CEL's quantity(): kube-apiserver 1.36.3 does not come back from `quantity('1e999999999')`.
"""


class Metadata(Wire):
    """The part of ObjectMeta that is used here."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}


# ---- SpotJob spec -------------------------------------------------------------------------------------------------


NO_NUL = r"^[^\x00]*$"
"""Linux ends arguments and environment values at a NUL."""


class KeySelector(Wire):
    """One key of a Secret or ConfigMap in the job's namespace."""

    name: ObjectName
    key: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]


class EnvVarSource(Wire):
    """Where a variable's value comes from; read when the instance claims the job."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.secretKeyRef) != has(self.configMapKeyRef)",
                "exactly one of secretKeyRef and configMapKeyRef is needed",
            )
        )
    )
    secret_key_ref: KeySelector | None = None
    config_map_key_ref: KeySelector | None = None


class EnvVar(Wire):
    """One environment variable of the container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("!(has(self.value) && has(self.valueFrom))", "at most one of value and valueFrom may be set"),
            cel("!self.name.startsWith('SPOTJOB_')", "names that begin with SPOTJOB_ are reserved", ".name"),
        )
    )
    name: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^=\s#\x00][^=\s\x00]*$")]
    value: Annotated[str, Field(max_length=32_768, pattern=NO_NUL)] | None = None
    """Passed byte for byte; nothing in it is expanded."""
    value_from: EnvVarSource | None = None


class ResourceRequests(Wire):
    """What the container needs of its instance. cpu and memory are also the container's limits."""

    cpu: Quantity | None = None
    """vCPUs, such as 2 or 500m."""
    memory: Quantity | None = None
    """Bytes, such as 4Gi."""
    gpu: Annotated[Annotated[int, Field(ge=1, le=64)] | None, Field(alias="nvidia.com/gpu")] = None
    """NVIDIA GPUs."""
    ephemeral_storage: Annotated[Quantity | None, Field(alias="ephemeral-storage")] = None
    """Size of the root volume, at least that of the class."""


class Resources(Wire):
    """What instance types may serve the job."""

    requests: ResourceRequests = ResourceRequests()


class Fallback(Wire):
    """When to go from spot to on-demand. Only a shortage in the spot market counts."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "has(self.afterInterruptions) || has(self.afterWaitingSeconds)",
                "at least one of afterInterruptions and afterWaitingSeconds is needed",
            )
        )
    )
    after_interruptions: Annotated[int, Field(ge=1, le=100)] | None = None
    """On-demand from the attempt that follows this many interruptions."""
    after_waiting_seconds: Seconds | None = None
    """On-demand when spot capacity has been short for this long."""


class Capacity(Wire):
    """How the instance is bought."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel("self.type == 'spot' || !has(self.fallback)", "fallback is only possible with type spot", ".fallback")
        )
    )
    type: CapacityType = CapacityType.SPOT
    fallback: Fallback | None = None


class Interruption(Wire):
    """What the container is told when EC2 takes its instance back."""

    signal: Annotated[str, Field(pattern=r"^SIG(TERM|INT|QUIT|HUP|USR1|USR2|KILL)$", max_length=16)] = "SIGTERM"
    seconds_before: Annotated[int, Field(ge=1, le=110)] = 15
    """The signal is sent this long before the reclaim; until then the container runs on."""
    exit_zero: Literal["Interrupted", "Succeeded"] = "Interrupted"
    """What exit code 0 means after the signal."""


ExitCode = Annotated[int, Field(ge=1, le=255)]


class RetryOn(Wire):
    """Which exit codes of the container are retried within backoffLimit."""

    exit_codes: Annotated[tuple[ExitCode, ...], Field(max_length=64, json_schema_extra=atomic())] = ()
    """Only these; empty means every code."""
    never: Annotated[tuple[ExitCode, ...], Field(max_length=64, json_schema_extra=atomic())] = ()
    """Never these."""


class LocalReference(Wire):
    """An object in the job's namespace."""

    name: ObjectName


def _fixed(*fields: str) -> list[dict[str, str]]:
    """Rules that keep fields of spec as they were born, absent ones absent."""
    return [
        cel(
            f"has(self.{f}) == has(oldSelf.{f}) && (!has(self.{f}) || self.{f} == oldSelf.{f})",
            f"{f} cannot be changed; delete the SpotJob and create another",
            f".{f}",
            "FieldValueForbidden",
        )
        for f in fields
    ]


Argument = Annotated[str, Field(max_length=8192, pattern=NO_NUL)]
StartTime = Annotated[
    datetime,
    Field(
        json_schema_extra=rules(
            cel(
                "self >= timestamp('2000-01-01T00:00:00Z') && self < timestamp('9000-01-01T00:00:00Z')",
                "must be a time between the years 2000 and 9000",
            )
        )
    ),
]
"""RFC 3339. The API server also takes the year 0, which Python cannot hold."""


class SpotJobSpec(Wire):
    """What to run, on what, and how hard to try."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            *_fixed("image", "command", "args", "className", "architecture", "instanceTypes", "resources", "env"),
        )
    )
    image: Annotated[str, Field(min_length=1, max_length=512, pattern=r"^\S+$")]
    """The container image, as `docker pull` takes it."""
    command: Annotated[tuple[Argument, ...], Field(max_length=128, json_schema_extra=atomic())] | None = None
    """Instead of the image's entrypoint. Not run in a shell."""
    args: Annotated[tuple[Argument, ...], Field(max_length=128, json_schema_extra=atomic())] | None = None
    """Instead of the image's command."""
    env: Annotated[tuple[EnvVar, ...], Field(max_length=128, json_schema_extra=list_map("name"))] = ()
    """Environment variables of the container."""
    start_at: StartTime | None = None
    """Not before this time (RFC 3339); absent means now."""
    class_name: ObjectName | None = None
    """The SpotJobClass; absent means the one marked as default."""
    resources: Resources = Resources()
    architecture: Literal["amd64", "arm64"] = "amd64"
    """What the image is built for."""
    instance_types: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=60, json_schema_extra=atomic())
    ] = ()
    """Only these instance types; `*` stands for any text, as in c6*.large. Empty means all that the class allows."""
    capacity: Capacity = Capacity()
    backoff_limit: Annotated[int, Field(ge=0, le=100)] = 0
    """How often a failed container is tried again."""
    interruption_limit: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many reclaims are accepted; absent means as many as the deadline allows."""
    capacity_timeout_seconds: Seconds | None = None
    """Give up waiting for capacity after this long; absent means wait."""
    active_deadline_seconds: Seconds | None = None
    """The whole job, from its first launch."""
    attempt_deadline_seconds: Seconds | None = None
    """One attempt, from its container's start."""
    startup_deadline_seconds: Annotated[int, Field(ge=30, le=86_400)] = 600
    """From the instance to the start of the container."""
    interruption: Interruption = Interruption()
    retry_on: RetryOn = RetryOn()
    image_pull_secrets: Annotated[
        tuple[LocalReference, ...], Field(max_length=8, json_schema_extra=list_map("name"))
    ] = ()
    """Secrets of type kubernetes.io/dockerconfigjson, read when the instance claims the job."""
    suspend: bool = False
    """While true no instance runs for this job; a running one is terminated."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Delete the object this long after it has finished; absent means keep it."""


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
    started_at: datetime | None = None
    notice_at: datetime | None = None
    """When EC2 said it would take the instance back."""
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

    def silent(self, state: InstanceState) -> bool:
        """Nothing of this attempt can run any more, with its instance in this state.

        shutting-down is not enough by itself: the container may still get its last seconds. It is enough when the
        agent has reported the container's end, or when the attempt is over and was never claimed (the API refuses
        the claim then).
        """
        if state.dead or self.outcome is Outcome.NEVER_STARTED:
            return True
        stopped = self.outcome is not None and (self.outcome.container_stopped or self.claimed_at is None)
        return stopped and state is InstanceState.SHUTTING_DOWN


class SpotJobStatus(Wire):
    """Where the job stands. Written by the operator and by the API, always with a resourceVersion."""

    phase: Phase | None = None
    reason: Reason | None = None
    message: ShortText | None = None
    observed_generation: int | None = None
    start_time: datetime | None = None
    """When the first instance was bound."""
    completion_time: datetime | None = None
    """When the verdict was known."""
    waiting_since: datetime | None = None
    """Since when the job has been in its present wait."""
    attempt: int | None = None
    instance_id: str | None = None
    """The newest attempt's instance."""
    spot_instance_request_id: str | None = None
    exit_code: int | None = None
    next_attempt_time: datetime | None = None
    counts: Counts = Counts()
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
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
    subnets: Subnets
    security_groups: Annotated[
        tuple[Annotated[str, Field(pattern=r"^sg-[0-9a-f]+$", max_length=64)], ...],
        Field(min_length=1, max_length=16, json_schema_extra=atomic()),
    ]
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

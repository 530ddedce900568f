"""What a SpotJob asks for: `.spec`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from spotjob.core.states import CapacityType
from spotjob.core.wire import NO_NUL, ObjectName, Quantity, Seconds, Wire, atomic, cel, list_map, rules


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
    """One key of a Secret in the job's namespace."""
    config_map_key_ref: KeySelector | None = None
    """One key of a ConfigMap in the job's namespace."""


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

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "self.signal != 'SIGKILL' || self.exitZero != 'Succeeded'",
                "must be Interrupted with signal SIGKILL: a killed container never exits with 0",
                ".exitZero",
            )
        )
    )
    signal: Annotated[str, Field(pattern=r"^SIG(TERM|INT|QUIT|HUP|USR1|USR2|KILL)$", max_length=16)] = "SIGTERM"
    seconds_before: Annotated[int, Field(ge=1, le=110)] = 15
    """The signal is sent this long before the reclaim; until then the container runs on."""
    exit_zero: Literal["Interrupted", "Succeeded"] = "Interrupted"
    """What exit code 0 means after the signal."""


ExitCode = Annotated[int, Field(ge=1, le=255)]


class RetryOn(Wire):
    """Which exit codes of the container are retried within backoffLimit."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            cel(
                "!has(self.exitCodes) || !has(self.never) || !self.never.exists(code, code in self.exitCodes)",
                "must not hold a code that exitCodes holds too",
                ".never",
            )
        )
    )
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


STARTUP_DEADLINE_SECONDS = 600

_LIMITS = (
    cel(
        "!has(self.activeDeadlineSeconds) || self.?attemptDeadlineSeconds.orValue(0) <= self.activeDeadlineSeconds",
        "must not be more than activeDeadlineSeconds, which ends the job first",
        ".attemptDeadlineSeconds",
    ),
    # The server fills the default in before it asks, so 600 may be nobody's wish.
    cel(
        "!has(self.activeDeadlineSeconds) || self.startupDeadlineSeconds <= self.activeDeadlineSeconds"
        f" || self.startupDeadlineSeconds == {STARTUP_DEADLINE_SECONDS}",
        "must not be more than activeDeadlineSeconds, which ends the job first;"
        f" only the default ({STARTUP_DEADLINE_SECONDS}) may be",
        ".startupDeadlineSeconds",
    ),
    cel(
        "!has(self.interruptionLimit)"
        " || self.?capacity.?fallback.?afterInterruptions.orValue(0) <= self.interruptionLimit",
        "must not be more than interruptionLimit, which ends the job first",
        ".capacity.fallback.afterInterruptions",
    ),
    cel(
        "!has(self.capacityTimeoutSeconds)"
        " || self.?capacity.?fallback.?afterWaitingSeconds.orValue(0) < self.capacityTimeoutSeconds",
        "must be less than capacityTimeoutSeconds, which ends the job first",
        ".capacity.fallback.afterWaitingSeconds",
    ),
    cel(
        "self.backoffLimit > 0 || size(self.?retryOn.?exitCodes.orValue([])) == 0",
        "must be at least 1 when retryOn.exitCodes is set, or nothing is ever retried",
        ".backoffLimit",
    ),
)
"""Refused is what can never act because another limit always comes first. What is only unusual is accepted:
capacityTimeoutSeconds may be more than activeDeadlineSeconds, which does not count before the first launch.
"""

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
            *_LIMITS,
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
    startup_deadline_seconds: Annotated[int, Field(ge=30, le=86_400)] = STARTUP_DEADLINE_SECONDS
    """From the instance to the start of the container."""
    interruption: Interruption = Interruption()
    retry_on: RetryOn = RetryOn()
    image_pull_secrets: Annotated[
        tuple[LocalReference, ...], Field(max_length=8, json_schema_extra=list_map("name"))
    ] = ()
    """Secrets of type kubernetes.io/dockerconfigjson, read when the instance claims the job."""
    suspend: bool = False
    """While true no instance runs for this job; a running one is terminated."""
    termination_grace_period_seconds: Annotated[int, Field(ge=0, le=3600)] = 30
    """From the stop signal to the kill, when the job is deleted or suspended."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=31_536_000)] | None = None
    """Delete the object this long after it has finished; absent means keep it."""

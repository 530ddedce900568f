"""What an agent is handed when its claim holds: the container, its environment with all values, limits, tokens."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING
from typing import Any, Literal

from spotjob.core.contract import ClaimedJob, InterruptionOrders, Limits, RegistryAuth
from spotjob.core.quantities import parse_quantity
from spotjob.core.resources import Attempt, SpotJob, SpotJobClass
from spotjob.core.spec import EnvVar, ResourceRequests
from spotjob.core.tokens import Claims, Keyring, Kind, sign

LEAST_MARGIN, MOST_MARGIN = timedelta(minutes=1), timedelta(minutes=5)
"""The operator ends an attempt at its deadline; the instance's own timer comes a margin later. A minute is more than
the clocks of two hosts differ and than a new leader needs; an instance that nobody ends costs no more than five.
"""

CALLBACK_PATH = "/v1/callback"

DOCKER_CONFIG_KEY = ".dockerconfigjson"
"""The key of a Secret of type kubernetes.io/dockerconfigjson."""

DOCKER_HUB = "docker.io"
_DOCKER_HUB_NAMES = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")


class Unready(Exception):
    """Something that the job names is missing or unreadable; the message names it and holds no value."""


@dataclass(frozen=True, slots=True)
class Source:
    """A Secret or ConfigMap of the job's namespace that must be read for the hand-over."""

    kind: Literal["Secret", "ConfigMap"]
    name: str


Contents = Mapping[Source, Mapping[str, bytes]]
"""What was read; a source that does not exist is missing."""


def sources(job: SpotJob) -> frozenset[Source]:
    """All that must be read before `hand_over`."""
    pull = {Source("Secret", reference.name) for reference in job.spec.image_pull_secrets}
    return frozenset(pull | {source for source, _ in map(_reference, job.spec.env) if source is not None})


def hand_over(
    job: SpotJob, attempt: Attempt, job_class: SpotJobClass, contents: Contents, keyring: Keyring, api_url: str
) -> ClaimedJob:
    """Everything that the agent needs for this attempt. Pure. Raises Unready.

    `api_url` wins over the class's apiURL for the container's callback; empty means the class's.
    """
    requests = job.spec.resources.requests
    agent_token = sign(keyring, token_claims("agent", job, attempt))
    container_token = sign(keyring, token_claims("container", job, attempt))
    callback_url = (api_url or job_class.spec.api_url).rstrip("/") + CALLBACK_PATH
    return ClaimedJob(
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        uid=job.metadata.uid,
        attempt=attempt.number,
        image=job.spec.image,
        command=None if job.spec.command is None else list(job.spec.command),
        args=None if job.spec.args is None else list(job.spec.args),
        env={**environment(job, contents), **_own_environment(job, attempt, callback_url, container_token)},
        registry_auth=registry_auth(job, contents),
        limits=limits(requests),
        interruption=InterruptionOrders(
            signal=job.spec.interruption.signal, seconds_before=job.spec.interruption.seconds_before
        ),
        start_by=start_by(job, attempt, job_class),
        power_off_at=power_off_at(job, attempt, job_class),
        agent_token=agent_token,
        mask=[*_secret_values(job, contents), agent_token, container_token],
    )


def token_claims(kind: Kind, job: SpotJob, attempt: Attempt) -> Claims:
    """What the tokens of this attempt say: the same each time."""
    return Claims(
        kind=kind,
        uid=job.metadata.uid,
        namespace=job.metadata.namespace,
        name=job.metadata.name,
        attempt=attempt.number,
        instance=attempt.instance_id,
    )


def _own_environment(job: SpotJob, attempt: Attempt, callback_url: str, container_token: str) -> dict[str, str]:
    """contract.CONTAINER_ENV but SPOTJOB_INTERRUPTION_FILE, whose path only the agent knows."""
    return {
        "SPOTJOB_NAME": job.metadata.name,
        "SPOTJOB_NAMESPACE": job.metadata.namespace,
        "SPOTJOB_ATTEMPT": str(attempt.number),
        "SPOTJOB_CALLBACK_URL": callback_url,
        "SPOTJOB_CALLBACK_TOKEN": container_token,
    }


def start_by(job: SpotJob, attempt: Attempt, job_class: SpotJobClass) -> datetime:
    """When the kill timer fires if the container has not begun by then; the operator's own deadline comes first."""
    own = attempt.bound_at + _with_margin(job.spec.startup_deadline_seconds)
    return min(own, power_off_at(job, attempt, job_class))


def power_off_at(job: SpotJob, attempt: Attempt, job_class: SpotJobClass) -> datetime:
    """When the instance's kill timer fires. It hangs on stored times only, so a repeated claim gets the same."""
    spec, times = job.spec, [attempt.bound_at + timedelta(seconds=job_class.spec.max_instance_seconds)]
    if spec.attempt_deadline_seconds is not None:
        seconds = spec.startup_deadline_seconds + spec.attempt_deadline_seconds
        times.append(attempt.bound_at + _with_margin(seconds))
    if spec.active_deadline_seconds is not None and job.status.start_time is not None:
        times.append(job.status.start_time + _with_margin(spec.active_deadline_seconds))
    return min(times)


def _with_margin(seconds: int) -> timedelta:
    """Twice the deadline, within the limits of the margin."""
    deadline = timedelta(seconds=seconds)
    return deadline + min(max(deadline, LEAST_MARGIN), MOST_MARGIN)


def limits(requests: ResourceRequests) -> Limits:
    """The engine's units, rounded up: 500m are 500 000 000 nano-CPUs."""
    return Limits(
        nano_cpus=None if requests.cpu is None else _whole(requests.cpu, 1_000_000_000),
        memory_bytes=None if requests.memory is None else _whole(requests.memory, 1),
        gpus=requests.gpu,
    )


def _whole(quantity: str, factor: int) -> int:
    return int((parse_quantity(quantity) * factor).to_integral_value(ROUND_CEILING))


# ---- environment --------------------------------------------------------------------------------------------------


def environment(job: SpotJob, contents: Contents) -> dict[str, str]:
    """The job's variables with their values, byte for byte. Raises Unready."""
    return {variable.name: _value(variable, contents) for variable in job.spec.env}


def _value(variable: EnvVar, contents: Contents) -> str:
    source, key = _reference(variable)
    if source is None:
        return variable.value or ""
    value = _read(contents, source, key)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Unready(f"env {variable.name}: key {key} of {source.kind} {source.name} is not UTF-8") from error


def _reference(variable: EnvVar) -> tuple[Source | None, str]:
    if variable.value_from is None:
        return None, ""
    if (secret := variable.value_from.secret_key_ref) is not None:
        return Source("Secret", secret.name), secret.key
    if (config_map := variable.value_from.config_map_key_ref) is not None:
        return Source("ConfigMap", config_map.name), config_map.key
    return None, ""


def _read(contents: Contents, source: Source, key: str) -> bytes:
    if source not in contents:
        raise Unready(f"{source.kind} {source.name} does not exist")
    if key not in contents[source]:
        raise Unready(f"{source.kind} {source.name} has no key {key}")
    return contents[source][key]


def _secret_values(job: SpotJob, contents: Contents) -> list[str]:
    """Each secret value, and each line of it without the blanks around it: programs print lines, and trim them."""
    found: dict[str, None] = {}
    for variable in job.spec.env:
        source, _ = _reference(variable)
        if source is not None and source.kind == "Secret":
            value = _value(variable, contents)
            lines = (line.strip() for line in value.splitlines())
            found.update(dict.fromkeys(text for text in (value, *lines) if text.strip()))
    return list(found)


# ---- registries ---------------------------------------------------------------------------------------------------


def registry_auth(job: SpotJob, contents: Contents) -> dict[str, RegistryAuth]:
    """Logins by registry host, Docker Hub as docker.io; the first Secret that names a host wins. Raises Unready."""
    found: dict[str, RegistryAuth] = {}
    for reference in job.spec.image_pull_secrets:
        source = Source("Secret", reference.name)
        for host, auth in _logins(source, _read(contents, source, DOCKER_CONFIG_KEY)):
            found.setdefault(host, auth)
    return found


def _logins(source: Source, document: bytes) -> Iterator[tuple[str, RegistryAuth]]:
    try:
        auths = json.loads(document)["auths"]
        for address, entry in auths.items():
            yield _host(address), _login(entry)
    except (ValueError, KeyError, TypeError, AttributeError):
        message = f"Secret {source.name}: {DOCKER_CONFIG_KEY} is no Docker configuration with a login per registry"
        raise Unready(message) from None  # the cause may quote the password


def _login(entry: Mapping[str, Any]) -> RegistryAuth:
    if "auth" in entry:
        username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        if not colon:
            raise ValueError("auth is not user:password")
        return RegistryAuth(username=username, password=password)
    return RegistryAuth(username=entry["username"], password=entry["password"])


def _host(address: str) -> str:
    """`https://index.docker.io/v1/` is docker.io, `registry.example:5000/team` is registry.example:5000."""
    host = address.split("://", 1)[-1].split("/", 1)[0]
    return DOCKER_HUB if host in _DOCKER_HUB_NAMES else host

"""A SpotJob as an item of the DynamoDB table `Jobs`, for those who want to look jobs up without Kubernetes.

Attributes that the first job scheduler had keep its names: imageName, dateToRun, environmentVariablesList, jobStatus,
spotInstanceRequestId, instanceId, callback. No secret value ever gets into the table.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from spotjob.core.reasons import Phase, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.spec import EnvVar

Item = dict[str, Any]

SHARDS = 8
"""Partitions that the jobs of one status are spread over: one partition takes 1,000 writes per second."""
ENVIRONMENT_BYTES = 300 * 1024
"""Room for environmentVariablesList. DynamoDB's limit is 400 KB for the whole item, and the rest is small."""


def item(job: SpotJob, now: datetime, ttl: timedelta) -> Item:
    """The whole item. `version` grows with every write of the object, as resourceVersion does."""
    stamped = {**content(job), "version": int(job.metadata.resource_version), "updatedAt": _text(now)}
    if not job.finished:
        return stamped
    return {**stamped, "expiresAt": _expiry(job.status.completion_time or now, ttl)}


def content(job: SpotJob) -> Item:
    """What the item says about the job: everything but `version`, `updatedAt` and `expiresAt`."""
    status, metadata = job.status, job.metadata
    attempt = job.current
    phase = status.phase or Phase.SCHEDULED
    due = job.spec.start_at or metadata.creation_timestamp
    said = attempt.callback if attempt else None
    attributes = {
        "id": metadata.uid,
        "namespace": metadata.namespace,
        "name": metadata.name,
        "imageName": job.spec.image,
        "dateToRun": _text(due) if due else None,
        "environmentVariablesList": list(_bounded(_variable(each) for each in job.spec.env)),
        "jobStatus": phase.value,
        "reason": status.reason.value if status.reason else None,
        "attempt": attempt.number if attempt else None,
        "instanceId": attempt.instance_id if attempt else None,
        "spotInstanceRequestId": attempt.spot_instance_request_id if attempt else None,
        "exitCode": status.exit_code,
        "callback": None if said is None else "ok" if said.ok else "nok",
        "statusShard": None if phase.terminated else f"{phase.value}#{_shard(metadata.uid)}",
    }
    return {name: value for name, value in attributes.items() if value is not None}


def closed(item: Mapping[str, Any], now: datetime, ttl: timedelta) -> Item:
    """The item of a job whose object is gone: its verdict stands, and without one it was cancelled."""
    phase = Phase(item["jobStatus"])
    end = {"jobStatus": phase.once_terminated.value}
    if not phase.finished:
        end["reason"] = Reason.CANCELLED.value
    kept = {name: value for name, value in item.items() if name != "statusShard"}
    stamps = {"version": item["version"] + 1, "updatedAt": _text(now), "expiresAt": _expiry(now, ttl)}
    return {**kept, **end, **stamps}


def open_shards() -> list[str]:
    """Every value of statusShard that an item of a job that is not terminated can have."""
    return [f"{phase.value}#{shard}" for phase in Phase if not phase.terminated for shard in range(SHARDS)]


def _shard(uid: str) -> int:
    return zlib.crc32(uid.encode()) % SHARDS


def _variable(variable: EnvVar) -> str:
    """NAME=value; a value that is read at claim time is named, never shown."""
    source = variable.value_from
    if source is None:
        return f"{variable.name}={variable.value or ''}"
    selector = source.secret_key_ref or source.config_map_key_ref
    kind = "secret" if source.secret_key_ref else "configMap"
    return f"{variable.name}=<{kind} {selector.name}, key {selector.key}>" if selector else f"{variable.name}="


def _bounded(variables: Iterable[str]) -> Iterator[str]:
    """As many as fit, in order, and then how many did not."""
    room, left_out = ENVIRONMENT_BYTES, 0
    for variable in variables:
        room -= len(variable.encode()) + 4  # what DynamoDB adds per element is at most this
        if room < 0:
            left_out += 1
        else:
            yield variable
    if left_out:
        yield f"<{left_out} more left out: an item holds 400 KB>"


def _expiry(finished: datetime, ttl: timedelta) -> int:
    """Epoch seconds, as DynamoDB's time to live wants them."""
    return int((finished + ttl).timestamp())


def _text(time: datetime) -> str:
    """ISO 8601 in UTC with milliseconds, as the first job scheduler wrote it: these sort as text."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Raw objects of the API server, narrowed to our types: the only place where their JSON is looked into."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from spotjob.core.ports import KubeError
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.resources import JobSequence
from spotjob.core.wire import API_VERSION, GROUP

log = logging.getLogger(__name__)

EVENT_NOTE_LENGTH = 1024
"""events.k8s.io/v1 refuses a longer note."""

Raw = dict[str, Any]
Kind = TypeVar("Kind", SpotJob, JobSequence)


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch."""

    kind: Literal["changed", "deleted", "bookmark"]
    resource_version: str
    """Where to resume."""
    uid: str
    """Empty in a bookmark."""
    job: SpotJob | None
    """With changed; None then means that this version cannot read the object."""


def event_about(job: SpotJob | JobSequence, reason: str, message: str, warning: bool, now: datetime) -> Raw:
    """The whole events.k8s.io/v1 Event. The kinds are called as their classes."""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"generateName": f"{job.metadata.name[:200].rstrip('-.')}-", "namespace": job.metadata.namespace},
        "eventTime": now.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": GROUP,
        "reportingInstance": GROUP,
        "action": reason,
        "reason": reason,
        "type": "Warning" if warning else "Normal",
        "note": message[:EVENT_NOTE_LENGTH],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": type(job).__name__,
            "namespace": job.metadata.namespace,
            "name": job.metadata.name,
            "uid": job.metadata.uid,
            "resourceVersion": job.metadata.resource_version,
        },
    }


def without_managed_fields(raw: Mapping[str, Any]) -> Raw:
    """The object without its field-ownership records, which nobody here reads."""
    if "metadata" not in raw:
        return dict(raw)
    return {**raw, "metadata": {name: value for name, value in raw["metadata"].items() if name != "managedFields"}}


def read_job(raw: Mapping[str, Any]) -> SpotJob:
    """Our type. Raises KubeError naming the field when an object has something that this version does not know."""
    return _read(SpotJob, raw)


def read_sequence(raw: Mapping[str, Any]) -> JobSequence:
    """As read_job."""
    return _read(JobSequence, raw)


def _read(kind: type[Kind], raw: Mapping[str, Any]) -> Kind:
    try:
        return kind.model_validate(without_managed_fields(raw))
    except ValidationError as error:
        metadata = raw.get("metadata") or {}
        where = f"{metadata.get('namespace')}/{metadata.get('name')}"
        raise KubeError(422, f"{kind.__name__} {where} cannot be read: {_fields(error)}") from None


def _fields(error: ValidationError) -> str:
    """Where and what, without the values: env may hold something private."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in found)


def readable(raw: Mapping[str, Any]) -> SpotJob | None:
    """One unreadable object must not hide all the others; it is left alone, loudly."""
    return _readable(SpotJob, raw)


def readable_sequence(raw: Mapping[str, Any]) -> JobSequence | None:
    """As readable."""
    return _readable(JobSequence, raw)


def _readable(kind: type[Kind], raw: Mapping[str, Any]) -> Kind | None:
    try:
        return _read(kind, raw)
    except KubeError as error:
        log.error("left alone: %s", error.message)
        return None


def watch_event(event: Mapping[str, Any]) -> WatchEvent:
    kind, raw = event["type"], event["object"]
    if kind == "ERROR":
        raise KubeError(int(raw.get("code") or 500), str(raw.get("message")), raw)
    metadata = raw["metadata"]
    version, uid = metadata["resourceVersion"], metadata.get("uid", "")
    if kind == "BOOKMARK":
        return WatchEvent("bookmark", version, "", None)
    if kind == "DELETED":
        return WatchEvent("deleted", version, uid, None)
    return WatchEvent("changed", version, uid, readable(raw))

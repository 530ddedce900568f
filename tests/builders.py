"""A builder per noun; each states only what matters to the test."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from spotjob.core.conditions import next_status
from spotjob.core.contract import Report
from spotjob.core.resources import FINALIZER, SpotJob
from spotjob.core.states import Bound, Change, Claimed, Instance, InstanceState, Observed, Started

NOW = datetime(2026, 11, 22, 2, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def a_job(guarded: bool = True, deleting: bool = False, name: str = "night", **spec: Any) -> SpotJob:
    """A job as it was created. `spec` in wire names."""
    metadata = {
        "name": name,
        "namespace": "batch",
        "uid": f"uid-of-{name}",
        "resourceVersion": "7",
        "generation": 1,
        "creationTimestamp": NOW.isoformat(),
        "finalizers": [FINALIZER] if guarded else [],
        **({"deletionTimestamp": NOW.isoformat()} if deleting else {}),
    }
    return SpotJob.model_validate({"metadata": metadata, "spec": {"image": "busybox:1", **spec}})


def after(job: SpotJob, *changes: Change, at: datetime = NOW) -> SpotJob:
    """The job when these changes were written."""
    for change in changes:
        job = job.model_copy(update={"status": next_status(job, change, at)})
    return job


def deleted(job: SpotJob) -> SpotJob:
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"deletion_timestamp": NOW})})


def released(job: SpotJob) -> SpotJob:
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"finalizers": ()})})


def suspended(job: SpotJob) -> SpotJob:
    return job.model_copy(update={"spec": job.spec.model_copy(update={"suspend": True})})


def an_instance(instance_id: str = "i-1", state: str = "running", **fields: Any) -> Instance:
    known = {"region": "us-east-1", "launch_time": NOW, "instance_type": "m6i.large", "availability_zone": "us-east-1a"}
    return Instance(id=instance_id, state=InstanceState(state), **{**known, **fields})


def observed(*instances: Instance, **fields: Any) -> Observed:
    return Observed(instances=instances, **fields)


def booting(instance_id: str = "i-1", **spec: Any) -> SpotJob:
    return after(a_job(**spec), Bound(an_instance(instance_id, "pending")))


def claimed(instance_id: str = "i-1", **spec: Any) -> SpotJob:
    return after(booting(instance_id, **spec), Claimed("hash-of-the-nonce"))


def running(instance_id: str = "i-1", **spec: Any) -> SpotJob:
    return after(claimed(instance_id, **spec), Started(NOW))


def a_finish(exit_code: int | None = 0, **fields: Any) -> Report:
    """The agent's final report."""
    return Report.model_validate(
        {"kind": "finished", "at": NOW, "finishedAs": "Exited", "exitCode": exit_code, **fields}
    )


def merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """The target after a JSON merge patch (RFC 7396)."""
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            result[name] = merged(result.get(name) or {}, value)
        else:
            result[name] = value
    return result

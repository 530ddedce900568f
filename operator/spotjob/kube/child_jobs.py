"""The SpotJobs of a sequence: one for each try of a `spot_job` step, known by its name and by its labels.

The name is the token: the API server admits it once, so a repeated create finds the job of the first one. A namesake
without the labels is somebody else's job: it is neither taken for ours nor deleted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.ports import CreateJob, DeleteJob, GetJob, JobSeen, Refusal, Refused, Unknown
from spotjob.core.wire import API_VERSION


class Jobs(Protocol):
    """What is needed of the Kubernetes client. All raise KubeError or Unanswered."""

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> SpotJob:
        """Raises Conflict when the name is taken."""

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        """Raises NotFound."""

    async def delete_job(self, job: SpotJob) -> None:
        """Exactly this object; one that is gone is fine."""


async def perform_job(
    kube: Jobs,
    namespace: str,
    action: CreateJob | GetJob | DeleteJob,
    labels: Mapping[str, str],
    owner: Mapping[str, Any] | None = None,
) -> JobSeen | Refused | Unknown:
    """Do one thing with a job of a sequence. Nothing is raised: whatever comes back is news.

    `labels` tell the jobs of this run from all others; `owner` is an ownerReference, None when nobody owns the job.
    """
    try:
        match action:
            case CreateJob(name, spec):
                return await _created(kube, namespace, job_body(name, spec, labels, owner), labels)
            case GetJob(name):
                return JobSeen(await _ours(kube, namespace, name, labels))
            case DeleteJob(name):
                return await _deleted(kube, namespace, name, labels)
    except (KubeError, Unanswered) as error:
        return Unknown(str(error))


def job_body(
    name: str, spec: Mapping[str, Any], labels: Mapping[str, str], owner: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The whole SpotJob, as it is created."""
    metadata: dict[str, Any] = {"name": name, "labels": dict(labels)}
    if owner is not None:
        metadata["ownerReferences"] = [dict(owner)]
    return {"apiVersion": API_VERSION, "kind": "SpotJob", "metadata": metadata, "spec": dict(spec)}


async def _created(
    kube: Jobs, namespace: str, body: Mapping[str, Any], labels: Mapping[str, str]
) -> JobSeen | Refused | Unknown:
    try:
        return JobSeen(await kube.create_job(namespace, body))
    except Conflict as taken:
        if (job := await _ours(kube, namespace, body["metadata"]["name"], labels)) is not None:
            return JobSeen(job)
        return Refused(Refusal.FINAL, "NameTaken", taken.message)
    except KubeError as error:
        return Refused(_meaning(error), str(error.body.get("reason") or error.status), error.message)


def _meaning(error: KubeError) -> Refusal:
    if error.status == 429:
        return Refusal.THROTTLED
    # A ResourceQuota of the namespace is full: there is room again when another job has gone.
    if error.status == 403 and "exceeded quota" in error.message:
        return Refusal.CAPACITY
    return Refusal.FINAL


async def _ours(kube: Jobs, namespace: str, name: str, labels: Mapping[str, str]) -> SpotJob | None:
    try:
        job = await kube.get_job(namespace, name)
    except NotFound:
        return None
    return job if labels.items() <= job.metadata.labels.items() else None


async def _deleted(kube: Jobs, namespace: str, name: str, labels: Mapping[str, str]) -> JobSeen:
    job = await _ours(kube, namespace, name, labels)
    if job is None or job.deleting:
        return JobSeen(job)
    await kube.delete_job(job)
    return JobSeen(await _ours(kube, namespace, name, labels))

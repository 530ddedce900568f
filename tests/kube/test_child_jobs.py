"""The SpotJobs of a sequence on the real API server, and through a connection that fails."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spotjob.core.ports import KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob
from spotjob.core.sequence.ports import CreateJob, DeleteJob, GetJob, JobSeen, Refusal, Refused, Unknown
from spotjob.kube.child_jobs import perform_job
from spotjob.kube.client import KubeClient
from tests.builders import a_job

LABELS = {"spotjob.dev/sequence": "nightly"}
ASKED = CreateJob("run-1-1", {"image": "busybox:1"})


def seen(news: object) -> SpotJob:
    assert isinstance(news, JobSeen)
    assert news.job is not None
    return news.job


@pytest.mark.cluster
async def test_a_job_that_is_asked_for_twice_is_one_job(kube: KubeClient, namespace: str) -> None:
    first = seen(await perform_job(kube, namespace, ASKED, LABELS))
    again = seen(await perform_job(kube, namespace, ASKED, LABELS))
    assert first.metadata.uid == again.metadata.uid
    assert first.metadata.labels == LABELS
    assert seen(await perform_job(kube, namespace, GetJob("run-1-1"), LABELS)) == again


@pytest.mark.cluster
async def test_a_namesake_of_somebody_else_is_neither_adopted_nor_deleted(kube: KubeClient, namespace: str) -> None:
    await perform_job(kube, namespace, ASKED, {})
    refused = await perform_job(kube, namespace, ASKED, LABELS)
    assert isinstance(refused, Refused)
    assert (refused.kind, refused.code) == (Refusal.FINAL, "NameTaken")
    assert await perform_job(kube, namespace, GetJob("run-1-1"), LABELS) == JobSeen(None)
    assert await perform_job(kube, namespace, DeleteJob("run-1-1"), LABELS) == JobSeen(None)
    assert (await kube.get_job(namespace, "run-1-1")).deleting is False


@pytest.mark.cluster
async def test_an_owned_job_goes_with_its_owner(kube: KubeClient, namespace: str) -> None:
    parent = seen(await perform_job(kube, namespace, CreateJob("parent", {"image": "busybox:1"}), {}))
    owner = {
        "apiVersion": "spotjob.dev/v1alpha1",
        "kind": "SpotJob",
        "name": "parent",
        "uid": parent.metadata.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    await perform_job(kube, namespace, ASKED, LABELS, owner)
    assert (await kube.get_raw(namespace, "run-1-1"))["metadata"]["ownerReferences"] == [owner]


@pytest.mark.cluster
async def test_a_deleted_job_is_gone_and_deleting_it_again_is_fine(kube: KubeClient, namespace: str) -> None:
    await perform_job(kube, namespace, ASKED, LABELS)
    assert await perform_job(kube, namespace, DeleteJob("run-1-1"), LABELS) == JobSeen(None)
    assert await perform_job(kube, namespace, DeleteJob("run-1-1"), LABELS) == JobSeen(None)


@pytest.mark.cluster
async def test_a_spec_with_an_unknown_field_is_refused_by_its_name_and_a_dry_run_writes_nothing(
    kube: KubeClient, namespace: str
) -> None:
    refused = await perform_job(kube, namespace, CreateJob("run-1-1", {"image": "a:1", "imagee": "b"}), LABELS)
    assert isinstance(refused, Refused)
    assert refused.kind is Refusal.FINAL
    assert "spec.imagee" in refused.message
    body = {"apiVersion": "spotjob.dev/v1alpha1", "kind": "SpotJob", "metadata": {"name": "x"}, "spec": {"image": "a"}}
    assert (await kube.create_job(namespace, body, dry_run=True)).spec.image == "a"
    with pytest.raises(NotFound):
        await kube.get_job(namespace, "x")


class Failing:
    """An API server that answers every call with one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def create_job(self, namespace: str, body: Mapping[str, Any]) -> SpotJob:
        raise self.error

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        raise self.error

    async def delete_job(self, job: SpotJob) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KubeError(403, "exceeded quota: jobs, requested: count/spotjobs.spotjob.dev=1"), Refusal.CAPACITY),
        (KubeError(403, "spotjobs is forbidden"), Refusal.FINAL),
        (KubeError(422, "spec.image: Required value", {"reason": "Invalid"}), Refusal.FINAL),
        (KubeError(429, "slow down"), Refusal.THROTTLED),
    ],
    ids=["a full quota", "no right", "an invalid spec", "too many requests"],
)
async def test_a_refused_create_says_whether_it_may_be_asked_for_again(error: KubeError, kind: Refusal) -> None:
    refused = await perform_job(Failing(error), "batch", ASKED, LABELS)
    assert isinstance(refused, Refused)
    assert refused.kind is kind


@pytest.mark.parametrize("action", [ASKED, GetJob("run-1-1"), DeleteJob("run-1-1")], ids=["create", "get", "delete"])
async def test_no_answer_says_nothing(action: CreateJob | GetJob | DeleteJob) -> None:
    assert await perform_job(Failing(Unanswered("timed out")), "batch", action, LABELS) == Unknown("timed out")


@pytest.mark.parametrize("action", [GetJob("run-1-1"), DeleteJob("run-1-1")], ids=["get", "delete"])
async def test_a_refused_look_says_nothing_about_the_job(action: GetJob | DeleteJob) -> None:
    assert isinstance(await perform_job(Failing(KubeError(403, "forbidden")), "batch", action, LABELS), Unknown)


async def test_a_job_that_is_being_deleted_is_not_deleted_again() -> None:
    class Deleting(Failing):
        async def get_job(self, namespace: str, name: str) -> SpotJob:
            return a_job(deleting=True)

    assert seen(await perform_job(Deleting(Unanswered("asked again")), "batch", DeleteJob("night"), {})).deleting

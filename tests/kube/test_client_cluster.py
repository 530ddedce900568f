"""The client against the real kube-apiserver: what it says on conflicts, finalizers, watches and reviews."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from spotjob.clock import RealClock
from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.ports import Conflict, KubeError, Kubernetes, NotFound
from spotjob.core.reasons import Reason
from spotjob.core.resources import FINALIZER, SpotJob
from spotjob.core.states import Bound, Change, Claimed
from spotjob.kube import client as client_module
from spotjob.kube.client import Expired, KubeClient
from spotjob.kube.informer import Informer, JobIndex
from spotjob.kube.reviews import Access, Reviews
from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from tests.builders import NOW, an_instance

pytestmark = pytest.mark.cluster


async def create(kube: KubeClient, namespace: str, name: str = "night", **spec: Any) -> SpotJob:
    body = {
        "apiVersion": "spotjob.dev/v1alpha1",
        "kind": "SpotJob",
        "metadata": {"name": name},
        "spec": {"image": "busybox:1", **spec},
    }
    return SpotJob.model_validate(await kube.create_raw(namespace, body))


async def change(kube: Kubernetes, job: SpotJob, by: Change) -> SpotJob:
    return await kube.write_status(job, merge_patch(job.status, next_status(job, by, NOW)))


# ---- writes ----


async def test_a_status_is_written_and_read_back_without_its_field_records(kube: KubeClient, namespace: str) -> None:
    job = await create(kube, namespace)
    written = await change(kube, job, Bound(an_instance("i-1")))
    assert written.status.reason is Reason.BOOTING
    assert await kube.get_job(namespace, "night") == written
    assert "managedFields" not in (await kube.get_raw(namespace, "night"))["metadata"]


async def test_a_null_in_a_status_patch_removes_the_field(kube: KubeClient, namespace: str) -> None:
    job = await change(kube, await create(kube, namespace), Bound(an_instance("i-1")))
    assert (await kube.write_status(job, {"instanceID": None})).status.instance_id is None


async def test_a_status_write_on_an_older_version_is_a_conflict_and_writes_nothing(
    kube: KubeClient, namespace: str
) -> None:
    job = await create(kube, namespace)
    newer = await change(kube, job, Bound(an_instance("i-1")))
    with pytest.raises(Conflict):
        await change(kube, job, Bound(an_instance("i-2")))
    assert await kube.get_job(namespace, "night") == newer


async def test_of_two_writers_at_once_one_wins(kube: KubeClient, namespace: str) -> None:
    job = await change(kube, await create(kube, namespace), Bound(an_instance("i-1")))
    writes = (change(kube, job, Claimed(letter * 64)) for letter in "abcdefgh")
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, SpotJob) for result in results) == 1
    assert sum(isinstance(result, Conflict) for result in results) == 7


async def test_a_write_to_a_job_that_is_gone_is_not_found(kube: KubeClient, namespace: str) -> None:
    job = await create(kube, namespace)
    await kube.delete_job(job)
    with pytest.raises(NotFound):
        await change(kube, job, Bound(an_instance("i-1")))


async def test_deleting_spares_a_namesake_that_came_later(kube: KubeClient, namespace: str) -> None:
    first = await create(kube, namespace)
    await kube.delete_job(first)
    second = await create(kube, namespace)
    await kube.delete_job(first)
    assert (await kube.get_job(namespace, "night")).metadata.uid == second.metadata.uid


# ---- finalizers ----


async def test_a_finalizer_is_put_on_and_taken_off(kube: KubeClient, namespace: str) -> None:
    job = await kube.add_finalizer(await create(kube, namespace))
    assert job.metadata.finalizers == (FINALIZER,)
    left = await kube.remove_finalizer(job)
    assert left is not None
    assert left.metadata.finalizers == ()


@pytest.mark.parametrize("what", ["add_finalizer", "remove_finalizer"])
async def test_a_finalizer_is_not_touched_on_an_older_version(kube: KubeClient, namespace: str, what: str) -> None:
    job = await create(kube, namespace)
    if what == "remove_finalizer":
        job = await kube.add_finalizer(job)
    await change(kube, job, Bound(an_instance("i-1")))
    with pytest.raises(Conflict):
        await getattr(kube, what)(job)


async def test_a_deleted_object_goes_with_its_last_finalizer(kube: KubeClient, namespace: str) -> None:
    await kube.delete_job(await kube.add_finalizer(await create(kube, namespace)))
    waiting = await kube.get_job(namespace, "night")
    assert waiting.deleting
    assert await kube.remove_finalizer(waiting) is None
    with pytest.raises(NotFound):
        await kube.get_job(namespace, "night")
    assert await kube.remove_finalizer(waiting) is None


async def test_a_finalizer_that_the_server_refuses_is_no_conflict(kube: KubeClient, namespace: str) -> None:
    job = await create(kube, namespace)
    bad = job.model_copy(update={"metadata": job.metadata.model_copy(update={"finalizers": ("no slash",)})})
    with pytest.raises(KubeError) as caught:
        await kube.add_finalizer(bad)
    assert not isinstance(caught.value, Conflict)
    assert caught.value.status == 422


# ---- creation ----


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"image": None}, "spec.image"),
        ({"colour": "red"}, "spec.colour"),
        ({"backoffLimit": -1}, "spec.backoffLimit"),
        ({"startAt": "soon"}, "spec.startAt"),
        ({"env": [{"name": "A", "value": "1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, "spec.env"),
    ],
)
async def test_a_bad_spec_is_refused_by_the_server_with_the_fields_name(
    kube: KubeClient, namespace: str, spec: dict[str, Any], field: str
) -> None:
    with pytest.raises(KubeError) as caught:
        await create(kube, namespace, **spec)
    assert field in caught.value.message


# ---- lists and watches ----


async def test_a_list_comes_in_pages(kube: KubeClient, namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 2)
    for n in range(5):
        await create(kube, namespace, f"job-{n}")
    listed = [job.metadata.name for job in await kube.list_jobs() if job.metadata.namespace == namespace]
    assert listed == [f"job-{n}" for n in range(5)]


async def test_jobs_are_found_by_the_instance_that_they_name(kube: KubeClient, namespace: str) -> None:
    await create(kube, namespace, "other")
    await change(kube, await create(kube, namespace), Bound(an_instance(f"i-{namespace[5:]}")))
    found, _ = await kube.list_jobs_at(f"status.instanceID=i-{namespace[5:]}")
    assert [job.metadata.name for job in found] == ["night"]


async def test_a_watch_from_a_version_that_is_too_old_is_expired(kube: KubeClient) -> None:
    await kube.list_jobs()  # right after the kind was made, its storage is still being set up
    with pytest.raises(Expired):
        await anext(kube.watch_jobs("1"))


async def test_the_index_follows_the_server(kube: KubeClient, namespace: str) -> None:
    index, instance = JobIndex(), f"i-{namespace[5:]}"
    informing = asyncio.create_task(Informer(kube, index).run())
    try:
        await asyncio.wait_for(index.synced.wait(), 60)
        job = await create(kube, namespace)
        waiting = asyncio.create_task(index.wait_for_instance(instance, 60))
        bound = await change(kube, job, Bound(an_instance(instance)))
        assert await waiting == bound
        await kube.delete_job(bound)
        uid = bound.metadata.uid
        assert await index.wait_for(uid, lambda: "gone" if index.get(uid) is None else None, 60) == "gone"
    finally:
        informing.cancel()
        await asyncio.wait((informing,))


# ---- values, events, leases ----


async def test_values_of_secrets_and_config_maps_are_bytes(
    kube: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "secret", "generic", "s", "--from-literal=k=päß", "-n", namespace)
    control_plane.kubectl("create", "configmap", "c", "--from-literal=k=red", "-n", namespace)
    assert await kube.secret_values(namespace, "s") == {"k": "päß".encode()}
    assert await kube.config_map_values(namespace, "c") == {"k": b"red"}
    with pytest.raises(NotFound):
        await kube.secret_values(namespace, "none")


async def test_the_cluster_and_its_namespaces_are_known(kube: KubeClient, namespace: str) -> None:
    assert len(await kube.cluster_uid()) == 36
    assert (await kube.namespace_labels(namespace))["kubernetes.io/metadata.name"] == namespace


async def test_an_event_is_recorded_about_the_job(
    kube: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    await kube.record_event(await create(kube, namespace), "Interrupted", "EC2 took it back" * 100, warning=True)
    listed = json.loads(control_plane.kubectl("get", "events", "-n", namespace, "-o", "json").stdout)["items"]
    assert [(event["reason"], event["type"], event["involvedObject"]["name"]) for event in listed] == [
        ("Interrupted", "Warning", "night")
    ]


async def test_a_lease_is_written_on_its_newest_version_only(kube: KubeClient) -> None:
    name = "test-of-the-client"
    with pytest.raises(NotFound):
        await kube.get_lease(name)
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": {}}
    first = await kube.create_lease(body)
    await kube.update_lease({**first, "spec": {"holderIdentity": "a"}})
    with pytest.raises(Conflict):
        await kube.update_lease({**first, "spec": {"holderIdentity": "b"}})


# ---- rights ----


async def test_a_client_without_a_right_is_told_so(
    client_of: Callable[[str, str], KubeClient], control_plane: ControlPlane, namespace: str, crds: None
) -> None:
    control_plane.kubectl("create", "serviceaccount", "nobody", "-n", namespace)
    async with client_of(namespace, "nobody") as nobody:
        with pytest.raises(KubeError) as caught:
            await nobody.list_jobs()
        assert caught.value.status == 403


async def test_a_token_is_reviewed_and_its_rights_are_asked_for(
    kube: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "alice", "-n", namespace)
    control_plane.kubectl(
        "create", "role", "reader", "--verb=get,list", "--resource=spotjobs.spotjob.dev", "-n", namespace
    )
    account = f"serviceaccount:{namespace}:alice"
    subject = f"--serviceaccount={namespace}:alice"
    control_plane.kubectl("create", "rolebinding", "reader", "--role=reader", subject, "-n", namespace)
    token = control_plane.kubectl("create", "token", "alice", "-n", namespace).stdout.strip()
    # The API server reads a new binding a moment after it was written.
    asked = ("auth", "can-i", "list", "spotjobs.spotjob.dev", "-n", namespace, f"--as=system:{account}")
    probes.wait_until(lambda: control_plane.kubectl(*asked, check=False).returncode == 0, 60, "the binding to count")
    reviews = Reviews(kube, RealClock())

    alice = await reviews.who(token)
    assert alice is not None
    assert alice.name == f"system:serviceaccount:{namespace}:alice"
    assert await reviews.may(alice, Access("list", namespace))
    assert not await reviews.may(alice, Access("delete", namespace, "night"))
    assert not await reviews.may(alice, Access("list"))


async def test_a_bad_token_and_one_for_another_audience_are_nobody(
    kube: KubeClient, control_plane: ControlPlane, namespace: str
) -> None:
    control_plane.kubectl("create", "serviceaccount", "alice", "-n", namespace)
    token = control_plane.kubectl("create", "token", "alice", "-n", namespace, "--audience=vault").stdout.strip()
    assert await Reviews(kube, RealClock()).who(token) is None
    assert await Reviews(kube, RealClock()).who("nonsense") is None
    assert await Reviews(kube, RealClock(), ["vault"]).who(token) is not None

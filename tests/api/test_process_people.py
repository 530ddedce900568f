"""What people do with the API's own process, against the real kube-apiserver."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.core.resources import FINALIZER
from tests.api.process import FROM_SECRET, Scene
from tests.api.test_claiming import assert_problem
from tests.api.world import bearer

pytestmark = pytest.mark.cluster


async def test_a_person_schedules_sees_and_deletes_with_a_kubernetes_token(scene: Scene) -> None:
    created = await scene.schedule()
    assert created.status_code == 201, created.text
    job = await scene.job()
    assert job.metadata.finalizers == (FINALIZER,)
    assert job.metadata.annotations["spotjob.dev/created-by"] == f"system:serviceaccount:{scene.namespace}:alice"

    url = f"/v1/namespaces/{scene.namespace}/jobs"
    listed = (await scene.http.get(url, headers=scene.person)).json()
    assert [item["metadata"]["name"] for item in listed["items"]] == ["night"]
    assert "managedFields" not in listed["items"][0]["metadata"]
    deleted = await scene.http.delete(f"{url}/night", headers=scene.person)
    assert deleted.json()["uid"] == job.metadata.uid
    assert (await scene.job()).deleting


async def test_jobs_are_listed_by_phase(scene: Scene) -> None:
    await scene.bound()
    await scene.schedule("other")
    url = f"/v1/namespaces/{scene.namespace}/jobs"
    listed = await scene.http.get(url, headers=scene.person, params={"phase": "Requested"})
    assert [item["metadata"]["name"] for item in listed.json()["items"]] == ["night"]


async def test_rights_end_at_the_namespace(scene: Scene) -> None:
    assert_problem(await scene.http.get("/v1/jobs", headers=scene.person), 403, "in all namespaces")
    assert_problem(await scene.http.get("/v1/namespaces/default/jobs", headers=scene.person), 403)
    assert_problem(await scene.http.get("/v1/jobs", headers=bearer("nonsense")), 401)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"image": ""}, "spec.image"),
        ({"colour": "red"}, "spec.colour"),
        ({"backoffLimit": -1}, "spec.backoffLimit"),
        ({"startAt": "soon"}, "spec.startAt"),
        ({"env": [{**FROM_SECRET, "value": "1"}]}, "at most one of value and valueFrom"),
    ],
)
async def test_the_servers_own_refusal_is_passed_through(scene: Scene, spec: dict[str, Any], field: str) -> None:
    answer = await scene.schedule(**spec)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code in (400, 422)
    assert field in answer.json()["detail"]


async def test_a_name_of_300_characters_and_one_that_is_taken_are_refused(scene: Scene) -> None:
    assert_problem(await scene.schedule("x" * 300), 422, "metadata.name")
    await scene.schedule()
    assert_problem(await scene.schedule(), 409, '"night" already exists')

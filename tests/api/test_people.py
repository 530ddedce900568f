from __future__ import annotations

from typing import Any

import httpx
import pytest

from spotjob.core.ports import KubeError, Unanswered
from spotjob.core.resources import FINALIZER
from tests.api.test_claiming import assert_problem
from tests.api.world import World, bearer
from tests.builders import a_job, running

ALICE = bearer("alices-token")
JOBS = "/v1/namespaces/batch/jobs"
MANIFEST = {
    "apiVersion": "spotjob.dev/v1alpha1",
    "kind": "SpotJob",
    "metadata": {"name": "night", "labels": {"team": "a"}},
    "spec": {"image": "busybox:1"},
}


async def schedule(world: World, body: Any, key: str | None = None) -> httpx.Response:
    headers = ALICE if key is None else {**ALICE, "Idempotency-Key": key}
    return await world.client.post(JOBS, json=body, headers=headers)


# ---- schedule ----


@pytest.mark.parametrize("body", [MANIFEST, {"name": "night", "spec": {"image": "busybox:1"}}])
async def test_a_job_is_scheduled_from_a_manifest_or_from_a_name_and_a_spec(world: World, body: dict[str, Any]) -> None:
    world.allow("create")
    answer = await schedule(world, body)
    assert answer.status_code == 201
    assert answer.headers["location"] == "/v1/namespaces/batch/jobs/night"
    assert answer.json()["spec"]["image"] == "busybox:1"


async def test_a_job_is_born_with_its_finalizer_and_with_who_asked_for_it(world: World) -> None:
    world.allow("create")
    metadata = {"name": "night", "annotations": {"spotjob.dev/created-by": "mallory", "mine": "kept"}}
    await schedule(world, {**MANIFEST, "metadata": metadata})
    born = world.job().metadata
    assert born.finalizers == (FINALIZER,)
    assert born.annotations == {"spotjob.dev/created-by": "alice", "mine": "kept"}


async def test_a_repeated_request_with_its_key_gives_the_first_job(world: World) -> None:
    world.allow("create")
    body = {"generateName": "night-", "spec": {"image": "busybox:1"}}
    first, second = await schedule(world, body, "k"), await schedule(world, body, "k")
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["metadata"]["uid"] == second.json()["metadata"]["uid"]
    assert first.json()["metadata"]["name"].startswith("night-")
    assert len(world.kube.jobs) == 1


async def test_another_key_makes_another_job(world: World) -> None:
    world.allow("create")
    for key in ("k1", "k2"):
        assert (await schedule(world, {"spec": {"image": "busybox:1"}}, key)).status_code == 201
    assert len(world.kube.jobs) == 2


@pytest.mark.parametrize("name", [{}, {"name": "night"}])
async def test_a_key_that_was_used_for_something_else_is_a_conflict(world: World, name: dict[str, str]) -> None:
    world.allow("create")
    await schedule(world, {**name, "spec": {"image": "busybox:1"}}, "k")
    answer = await schedule(world, {**name, "spec": {"image": "busybox:2"}}, "k")
    assert_problem(answer, 409, "another request")


async def test_a_name_that_is_taken_is_told_in_the_api_servers_words(world: World) -> None:
    world.allow("create")
    await schedule(world, MANIFEST)
    assert_problem(await schedule(world, MANIFEST), 409, 'spotjobs.spotjob.dev "night" already exists')


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "night"}, "body.spec"),
        ({"name": "night", "spec": {}}, "spec.image"),
        ({"name": "night", "spec": {"image": "b", "colour": "red"}}, "spec.colour"),
        ({"name": "night", "spec": {"image": "b"}, "status": {}}, "body.status"),
        ({"name": "a", "metadata": {"name": "b"}, "spec": {"image": "b"}}, "body.name"),
        ({**MANIFEST, "metadata": {"name": "night", "namespace": "other"}}, "body.metadata.namespace"),
        ({**MANIFEST, "metadata": {"name": "night", "finalizers": []}}, "body.metadata.finalizers"),
        ({**MANIFEST, "kind": "Pod"}, "body.kind"),
        ([], "body"),
    ],
)
async def test_a_bad_request_is_refused_by_field_and_nothing_is_made(world: World, body: Any, field: str) -> None:
    world.allow("create")
    assert_problem(await schedule(world, body), 422, field)
    assert world.kube.jobs == {}


# ---- reading and deleting ----


async def test_jobs_are_listed_by_namespace_or_all_with_pages_and_phases(world: World) -> None:
    world.allow("list")
    world.allow("list", namespace="")
    world.add(running("i-1"))
    for name in ("other", "third"):
        world.add(a_job(name=name))
    listed = (await world.client.get(JOBS, headers=ALICE, params={"limit": 2})).json()
    assert len(listed["items"]) == 2
    rest = await world.client.get(JOBS, headers=ALICE, params={"limit": 2, "continue": listed["continue"]})
    assert [job["metadata"]["name"] for job in rest.json()["items"]] == ["third"]
    assert "continue" not in rest.json()
    running_ones = await world.client.get("/v1/jobs", headers=ALICE, params={"phase": "Running"})
    assert [job["metadata"]["name"] for job in running_ones.json()["items"]] == ["night"]


@pytest.mark.parametrize(("name", "value"), [("limit", "0"), ("limit", "501"), ("phase", "Sleeping")])
async def test_a_bad_question_is_refused_by_name(world: World, name: str, value: str) -> None:
    world.allow("list")
    assert_problem(await world.client.get(JOBS, headers=ALICE, params={name: value}), 422, f"query.{name}")


async def test_one_job_is_shown_with_its_status(world: World) -> None:
    world.allow("get", name="night")
    world.add(running("i-1"))
    answer = await world.client.get(f"{JOBS}/night", headers=ALICE)
    assert answer.json()["status"]["instanceID"] == "i-1"


async def test_a_deleted_job_waits_for_its_instance(world: World) -> None:
    world.allow("delete", name="night")
    world.add(running("i-1"))
    answer = await world.client.delete(f"{JOBS}/night", headers=ALICE)
    assert answer.json() == {"namespace": "batch", "name": "night", "uid": "uid-of-night"}
    assert world.job().deleting


@pytest.mark.parametrize("verb", ["get", "delete"])
async def test_a_job_that_is_not_there_is_404(world: World, verb: str) -> None:
    world.allow(verb, name="night")
    answer = await world.client.request(verb.upper(), f"{JOBS}/night", headers=ALICE)
    assert_problem(answer, 404, "not found")


@pytest.mark.parametrize("name", ["..%2Fsecrets", "Night", "a%2Fb", "x" * 254])
async def test_a_name_that_is_none_never_reaches_the_api_server(world: World, name: str) -> None:
    world.allow("get", name=name)
    answer = await world.client.get(f"{JOBS}/{name}", headers=ALICE)
    assert answer.status_code in (404, 422)
    assert world.kube.reads == 0


# ---- who may ----

ROUTES = [
    ("GET", "/v1/jobs", "list"),
    ("GET", JOBS, "list"),
    ("POST", JOBS, "create"),
    ("GET", f"{JOBS}/night", "get"),
    ("DELETE", f"{JOBS}/night", "delete"),
]


@pytest.mark.parametrize(("method", "path", "verb"), ROUTES)
async def test_without_a_good_token_nothing_is_told(world: World, method: str, path: str, verb: str) -> None:
    for headers in ({}, bearer("unknown"), {"Authorization": "Basic eDp5"}):
        answer = await world.client.request(method, path, headers=headers, json=MANIFEST)
        assert_problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(("method", "path", "verb"), ROUTES)
async def test_without_the_right_nothing_is_done(world: World, method: str, path: str, verb: str) -> None:
    world.allow(verb, namespace="other")
    world.add(a_job())
    answer = await world.client.request(method, path, headers=ALICE, json=MANIFEST)
    assert_problem(answer, 403, f"alice may not {verb} spotjobs")
    assert world.kube.writes == 0
    assert not world.job().deleting


# ---- the API server's moods ----


@pytest.mark.parametrize(
    ("refusal", "status", "words"),
    [
        (KubeError(410, "the continue token is too old"), 410, "too old"),
        (KubeError(403, "serviceaccount spotjob-api cannot list"), 500, "log"),
        (KubeError(401, "token expired"), 500, "log"),
        (KubeError(429, "slow down"), 503, "fewer"),
    ],
)
async def test_only_the_users_own_faults_are_passed_through(
    world: World, refusal: KubeError, status: int, words: str
) -> None:
    world.allow("get", name="night")
    world.kube.refuse = refusal
    answer = await world.client.get(f"{JOBS}/night", headers=ALICE)
    assert_problem(answer, status, words)
    assert "spotjob-api" not in answer.text


async def test_an_api_server_that_does_not_answer_is_503(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(token: str) -> None:
        raise Unanswered("connection refused by 10.0.0.1")

    monkeypatch.setattr(world.people, "who", silent)
    answer = await world.client.get("/v1/jobs", headers=ALICE)
    assert_problem(answer, 503, "does not answer")
    assert answer.headers["retry-after"]
    assert "10.0.0.1" not in answer.text


async def test_an_error_in_the_api_shows_nothing_of_its_inside(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(token: str) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(world.people, "who", broken)
    answer = await world.client.get("/v1/jobs", headers=ALICE)
    assert_problem(answer, 500)
    assert "hunter2" not in answer.text

"""The API's own process, under exactly the rights that deploy/ gives it, against the real kube-apiserver."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from spotjob.clock import RealClock
from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.reasons import Phase, Reason
from spotjob.core.resources import FINALIZER, SpotJob
from spotjob.core.states import Bound, Change
from spotjob.core.tokens import launch_token
from spotjob.kube.client import KubeClient
from spotjob.kube.config import from_kubeconfig
from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from tests.api.test_claiming import assert_problem
from tests.api.world import bearer
from tests.builders import NOW, an_instance
from tests.cluster.objects import a_class

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
KEYS = {"k1": b"k" * 32}
FROM_SECRET = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}


@dataclass
class Api:
    """How to start the process, and where it answers."""

    environ: Mapping[str, str]
    url: str
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "spotjob", "api"], env=self.environ, stderr=log)
        probes.wait_until(lambda: probes.answers(f"{self.url}/readyz"), 60, f"the API (log: {self.log})")
        return process


@pytest.fixture(scope="module")
def api(control_plane: ControlPlane, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API with a ServiceAccount of its own, and deploy/'s rights for it."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "keys").mkdir()
    (folder / "keys" / "k1").write_bytes(KEYS["k1"])
    system = control_plane.make_namespace(f"system-{uuid4().hex[:8]}")
    control_plane.kubectl("create", "serviceaccount", "api", "-n", system)
    control_plane.kubectl("apply", "-f", str(ROOT / "deploy" / "parts" / "rights-of-api.yaml"))
    for role in ("spotjob-api", "spotjob-api-values"):
        binding = ("create", "clusterrolebinding", f"{system}-{role}", f"--clusterrole={role}")
        control_plane.kubectl(*binding, f"--serviceaccount={system}:api")
    (port,) = probes.free_ports(1)
    made = Api(
        {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(control_plane.service_account_kubeconfig(system, "api", folder / "kubeconfig")),
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "SPOTJOB_TOKEN_KEY_DIR": str(folder / "keys"),
            "SPOTJOB_API_HOST": "127.0.0.1",
            "SPOTJOB_API_PORT": str(port),
        },
        f"http://127.0.0.1:{port}",
        folder / "log",
    )
    process = made.start()
    yield made
    process.terminate()
    assert process.wait(20) == 0, made.log.read_text()


@dataclass
class Scene:
    """A namespace with a class, a person and a client of the API."""

    kube: KubeClient
    http: httpx.AsyncClient
    namespace: str
    instance: str
    person: dict[str, str]
    launch: dict[str, str]

    async def schedule(self, name: str = "night", **spec: Any) -> httpx.Response:
        body = {"name": name, "spec": {"image": "busybox:1", "className": "standard", **spec}}
        return await self.http.post(f"/v1/namespaces/{self.namespace}/jobs", json=body, headers=self.person)

    async def bound(self, **spec: Any) -> SpotJob:
        """A job that was scheduled, and is bound to our instance as the operator would."""
        answer = await self.schedule(**spec)
        assert answer.status_code == 201, answer.text
        return await self.change(Bound(an_instance(self.instance)))

    async def job(self) -> SpotJob:
        return await self.kube.get_job(self.namespace, "night")

    async def change(self, by: Change) -> SpotJob:
        job = await self.job()
        return await self.kube.write_status(job, merge_patch(job.status, next_status(job, by, NOW)))

    async def claim(self, job: SpotJob, nonce: str = "nonce-of-16-chars") -> httpx.Response:
        body = {"uid": job.metadata.uid, "attempt": 1, "nonce": nonce}
        return await self.http.post(f"/v1/instances/{self.instance}/claim", json=body, headers=self.launch)

    async def assignment(self, wait: float = 10) -> httpx.Response:
        url = f"/v1/instances/{self.instance}/assignment"
        return await self.http.get(url, params={"wait": wait}, headers=self.launch)


JOB_RULES = [{"apiGroups": ["spotjob.dev"], "resources": ["spotjobs"], "verbs": ["get", "list", "create", "delete"]}]


async def a_person(kube: KubeClient, namespace: str) -> str:
    """A ServiceAccount that may use SpotJobs in its namespace; its token."""
    core, rbac = f"/api/v1/namespaces/{namespace}", f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    await kube.request("POST", "/api/v1/namespaces", body={"metadata": {"name": namespace}})
    await kube.request("POST", f"{core}/serviceaccounts", body={"metadata": {"name": "alice"}})
    await kube.request("POST", f"{rbac}/roles", body={"metadata": {"name": "jobs"}, "rules": JOB_RULES})
    binding = {
        "metadata": {"name": "jobs"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "jobs"},
        "subjects": [{"kind": "ServiceAccount", "name": "alice"}],
    }
    await kube.request("POST", f"{rbac}/rolebindings", body=binding)
    asked = await kube.request("POST", f"{core}/serviceaccounts/alice/token", body={"spec": {}})
    return str(asked["status"]["token"])


@pytest.fixture
async def scene(api: Api, control_plane: ControlPlane) -> AsyncIterator[Scene]:
    mark = uuid4().hex[:8]
    async with (
        KubeClient(from_kubeconfig(control_plane.kubeconfig), RealClock()) as kube,
        httpx.AsyncClient(base_url=api.url, timeout=30) as http,
    ):
        await kube.request(
            "PATCH",
            "/apis/spotjob.dev/v1alpha1/spotjobclasses/standard",
            body=a_class(),
            params={"fieldManager": "tests", "force": "true"},
            content_type="application/apply-patch+yaml",
        )
        person = bearer(await a_person(kube, f"api-{mark}"))
        launch = bearer(launch_token(KEYS, await kube.cluster_uid()))
        yield Scene(kube, http, f"api-{mark}", f"i-{mark}", person, launch)


# ---- people ----


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


# ---- instances ----


async def test_a_job_goes_from_its_assignment_to_its_verdict(scene: Scene, control_plane: ControlPlane) -> None:
    control_plane.kubectl(
        "create", "secret", "generic", "database", "--from-literal=password=hunter2", "-n", scene.namespace
    )
    asking = asyncio.create_task(scene.assignment(wait=20))
    job = await scene.bound(env=[FROM_SECRET])
    assigned = await asking
    assert assigned.json()["uid"] == job.metadata.uid

    handed = (await scene.claim(job)).json()
    assert handed["env"]["PASSWORD"] == "hunter2"
    agent, container = bearer(handed["agentToken"]), bearer(handed["env"]["SPOTJOB_CALLBACK_TOKEN"])
    attempt = f"/v1/attempts/{job.metadata.uid}/1"
    at = NOW.isoformat()
    ended = {"kind": "finished", "at": at, "finishedAs": "Exited", "exitCode": 0}
    for path, body, token in [
        (f"{attempt}/report", {"kind": "started", "at": at}, agent),
        (f"{attempt}/heartbeat", {}, agent),
        ("/v1/callback", {"status": "ok"}, container),
        (f"{attempt}/report", ended, agent),
        (f"{attempt}/report", ended, agent),
    ]:
        answer = await scene.http.post(path, json=body, headers=token)
        assert answer.status_code == 200, answer.text
    assert (await scene.job()).status.phase is Phase.FINISHED_OK
    assert (await scene.http.post(f"{attempt}/heartbeat", json={}, headers=agent)).json()["order"] == "stop"


async def test_of_two_claims_at_once_one_wins(scene: Scene) -> None:
    job = await scene.bound()
    answers = await asyncio.gather(*(scene.claim(job, nonce=f"nonce-number-{n:04}") for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


async def test_a_missing_secret_shows_in_the_status_until_it_is_there(
    scene: Scene, control_plane: ControlPlane
) -> None:
    job = await scene.bound(env=[FROM_SECRET])
    assert_problem(await scene.claim(job), 503, "Secret database does not exist")
    assert (await scene.job()).status.message == "Secret database does not exist"
    control_plane.kubectl("create", "secret", "generic", "database", "--from-literal=password=p", "-n", scene.namespace)
    assert (await scene.claim(job)).status_code == 200
    assert (await scene.job()).status.reason is Reason.PULLING_IMAGE


# ---- the process ----


async def test_after_kill_9_the_same_agent_goes_on(api: Api, scene: Scene) -> None:
    job = await scene.bound()
    (port,) = probes.free_ports(1)
    second = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = second.start()
    try:
        async with httpx.AsyncClient(base_url=second.url) as http:
            scene.http, first_http = http, scene.http
            first = await scene.claim(job)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = second.start()
            scene.http = http
            again = await scene.claim(job)
            scene.http = first_http
            other_replica = await scene.claim(job)
    finally:
        process.terminate()
        process.wait(20)
    assert first.json() == again.json() == other_replica.json()
    assert first.status_code == 200


async def test_sigterm_ends_it_at_once_although_a_question_is_held_open(api: Api, scene: Scene) -> None:
    (port,) = probes.free_ports(1)
    second = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = second.start()
    async with httpx.AsyncClient(base_url=second.url, timeout=30) as http:
        scene.http = http
        asking = asyncio.create_task(scene.assignment(wait=30))
        await asyncio.sleep(0.5)
        assert not asking.done()
        process.terminate()
        assert (await asyncio.wait_for(asking, 8)).status_code == 204
        assert await asyncio.to_thread(process.wait, 8) == 0


def test_no_token_is_in_the_log(api: Api, control_plane: ControlPlane) -> None:
    text = api.log.read_text()
    assert "GET /readyz 200" in text
    for secret in ("Bearer", "v1.k1.", "eyJ", "hunter2", control_plane.admin_token):
        assert secret not in text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"AWS_ENDPOINT_URL": ""}, "not part of this version"),
        ({"AWS_ENDPOINT_URL_EC2": "https://ec2.us-east-1.amazonaws.com"}, "not a loopback address"),
        ({"SPOTJOB_TOKEN_KEY_DIR": "/nonexistent"}, "head -c 32 /dev/urandom"),
        ({"KUBECONFIG": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_it_does_not_start_with_what_it_must_not_use(api: Api, changed: dict[str, str], words: str) -> None:
    command = [sys.executable, "-m", "spotjob", "api"]
    ended = subprocess.run(command, env={**api.environ, **changed}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr

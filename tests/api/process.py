"""The API's own process, and a namespace with a person and an instance who use it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from spotjob.core.conditions import merge_patch, next_status
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Change
from spotjob.kube.client import KubeClient
from spotjob.local import probes
from tests.builders import NOW, an_instance

KEYS = {"k1": b"k" * 32}
TIMEOUT = 90.0
"""Of a client: the longest wait of 30 s, and a machine that stands still for a while."""
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
    await _until_allowed(kube, namespace)
    asked = await kube.request("POST", f"{core}/serviceaccounts/alice/token", body={"spec": {}})
    return str(asked["status"]["token"])


async def _until_allowed(kube: KubeClient, namespace: str) -> None:
    """The API server's RBAC hears of a new binding by a watch, a moment after it was made."""
    asked = {"group": "spotjob.dev", "resource": "spotjobs", "verb": "create", "namespace": namespace}
    question = {"spec": {"user": f"system:serviceaccount:{namespace}:alice", "resourceAttributes": asked}}
    reviews = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    async with asyncio.timeout(60):
        while not (await kube.request("POST", reviews, body=question))["status"]["allowed"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def arrived(http: httpx.AsyncClient, questions: Sequence[httpx.Request]) -> list[asyncio.Task[httpx.Response]]:
    """Asks, and returns when the process has got all of it.

    It tells nobody of what it holds open. But it accepts connections in their order: one that answers a connection
    which was made after all questions were sent has them.
    """
    sent = asyncio.Semaphore(0)

    async def trace(event: str, _: Mapping[str, Any]) -> None:
        if event == "http11.send_request_body.complete":
            sent.release()

    for question in questions:
        question.extensions = {**question.extensions, "trace": trace}
    asking = [asyncio.create_task(http.send(question)) for question in questions]
    async with asyncio.timeout(60):
        for _ in asking:
            await sent.acquire()
    ready = str(http.base_url.join("readyz"))
    await asyncio.to_thread(probes.wait_until, lambda: probes.answers(ready), 60, "an answer after the questions")
    return asking

"""The API in process, against a Kubernetes of a few dictionaries that has levers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import ConfigDict, ValidationError

from spotjob.api.app import create_app
from spotjob.api.wiring import Services
from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.spec import SpotJobSpec
from spotjob.core.tokens import Claims, Kind, launch_token, sign
from spotjob.kube.informer import JobIndex
from spotjob.kube.reviews import Access, User
from tests.builders import NOW, merged

KEYS = {"k1": b"k" * 32}
CLUSTER_UID = "uid-of-kube-system"
NONCE = "nonce-of-16-chars"
ALICE = User("alice", groups=("staff",))

CLASS = SpotJobClass.model_validate(
    {
        "metadata": {"name": "standard", "annotations": {"spotjob.dev/is-default-class": "true"}},
        "spec": {
            "region": "us-east-1",
            "subnets": {"ids": ["subnet-1"]},
            "securityGroups": ["sg-1"],
            "apiURL": "http://api.example",
        },
    }
)


class StrictSpec(SpotJobSpec):
    """What the API server's schema says, as far as these tests need it."""

    model_config = ConfigDict(extra="forbid")


class Kube:
    """Implements api.wiring.Kube: resourceVersions, 409, 404; `before_write` and `lose_replies` are its levers."""

    def __init__(self) -> None:
        self.jobs: dict[str, SpotJob] = {}
        self.classes = [CLASS]
        self.secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.config_maps: dict[tuple[str, str], dict[str, bytes]] = {}
        self.before_write: list[Callable[[], None]] = []
        """Each is called once before a write arrives: another writer who is faster."""
        self.lose_replies = 0
        """So many writes take effect and are never answered."""
        self.refuse: KubeError | None = None
        """Every call is refused with this."""
        self.events: list[tuple[str, str, str]] = []
        """Key of the job, reason and text of each Event."""
        self.writes = 0
        self.reads = 0
        self._revision = 100

    def store(self, job: SpotJob) -> SpotJob:
        self._revision += 1
        metadata = job.metadata.model_copy(update={"resource_version": str(self._revision)})
        self.jobs[job.key] = job.model_copy(update={"metadata": metadata})
        return self.jobs[job.key]

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        self.reads += 1
        await asyncio.sleep(0)
        if self.refuse is not None:
            raise self.refuse
        if (job := self.jobs.get(f"{namespace}/{name}")) is None:
            raise NotFound(404, f'spotjobs.spotjob.dev "{name}" not found')
        return job

    async def write_status(self, job: SpotJob, status: Mapping[str, Any]) -> SpotJob:
        await asyncio.sleep(0)
        if self.before_write:
            self.before_write.pop(0)()
        known = await self.get_job(job.metadata.namespace, job.metadata.name)
        if known.metadata.resource_version != job.metadata.resource_version:
            raise Conflict(409, "the object has been modified")
        self.writes += 1
        raw = {**known.wire(), "status": merged(known.status.wire(), json.loads(json.dumps(dict(status))))}
        written = self.store(SpotJob.model_validate(raw))
        if self.lose_replies:
            self.lose_replies -= 1
            raise Unanswered("the connection broke")
        return written

    async def record_event(self, job: SpotJob, reason: str, message: str, warning: bool = False) -> None:
        self.events.append((job.key, reason, message))

    async def list_jobs_at(self, field_selector: str = "") -> tuple[list[SpotJob], str]:
        wanted = field_selector.removeprefix("status.instanceID=")
        return [job for job in self.jobs.values() if job.status.instance_id == wanted], str(self._revision)

    async def get_class(self, name: str) -> SpotJobClass:
        for job_class in self.classes:
            if job_class.name == name:
                return job_class
        raise NotFound(404, "no such class")

    async def list_classes(self) -> Sequence[SpotJobClass]:
        return self.classes

    async def secret_values(self, namespace: str, name: str) -> Mapping[str, bytes]:
        return _found(self.secrets, namespace, name)

    async def config_map_values(self, namespace: str, name: str) -> Mapping[str, bytes]:
        return _found(self.config_maps, namespace, name)

    async def list_raw(self, namespace: str | None, params: Mapping[str, str]) -> dict[str, Any]:
        found = [job for job in self.jobs.values() if namespace in (None, job.metadata.namespace)]
        phase = params.get("fieldSelector", "").removeprefix("status.phase=")
        chosen = [raw_of(job) for job in found if phase in ("", job.status.phase)]
        limit, start = int(params["limit"]), int(params.get("continue", "0") if _is_number(params) else "0")
        more = {"continue": str(start + limit)} if len(chosen) > start + limit else {}
        return {"metadata": more, "items": chosen[start : start + limit]}

    async def get_raw(self, namespace: str, name: str) -> dict[str, Any]:
        return raw_of(await self.get_job(namespace, name))

    async def create_raw(self, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self.refuse is not None:
            raise self.refuse
        metadata = dict(body["metadata"])
        name = metadata.setdefault("name", f"{metadata.get('generateName', '')}{self._revision}")
        if f"{namespace}/{name}" in self.jobs:
            raise Conflict(409, f'spotjobs.spotjob.dev "{name}" already exists')
        metadata |= {"uid": f"uid-of-{name}", "creationTimestamp": NOW.isoformat(), "generation": 1}
        try:
            spec = StrictSpec.model_validate(body["spec"]).model_dump(mode="json", by_alias=True, exclude_none=True)
        except ValidationError as error:
            field_ = ".".join(map(str, error.errors()[0]["loc"]))
            raise KubeError(422, f'SpotJob.spotjob.dev "{name}" is invalid: spec.{field_}: Invalid value') from error
        return raw_of(self.store(SpotJob.model_validate({"metadata": metadata, "spec": spec})))

    async def delete_raw(self, namespace: str, name: str) -> dict[str, Any]:
        job = await self.get_job(namespace, name)
        if not job.metadata.finalizers:
            del self.jobs[job.key]
            return {"kind": "Status", "status": "Success", "details": {"name": name, "uid": job.metadata.uid}}
        gone = job.metadata.model_copy(update={"deletion_timestamp": NOW})
        return raw_of(self.store(job.model_copy(update={"metadata": gone})))


def _is_number(params: Mapping[str, str]) -> bool:
    text = params.get("continue", "")
    return text.isascii() and text.isdigit()


def _found(all_values: dict[tuple[str, str], dict[str, bytes]], namespace: str, name: str) -> dict[str, bytes]:
    if (namespace, name) not in all_values:
        raise NotFound(404, "not found")
    return all_values[namespace, name]


def raw_of(job: SpotJob) -> dict[str, Any]:
    return {"apiVersion": "spotjob.dev/v1alpha1", "kind": "SpotJob", **job.wire()}


@dataclass
class People:
    """Implements api.wiring.People: tokens and rights as they were given out."""

    tokens: dict[str, User] = field(default_factory=dict)
    rights: set[tuple[str, Access]] = field(default_factory=set)

    async def who(self, token: str) -> User | None:
        return self.tokens.get(token)

    async def may(self, user: User, access: Access) -> bool:
        return (user.name, access) in self.rights


class Clock:
    """Stands still; sleeping only lets others run."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return self.time.timestamp()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)

    def token(self) -> str:
        return "0" * 32


class World:
    """The app, its levers, and a client that carries no token of its own."""

    def __init__(self) -> None:
        self.kube, self.people, self.index = Kube(), People(), JobIndex()
        self.services = Services(self.kube, self.index, self.people, KEYS, Clock(), CLUSTER_UID)
        self.app: FastAPI = create_app(self.services)
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://api")

    def add(self, job: SpotJob) -> SpotJob:
        """Store a job and let the informer see it."""
        stored = self.kube.store(job)
        self.index.put(stored)
        return stored

    def job(self, key: str = "batch/night") -> SpotJob:
        return self.kube.jobs[key]

    def allow(self, verb: str, namespace: str = "batch", name: str = "") -> None:
        self.people.tokens["alices-token"] = ALICE
        self.people.rights.add(("alice", Access(verb, namespace, name)))

    async def claim(self, instance: str = "i-1", nonce: str = NONCE, **body: Any) -> httpx.Response:
        asked = {"uid": "uid-of-night", "attempt": 1, "nonce": nonce, **body}
        return await self.client.post(f"/v1/instances/{instance}/claim", json=asked, headers=launched())

    async def assignment(self, instance: str = "i-1", wait: float = 0) -> httpx.Response:
        url = f"/v1/instances/{instance}/assignment"
        return await self.client.get(url, params={"wait": wait}, headers=launched())

    async def say(self, what: str, body: Mapping[str, Any], attempt: int = 1, **token: Any) -> httpx.Response:
        url = f"/v1/attempts/uid-of-night/{attempt}/{what}"
        return await self.client.post(url, json=body, headers=of_attempt("agent", attempt=attempt, **token))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def launched(cluster_uid: str = CLUSTER_UID) -> dict[str, str]:
    return bearer(launch_token(KEYS, cluster_uid))


def of_attempt(kind: Kind, **claims: Any) -> dict[str, str]:
    """The token of the first attempt of batch/night on i-1, but for what is said otherwise."""
    usual = {"uid": "uid-of-night", "namespace": "batch", "name": "night", "attempt": 1, "instance": "i-1"}
    return bearer(sign(KEYS, Claims(kind=kind, **{**usual, **claims})))

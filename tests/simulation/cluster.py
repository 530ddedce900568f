"""An API server in memory: resourceVersions, 409, finalizers, and a watch. Implements ports.Kubernetes and Leases."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from spotjob.core.ports import Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import FINALIZER, SpotJob, SpotJobClass
from tests.builders import merged

TIMEOUT_SECONDS = 10.0
"""How long a client waits for the API server."""


class Cluster:
    """What etcd holds, and who watches it."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.classes: list[SpotJobClass] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self._lease_news = asyncio.Event()
        self.events: list[tuple[str, str]] = []
        self.writes: Counter[str] = Counter()
        """Writes by job key, after its creation."""
        self.refused: Counter[str] = Counter()
        """Writes by job key that came with an old version."""
        self.watchers: list[tuple[Context, Callable[[str, SpotJob], None]]] = []
        self.journal: list[Callable[[SpotJob | None, SpotJob], None]] = []
        """Told at once of every change: the object before (None when it is new) and after."""
        self.watch_seconds = 0.01
        """How late the watch brings news."""
        self.list_seconds = 0.0
        """How long a listing takes; it shows what was there when it began."""
        self.seen: dict[str, SpotJob] = {}
        """The newest version of every job that there ever was, by uid."""
        self._revision = 0
        self._created = 0
        self._parsed: dict[str, SpotJob] = {}

    # ---- what people do ----

    def apply(self, name: str, **spec: Any) -> str:
        """Create a SpotJob; returns its key."""
        key = f"batch/{name}"
        self._created += 1
        uid = f"uid-{self._created}-of-{name}"
        metadata = {"name": name, "namespace": "batch", "uid": uid, "generation": 1, "finalizers": []}
        metadata["annotations"] = {}
        self.jobs[key] = {"metadata": metadata, "spec": {"image": "busybox:1", **spec}, "status": {}}
        self._changed(key)
        return key

    def delete(self, key: str) -> None:
        raw = self.jobs[key]
        if raw["metadata"]["finalizers"]:
            raw["metadata"]["deletionTimestamp"] = "2026-11-22T02:00:00Z"
            self._changed(key)
        else:
            self._gone(key)

    def suspend(self, key: str, suspend: bool) -> None:
        self.jobs[key]["spec"]["suspend"] = suspend
        self.jobs[key]["metadata"]["generation"] += 1
        self._changed(key)

    def annotate(self, key: str, name: str, value: str) -> None:
        metadata = self.jobs[key]["metadata"]
        metadata["annotations"] = {**metadata["annotations"], name: value}
        self._changed(key)

    def touch(self, key: str) -> None:
        """Somebody writes an annotation: nothing that matters here, but the resourceVersion is another."""
        self._changed(key)

    def job(self, key: str) -> SpotJob:
        known, raw = self._parsed.get(key), self.jobs[key]
        if known is None or known.metadata.resource_version != raw["metadata"]["resourceVersion"]:
            known = self._parsed[key] = SpotJob.model_validate(raw)
        return known

    def phases(self) -> Counter[str]:
        return Counter(str(raw["status"].get("phase")) for raw in self.jobs.values())

    # ---- storage ----

    def _changed(self, key: str) -> None:
        before = self._parsed.get(key)
        self._revision += 1
        self.jobs[key]["metadata"]["resourceVersion"] = str(self._revision)
        job = self.seen[self.jobs[key]["metadata"]["uid"]] = self.job(key)
        for told in self.journal:
            told(before, job)
        self._tell("MODIFIED", job)

    def _gone(self, key: str) -> None:
        self._revision += 1
        self.jobs[key]["metadata"]["resourceVersion"] = str(self._revision)
        job = self.seen[self.jobs[key]["metadata"]["uid"]] = self.job(key)
        self._tell("DELETED", job)
        del self.jobs[key], self._parsed[key]

    def _tell(self, kind: str, job: SpotJob) -> None:
        loop = asyncio.get_running_loop()
        for context, watcher in self.watchers:
            loop.call_later(self.watch_seconds, watcher, kind, job, context=context)

    def _checked(self, job: SpotJob) -> dict[str, Any]:
        raw = self.jobs.get(job.key)
        if raw is None or raw["metadata"]["uid"] != job.metadata.uid:
            raise NotFound(404, f"{job.key} not found")
        if raw["metadata"]["resourceVersion"] != job.metadata.resource_version:
            self.refused[job.key] += 1
            raise Conflict(409, f"{job.key} has changed")
        self.writes[job.key] += 1
        return raw

    # ---- ports.Kubernetes ----

    async def list_jobs(self) -> Sequence[SpotJob]:
        listed = [self.job(key) for key in self.jobs]
        await asyncio.sleep(self.list_seconds)
        return listed

    async def list_classes(self) -> Sequence[SpotJobClass]:
        return self.classes

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        if f"{namespace}/{name}" not in self.jobs:
            raise NotFound(404, f"{name} not found")
        return self.job(f"{namespace}/{name}")

    async def jobs_of_instance(self, instance_id: str) -> Sequence[SpotJob]:
        """The jobs whose newest attempt names this instance, as the API's index has them."""
        return [self.job(key) for key, raw in self.jobs.items() if raw["status"].get("instanceID") == instance_id]

    async def write_status(self, job: SpotJob, status: Mapping[str, Any]) -> SpotJob:
        await asyncio.sleep(0.005)
        raw = self._checked(job)
        raw["status"] = merged(raw["status"], json.loads(json.dumps(status)))
        self._changed(job.key)
        return self.job(job.key)

    async def add_finalizer(self, job: SpotJob) -> SpotJob:
        self._checked(job)["metadata"]["finalizers"] = [*job.metadata.finalizers, FINALIZER]
        self._changed(job.key)
        return self.job(job.key)

    async def remove_finalizer(self, job: SpotJob) -> SpotJob | None:
        raw = self._checked(job)
        raw["metadata"]["finalizers"] = [f for f in job.metadata.finalizers if f != FINALIZER]
        if job.deleting and not raw["metadata"]["finalizers"]:
            self._gone(job.key)
            return None
        self._changed(job.key)
        return self.job(job.key)

    async def remove_annotation(self, job: SpotJob, name: str) -> SpotJob:
        raw = self._checked(job)
        if name not in raw["metadata"]["annotations"]:
            raise KubeError(422, f"there is no annotation {name}")
        raw["metadata"]["annotations"] = {k: v for k, v in raw["metadata"]["annotations"].items() if k != name}
        self._changed(job.key)
        return self.job(job.key)

    async def delete_job(self, job: SpotJob) -> None:
        self.delete(job.key)

    async def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        return {"kubernetes.io/metadata.name": namespace}

    async def record_event(self, job: SpotJob, reason: str, message: str, warning: bool = False) -> None:
        self.events.append((job.key, reason))

    # ---- lease.Leases ----

    async def get_lease(self, name: str) -> Mapping[str, Any]:
        if name not in self.leases:
            raise NotFound(404, f"lease {name} not found")
        return json.loads(json.dumps(self.leases[name]))  # type: ignore[no-any-return]

    async def create_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]:
        return self._put_lease(lease)

    async def update_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]:
        known = self.leases[lease["metadata"]["name"]]
        if known["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            raise Conflict(409, "the lease has changed")
        return self._put_lease(lease)

    async def lease_changed(self, name: str, resource_version: str) -> None:
        if self.leases[name]["metadata"]["resourceVersion"] == resource_version:
            await self._lease_news.wait()
            await asyncio.sleep(self.watch_seconds)

    def _put_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]:
        self._revision += 1
        metadata = {**lease["metadata"], "resourceVersion": str(self._revision)}
        self.leases[metadata["name"]] = {**lease, "metadata": metadata}
        self._lease_news.set()
        self._lease_news = asyncio.Event()
        return self.leases[metadata["name"]]


class Line:
    """One client's connection to the API server: every call of Cluster, until it is cut."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._network = copy_context()
        self._under_way: set[asyncio.Task[None]] = set()
        self.cut = False
        self.dead = False
        """The client's process is no more."""
        self.lost: Counter[str] = Counter()
        """How many more calls of a method take effect without an answer."""
        self.late: dict[str, float] = {}
        """The next call of a method arrives so many seconds late, when nobody waits for its answer any more."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._cluster, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                raise Unanswered(f"{name}: nobody asks")
            if self.cut:
                await asyncio.sleep(1)
                raise Unanswered(f"{name}: no connection")
            if name in self.late:
                self._send_late(method, arguments, self.late.pop(name))
                await asyncio.sleep(TIMEOUT_SECONDS)
                raise Unanswered(f"{name}: no answer in time")
            answer = await method(*arguments, **options)
            if self.lost[name] > 0:
                self.lost[name] -= 1
                raise Unanswered(f"{name}: the answer is lost")
            return answer

        return call

    def _send_late(self, method: Callable[..., Any], arguments: tuple[Any, ...], seconds: float) -> None:
        async def arrive() -> None:
            await asyncio.sleep(seconds)
            with suppress(KubeError):
                await method(*arguments)

        task = asyncio.get_running_loop().create_task(arrive(), context=self._network.copy())
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

"""The Kubernetes API as SpotJob uses it: implements ports.Kubernetes, and what the API process needs beside it.

Objects are narrowed to our types at this door; `managedFields`, half of every object, are dropped before.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from spotjob.core.ports import Clock, Conflict, KubeError, NotFound, Unanswered
from spotjob.core.resources import FINALIZER, SpotJob, SpotJobClass
from spotjob.core.wire import GROUP, VERSION
from spotjob.kube.config import KubeConfig
from spotjob.kube.objects import (
    Raw,
    WatchEvent,
    event_about,
    read_job,
    readable,
    watch_event,
    without_managed_fields,
)
from spotjob.kube.transport import JSON_PATCH, MERGE_PATCH, Method, Transport, path

log = logging.getLogger(__name__)

PAGE = 500
FIELD_MANAGER = "spotjob"
WATCH_SECONDS = 280
"""The server ends a watch after this long; it is then resumed where it ended."""

SILENCE_SECONDS = 70.0
"""A watch with bookmarks says something every minute; one that does not is dead."""


class Expired(Exception):
    """410: the resourceVersion is too old for a watch; list again."""


def jobs_path(namespace: str | None, *rest: str) -> str:
    """Path of the SpotJobs of one namespace, or of all."""
    scope = () if namespace is None else ("namespaces", namespace)
    return path("apis", GROUP, VERSION, *scope, "spotjobs", *rest)


class KubeClient:
    """An async context manager. Raises ports.Conflict, NotFound, KubeError, Unanswered."""

    def __init__(self, config: KubeConfig, clock: Clock) -> None:
        self._transport = Transport(config)
        self._clock = clock
        self._namespace = config.namespace

    async def __aenter__(self) -> KubeClient:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._transport.__aexit__(*exc)

    async def request(self, method: Method, path: str, **options: Any) -> Raw:
        """Any call, as Transport.request."""
        return await self._transport.request(method, path, **options)

    # ---- SpotJobs, as our type --------------------------------------------------------------------------------------

    async def list_jobs(self) -> Sequence[SpotJob]:
        """All SpotJobs, paginated, most recent (no resourceVersion)."""
        jobs, _ = await self.list_jobs_at()
        return jobs

    async def list_jobs_at(self, field_selector: str = "") -> tuple[list[SpotJob], str]:
        """All SpotJobs and the resourceVersion of the list, from which a watch goes on."""
        params = {"limit": str(PAGE)} | ({"fieldSelector": field_selector} if field_selector else {})
        jobs: list[SpotJob] = []
        while True:
            page = await self.request("GET", jobs_path(None), params=params)
            jobs += [job for job in map(readable, page["items"]) if job is not None]
            if not (more := page["metadata"].get("continue")):
                return jobs, page["metadata"]["resourceVersion"]
            params["continue"] = more

    async def watch_jobs(self, resource_version: str) -> AsyncIterator[WatchEvent]:
        """Events after this resourceVersion until the server ends the watch. Raises Expired on 410."""
        params = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        try:
            async for line in self._transport.lines(jobs_path(None), params, SILENCE_SECONDS):
                yield watch_event(json.loads(line))
        except KubeError as error:
            if error.status == 410:
                raise Expired(error.message) from error
            raise

    async def get_job(self, namespace: str, name: str) -> SpotJob:
        return read_job(await self.get_raw(namespace, name))

    async def create_job(self, namespace: str, body: Mapping[str, Any], dry_run: bool = False) -> SpotJob:
        """As create_raw. Raises Conflict when the name is taken."""
        return read_job(await self.create_raw(namespace, body, dry_run))

    async def write_status(self, job: SpotJob, status: Mapping[str, Any]) -> SpotJob:
        """Merge-patch the status subresource, on the condition that the object is still `job`."""
        body = {"metadata": {"resourceVersion": job.metadata.resource_version}, "status": dict(status)}
        return read_job(
            await self.request(
                "PATCH",
                jobs_path(job.metadata.namespace, job.metadata.name, "status"),
                body=body,
                params={"fieldManager": FIELD_MANAGER},
                content_type=MERGE_PATCH,
            )
        )

    async def add_finalizer(self, job: SpotJob) -> SpotJob:
        if job.guarded:
            return job
        return read_job(await self._set_finalizers(job, [*job.metadata.finalizers, FINALIZER]))

    async def remove_finalizer(self, job: SpotJob) -> SpotJob | None:
        """The object as it is now; None when it went with its last finalizer, or was gone."""
        rest = [name for name in job.metadata.finalizers if name != FINALIZER]
        try:
            left = read_job(await self._set_finalizers(job, rest))
        except NotFound:
            return None
        return None if left.deleting and not left.metadata.finalizers else left

    async def remove_annotation(self, job: SpotJob, name: str) -> SpotJob:
        pointer = name.replace("~", "~0").replace("/", "~1")
        return read_job(await self._patch(job, {"op": "remove", "path": f"/metadata/annotations/{pointer}"}))

    async def _set_finalizers(self, job: SpotJob, finalizers: list[str]) -> Raw:
        return await self._patch(job, {"op": "add", "path": "/metadata/finalizers", "value": finalizers})

    async def _patch(self, job: SpotJob, change: Raw) -> Raw:
        """JSON patch of the object as it was read. Raises Conflict when it has changed since."""
        patch = [{"op": "test", "path": "/metadata/resourceVersion", "value": job.metadata.resource_version}, change]
        try:
            return await self.request(
                "PATCH",
                jobs_path(job.metadata.namespace, job.metadata.name),
                body=patch,
                params={"fieldManager": FIELD_MANAGER},
                content_type=JSON_PATCH,
            )
        except KubeError as error:
            if _test_failed(error):
                raise Conflict(409, "the object has changed since it was read", error.body) from error
            raise

    async def delete_job(self, job: SpotJob) -> None:
        """Delete exactly this object; one that is gone, or has a namesake now, is fine."""
        try:
            await self.delete_raw(job.metadata.namespace, job.metadata.name, uid=job.metadata.uid)
        except (NotFound, Conflict) as error:
            log.debug("%s was gone before it was deleted: %s", job.key, error)

    # ---- SpotJobs, as JSON, for people ------------------------------------------------------------------------------

    async def list_raw(self, namespace: str | None, params: Mapping[str, str]) -> Raw:
        page = await self.request("GET", jobs_path(namespace), params=params)
        return page | {"items": [without_managed_fields(item) for item in page["items"]]}

    async def get_raw(self, namespace: str, name: str) -> Raw:
        return without_managed_fields(await self.request("GET", jobs_path(namespace, name)))

    async def create_raw(self, namespace: str, body: Mapping[str, Any], dry_run: bool = False) -> Raw:
        """Create with strict validation: an unknown field is refused by name. A dry run does all but the write."""
        params = {"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"} | ({"dryRun": "All"} if dry_run else {})
        return without_managed_fields(await self.request("POST", jobs_path(namespace), body=body, params=params))

    async def delete_raw(self, namespace: str, name: str, uid: str | None = None) -> Raw:
        body: Raw = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        return without_managed_fields(await self.request("DELETE", jobs_path(namespace, name), body=body))

    # ---- classes, Secrets, ConfigMaps, namespaces -------------------------------------------------------------------

    async def get_class(self, name: str) -> SpotJobClass:
        raw = await self.request("GET", path("apis", GROUP, VERSION, "spotjobclasses", name))
        return SpotJobClass.model_validate(without_managed_fields(raw))

    async def list_classes(self) -> Sequence[SpotJobClass]:
        page = await self.request("GET", path("apis", GROUP, VERSION, "spotjobclasses"))
        return [SpotJobClass.model_validate(without_managed_fields(item)) for item in page["items"]]

    async def secret_values(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """The Secret's values by key, decoded. Raises NotFound."""
        secret = await self.request("GET", path("api", "v1", "namespaces", namespace, "secrets", name))
        return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}

    async def config_map_values(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """The ConfigMap's values by key, text as UTF-8. Raises NotFound."""
        found = await self.request("GET", path("api", "v1", "namespaces", namespace, "configmaps", name))
        text = {key: value.encode() for key, value in (found.get("data") or {}).items()}
        return text | {key: base64.b64decode(value) for key, value in (found.get("binaryData") or {}).items()}

    async def namespace_labels(self, namespace: str) -> Mapping[str, str]:
        found = await self.request("GET", path("api", "v1", "namespaces", namespace))
        return cast(Mapping[str, str], found["metadata"].get("labels") or {})

    async def cluster_uid(self) -> str:
        """The uid of namespace kube-system, which names this cluster on every AWS resource."""
        found = await self.request("GET", path("api", "v1", "namespaces", "kube-system"))
        return str(found["metadata"]["uid"])

    # ---- Leases, in the configured namespace ------------------------------------------------------------------------

    def _leases(self, *name: str) -> str:
        return path("apis", "coordination.k8s.io", "v1", "namespaces", self._namespace, "leases", *name)

    async def get_lease(self, name: str) -> Mapping[str, Any]:
        return await self.request("GET", self._leases(name))

    async def create_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]:
        return await self.request("POST", self._leases(), body=lease)

    async def update_lease(self, lease: Mapping[str, Any]) -> Mapping[str, Any]:
        """Replace it; the resourceVersion in `lease` must be the current one."""
        return await self.request("PUT", self._leases(lease["metadata"]["name"]), body=lease)

    async def lease_changed(self, name: str, resource_version: str) -> None:
        """Returns once the Lease is another than it was at this version. Raises KubeError, Unanswered."""
        params = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with aclosing(self._transport.lines(self._leases(), params, SILENCE_SECONDS)) as lines:
            async for line in lines:
                if json.loads(line)["type"] == "ERROR":
                    break
                return
        raise Unanswered(f"the watch of lease {name} ended")

    # ---- Events -----------------------------------------------------------------------------------------------------

    async def record_event(self, job: SpotJob, reason: str, message: str, warning: bool = False) -> None:
        """Best effort: an Event that cannot be written is a line in the debug log."""
        event = event_about(job, reason, message, warning, self._clock.now())
        try:
            namespace = job.metadata.namespace
            await self.request(
                "POST", path("apis", "events.k8s.io", "v1", "namespaces", namespace, "events"), body=event
            )
        except (KubeError, Unanswered) as error:
            log.debug("event %s about %s not recorded: %s", reason, job.key, error)


def _test_failed(error: KubeError) -> bool:
    """A failed JSON-patch test is a 422 without causes; a 422 of validation names the fields."""
    return error.status == 422 and not (error.body.get("details") or {}).get("causes")

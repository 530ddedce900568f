"""JobSequences at the API server, as the operator uses them. Raises Conflict, NotFound, KubeError and Unanswered."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from spotjob.core.ports import Clock, Conflict, KubeError, NotFound, Unanswered
from spotjob.core.sequence.resources import KIND, SEQUENCE_FINALIZER, JobSequence
from spotjob.core.wire import API_VERSION, GROUP, VERSION
from spotjob.kube.objects import Raw, event_about, read_sequence, readable_sequence
from spotjob.kube.transport import MERGE_PATCH, Method, path

log = logging.getLogger(__name__)

PAGE = 50
"""Each may be large: 500 steps."""
FIELD_MANAGER = {"fieldManager": "spotjob"}


class Server(Protocol):
    """The one call that is needed of the Kubernetes client."""

    async def request(self, method: Method, path: str, **options: Any) -> Raw: ...


def sequences_path(namespace: str | None, *rest: str) -> str:
    """Path of the JobSequences of one namespace, or of all."""
    scope = () if namespace is None else ("namespaces", namespace)
    return path("apis", GROUP, VERSION, *scope, "jobsequences", *rest)


class KubeSequences:
    """Implements controller.sequence_store.SequenceApi."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self._server, self._clock = server, clock

    async def list_all(self) -> list[JobSequence]:
        """Every one, paginated, most recent (no resourceVersion)."""
        params = {"limit": str(PAGE)}
        found: list[JobSequence] = []
        while True:
            page = await self._server.request("GET", sequences_path(None), params=params)
            found += [each for each in map(readable_sequence, page["items"]) if each is not None]
            if not (more := page["metadata"].get("continue")):
                return found
            params["continue"] = more

    async def get(self, namespace: str, name: str) -> JobSequence:
        return read_sequence(await self._server.request("GET", sequences_path(namespace, name)))

    async def create(self, namespace: str, body: Mapping[str, Any]) -> JobSequence:
        """`body` has metadata and spec. Raises Conflict when the name is taken."""
        whole = {"apiVersion": API_VERSION, "kind": KIND, **body}
        params = {**FIELD_MANAGER, "fieldValidation": "Strict"}
        return read_sequence(await self._server.request("POST", sequences_path(namespace), body=whole, params=params))

    async def write_status(self, held: JobSequence, patch: Mapping[str, Any]) -> JobSequence:
        """Merge-patch the status subresource, on the condition that the object is still `held`."""
        body = {"metadata": {"resourceVersion": held.metadata.resource_version}, "status": dict(patch)}
        return read_sequence(await self._patch(held, body, "status"))

    async def guard(self, held: JobSequence) -> JobSequence:
        """Put the finalizer on."""
        return await self._set_finalizers(held, [*held.metadata.finalizers, SEQUENCE_FINALIZER])

    async def release(self, held: JobSequence) -> JobSequence | None:
        """Take the finalizer off; None when the object went with it, or was gone."""
        rest = [name for name in held.metadata.finalizers if name != SEQUENCE_FINALIZER]
        try:
            left = await self._set_finalizers(held, rest)
        except NotFound:
            return None
        return None if left.deleting and not left.metadata.finalizers else left

    async def _set_finalizers(self, held: JobSequence, finalizers: list[str]) -> JobSequence:
        """A merge patch with the resourceVersion of what was read: a list is replaced as a whole."""
        metadata = {"resourceVersion": held.metadata.resource_version, "finalizers": finalizers}
        return read_sequence(await self._patch(held, {"metadata": metadata}))

    async def _patch(self, held: JobSequence, body: Any, *rest: str) -> Raw:
        where = sequences_path(held.metadata.namespace, held.metadata.name, *rest)
        return await self._server.request("PATCH", where, body=body, params=FIELD_MANAGER, content_type=MERGE_PATCH)

    async def delete(self, held: JobSequence) -> None:
        """Delete exactly this object; one that is gone, or has a namesake now, is fine."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": held.metadata.uid},
        }
        try:
            await self._server.request("DELETE", sequences_path(held.metadata.namespace, held.metadata.name), body=body)
        except (NotFound, Conflict) as error:
            log.debug("%s was gone before it was deleted: %s", held.key, error)

    async def tell(self, held: JobSequence, reason: str, message: str, warning: bool = False) -> None:
        """An Event, best effort: one that cannot be written is a line in the debug log."""
        event = event_about(held, reason, message, warning, self._clock.now())
        where = path("apis", "events.k8s.io", "v1", "namespaces", held.metadata.namespace, "events")
        try:
            await self._server.request("POST", where, body=event)
        except (KubeError, Unanswered) as error:
            log.debug("event %s about %s not recorded: %s", reason, held.key, error)

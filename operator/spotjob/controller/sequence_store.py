"""What the operator knows of the JobSequences, and what it needs of the API server about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from spotjob.core.sequence.resources import SCHEDULE_LABEL, JobSequence


class NotLeading(Exception):
    """Somebody else may lead by now: nothing was done."""


class SequenceApi(Protocol):
    """Every write carries the resourceVersion of what was read. Raises Conflict, NotFound, KubeError, Unanswered."""

    async def list_all(self) -> Sequence[JobSequence]: ...

    async def get(self, namespace: str, name: str) -> JobSequence: ...

    async def create(self, namespace: str, body: Mapping[str, Any]) -> JobSequence:
        """Raises Conflict when the name is taken."""

    async def write_status(self, held: JobSequence, patch: Mapping[str, Any]) -> JobSequence: ...

    async def guard(self, held: JobSequence) -> JobSequence:
        """Put the finalizer on."""

    async def release(self, held: JobSequence) -> JobSequence | None:
        """Take the finalizer off; None when the object went with it, or was gone."""

    async def delete(self, held: JobSequence) -> None:
        """Delete exactly this object; one that is gone is fine."""

    async def tell(self, held: JobSequence, reason: str, message: str, warning: bool = False) -> None:
        """A Kubernetes Event, best effort."""


class SequenceStore:
    """The newest version of every JobSequence, by key. An older one never overwrites a newer."""

    def __init__(self) -> None:
        self._held: dict[str, JobSequence] = {}

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> JobSequence | None:
        return self._held.get(key)

    def put(self, held: JobSequence) -> bool:
        """Keep this version; False when a newer or equal one is known."""
        known = self._held.get(held.key)
        if known is not None and _revision(known) >= _revision(held):
            return False
        self._held[held.key] = held
        return True

    def drop(self, held: JobSequence) -> None:
        """The object is gone; a namesake that was created since stays."""
        known = self._held.get(held.key)
        if known is not None and known.metadata.uid == held.metadata.uid:
            del self._held[held.key]

    def all(self) -> Iterable[JobSequence]:
        return self._held.values()

    def keys(self) -> frozenset[str]:
        return frozenset(self._held)

    def listed(self, shown: Iterable[JobSequence], known_before: frozenset[str]) -> frozenset[str]:
        """A full listing of our own; returns the keys of `known_before` that it does not show, which are gone."""
        by_key = {held.key: held for held in shown}
        gone = known_before - by_key.keys()
        for key in gone:
            self._held.pop(key, None)
        for held in by_key.values():
            self.put(held)
        return gone

    def runs_of(self, parent: JobSequence) -> list[JobSequence]:
        """What a scheduled JobSequence has created."""
        return [held for held in self._held.values() if parent_key(held) == parent.key]


def parent_key(held: JobSequence) -> str | None:
    """The scheduled JobSequence that created this one."""
    name = held.metadata.labels.get(SCHEDULE_LABEL)
    return None if name is None else f"{held.metadata.namespace}/{name}"


def _revision(held: JobSequence) -> int:
    return int(held.metadata.resource_version)

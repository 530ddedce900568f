"""What the routes need, made once at start and handed to `create_app`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, cast
from weakref import WeakValueDictionary

from fastapi import Depends, Request

from spotjob.core.ports import Clock
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.tokens import Keyring
from spotjob.kube.informer import JobIndex
from spotjob.kube.reviews import Access, User


class Kube(Protocol):
    """The Kubernetes calls of the API process. They raise ports.Conflict, NotFound, KubeError and Unanswered."""

    async def get_job(self, namespace: str, name: str) -> SpotJob: ...

    async def write_status(self, job: SpotJob, status: Mapping[str, Any]) -> SpotJob: ...

    async def record_event(self, job: SpotJob, reason: str, message: str, warning: bool = False) -> None: ...

    async def list_jobs_at(self, field_selector: str = "") -> tuple[list[SpotJob], str]: ...

    async def get_class(self, name: str) -> SpotJobClass: ...

    async def list_classes(self) -> Sequence[SpotJobClass]: ...

    async def secret_values(self, namespace: str, name: str) -> Mapping[str, bytes]: ...

    async def config_map_values(self, namespace: str, name: str) -> Mapping[str, bytes]: ...

    async def list_raw(self, namespace: str | None, params: Mapping[str, str]) -> dict[str, Any]: ...

    async def get_raw(self, namespace: str, name: str) -> dict[str, Any]: ...

    async def create_raw(self, namespace: str, body: Mapping[str, Any]) -> dict[str, Any]: ...

    async def delete_raw(self, namespace: str, name: str) -> dict[str, Any]: ...


class People(Protocol):
    """Who somebody is, and what they may do: kube.reviews.Reviews."""

    async def who(self, token: str) -> User | None: ...

    async def may(self, user: User, access: Access) -> bool: ...


class Turns:
    """Writers of one job take turns: this process need not conflict with itself, and a conflict costs two calls."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, key: str) -> asyncio.Lock:
        """The lock of one job; it lives as long as somebody holds or awaits it."""
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock


@dataclass(frozen=True, slots=True)
class Services:
    """All of it."""

    kube: Kube
    index: JobIndex
    people: People
    keyring: Keyring
    clock: Clock
    cluster_uid: str
    api_url: str = ""
    """Settings.api_url: the base of the URL that containers call back; empty means the class's."""
    turns: Turns = field(default_factory=Turns)


async def services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(services)]

"""Who a bearer token belongs to, and what that person may do: asked of the API server, remembered for seconds.

An answer is remembered under the token's sha256, never under the token. A yes lives 30 s (who) and 10 s (may), a
refused token 2 s, so that a client in a loop costs one question; a refused right is asked again each time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from spotjob.core.ports import Clock
from spotjob.core.wire import GROUP
from spotjob.kube.transport import Method, path

KNOWN_SECONDS = 30.0
UNKNOWN_SECONDS = 2.0
ALLOWED_SECONDS = 10.0
REMEMBERED = 1024
"""Answers kept at most; the oldest goes first."""


@dataclass(frozen=True, slots=True)
class User:
    """status.user of a TokenReview."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, Sequence[str]] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Access:
    """What somebody wants to do with SpotJobs. An empty namespace means all of them."""

    verb: str
    namespace: str = ""
    name: str = ""


class Server(Protocol):
    """The one call that is needed of the Kubernetes client."""

    async def request(self, method: Method, path: str, **options: Any) -> dict[str, Any]: ...


_T = TypeVar("_T")


class Memory(Generic[_T]):
    """Answers with an end, in the order in which they were asked."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: dict[object, tuple[float, _T]] = {}

    def get(self, key: object) -> _T | None:
        until, answer = self._answers.get(key, (0.0, None))
        return answer if self._clock.monotonic() < until else None

    def put(self, key: object, answer: _T, seconds: float) -> _T:
        self._answers.pop(key, None)
        self._answers[key] = (self._clock.monotonic() + seconds, answer)
        if len(self._answers) > REMEMBERED:
            del self._answers[next(iter(self._answers))]
        return answer


class Reviews:
    """TokenReview and SubjectAccessReview. Raises ports.KubeError and Unanswered when the API server does."""

    def __init__(self, server: Server, clock: Clock, audiences: Sequence[str] = ()) -> None:
        self._server, self._audiences = server, list(audiences)
        self._known = Memory[User](clock)
        self._unknown = Memory[bool](clock)
        self._allowed = Memory[bool](clock)

    async def who(self, token: str) -> User | None:
        """The person or ServiceAccount behind the token; None for a token that is not good."""
        key = hashlib.sha256(token.encode()).digest()
        if (user := self._known.get(key)) is not None:
            return user
        if self._unknown.get(key):
            return None
        user = _user(await self._review("authentication.k8s.io", "TokenReview", self._question(token)))
        if user is None:
            self._unknown.put(key, True, UNKNOWN_SECONDS)
            return None
        return self._known.put(key, user, KNOWN_SECONDS)

    def _question(self, token: str) -> dict[str, Any]:
        return {"token": token} | ({"audiences": self._audiences} if self._audiences else {})

    async def may(self, user: User, access: Access) -> bool:
        """Whether RBAC lets this user do that."""
        key = (user, access)
        if self._allowed.get(key):
            return True
        status = await self._review("authorization.k8s.io", "SubjectAccessReview", access_question(user, access))
        allowed = status.get("allowed") is True and status.get("denied") is not True
        return self._allowed.put(key, True, ALLOWED_SECONDS) if allowed else False

    async def _review(self, group: str, kind: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        body = {"apiVersion": f"{group}/v1", "kind": kind, "spec": dict(spec)}
        url = path("apis", group, "v1", f"{kind.lower()}s")
        answer = await self._server.request("POST", url, body=body, repeatable=True)
        return dict(answer.get("status") or {})


def access_question(user: User, access: Access) -> dict[str, Any]:
    """The whole spec of a SubjectAccessReview."""
    attributes = {
        "group": GROUP,
        "resource": "spotjobs",
        "verb": access.verb,
        "namespace": access.namespace,
        "name": access.name,
    }
    return {
        "user": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {name: list(values) for name, values in user.extra.items()},
        "resourceAttributes": attributes,
    }


def _user(status: Mapping[str, Any]) -> User | None:
    """`authenticated` is absent, not false, on failure; a token for another audience says so only there."""
    if status.get("authenticated") is not True:
        return None
    user = status.get("user") or {}
    return User(
        name=user.get("username", ""),
        uid=user.get("uid", ""),
        groups=tuple(user.get("groups") or ()),
        extra=user.get("extra") or {},
    )

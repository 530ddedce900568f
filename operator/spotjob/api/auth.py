"""Who calls: a person with a Kubernetes token, or an instance, an agent, a container with a token of ours."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Path, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from spotjob.api.problems import Refusal, unauthorized
from spotjob.api.wiring import Given, Services
from spotjob.core.tokens import Claims, Kind, TokenError, verify
from spotjob.kube.reviews import Access, User

DNS_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"

Namespace = Annotated[str, Path(pattern=DNS_NAME, max_length=63)]
Name = Annotated[str, Path(pattern=DNS_NAME, max_length=253)]

_person = HTTPBearer(auto_error=False, scheme_name="kubernetes", description="A Kubernetes bearer token.")
_launch = HTTPBearer(auto_error=False, scheme_name="launch", description="The launch token of the instance.")
_agent = HTTPBearer(auto_error=False, scheme_name="agent", description="The agent token of one attempt.")
_container = HTTPBearer(auto_error=False, scheme_name="container", description="SPOTJOB_CALLBACK_TOKEN.")

_Sent = HTTPAuthorizationCredentials | None


# ---- instances, agents, containers --------------------------------------------------------------------------------


def _verified(given: Services, sent: _Sent, kind: Kind) -> Claims:
    if sent is None:
        raise unauthorized("a bearer token is needed")
    try:
        return verify(given.keyring, sent.credentials, kind)
    except TokenError as error:
        raise unauthorized(f"the token is refused: {error}") from error


async def launched(given: Given, sent: Annotated[_Sent, Security(_launch)]) -> Claims:
    """An instance of this cluster. Raises 401 for a bad token, 403 for another cluster's."""
    claims = _verified(given, sent, "launch")
    if claims.uid != given.cluster_uid:
        raise Refusal(403, "the launch token is of another cluster")
    return claims


async def agent(
    uid: Annotated[str, Path(max_length=64)],
    number: Annotated[int, Path(ge=1)],
    given: Given,
    sent: Annotated[_Sent, Security(_agent)],
) -> Claims:
    """The agent of exactly the attempt in the path. Raises 401 for a bad token, 403 for another attempt's."""
    claims = _verified(given, sent, "agent")
    if (claims.uid, claims.attempt) != (uid, number):
        raise Refusal(403, "the token is of another attempt")
    return claims


async def container(given: Given, sent: Annotated[_Sent, Security(_container)]) -> Claims:
    return _verified(given, sent, "container")


Launched = Annotated[Claims, Depends(launched)]
Agent = Annotated[Claims, Depends(agent)]
Container = Annotated[Claims, Depends(container)]


# ---- people -------------------------------------------------------------------------------------------------------


async def person(given: Given, sent: Annotated[_Sent, Security(_person)]) -> User:
    if sent is None or (user := await given.people.who(sent.credentials)) is None:
        raise unauthorized("a Kubernetes bearer token that the API server accepts is needed")
    return user


Person = Annotated[User, Depends(person)]
Guard = Callable[..., Coroutine[Any, Any, User]]


async def _allow(given: Services, user: User, access: Access) -> User:
    if await given.people.may(user, access):
        return user
    where = f"in namespace {access.namespace}" if access.namespace else "in all namespaces"
    raise Refusal(403, f"{user.name} may not {access.verb} spotjobs {where}")


def everywhere(verb: str) -> Guard:
    """A dependency: the caller may do this in all namespaces. Raises 401, 403."""

    async def guard(given: Given, user: Person) -> User:
        return await _allow(given, user, Access(verb))

    return guard


def in_namespace(verb: str) -> Guard:
    """A dependency: the caller may do this in the namespace of the path. Raises 401, 403."""

    async def guard(given: Given, user: Person, namespace: Namespace) -> User:
        return await _allow(given, user, Access(verb, namespace))

    return guard


def to_one(verb: str) -> Guard:
    """A dependency: the caller may do this to the job of the path. Raises 401, 403."""

    async def guard(given: Given, user: Person, namespace: Namespace, name: Name) -> User:
        return await _allow(given, user, Access(verb, namespace, name))

    return guard

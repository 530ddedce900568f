"""Every operation of the OpenAPI document, with good and bad data made from it: schemathesis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import (
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)

from spotjob.api.app import create_app
from spotjob.api.wiring import Services
from spotjob.kube.informer import Found, JobIndex
from spotjob.kube.reviews import Access, User
from tests.api.world import ALICE, CLUSTER_UID, KEYS, Clock, Kube, bearer, launched, of_attempt
from tests.builders import booting, running


class Impatient(JobIndex):
    """Holds no question open: there is nobody who could answer it."""

    async def wait_for(self, key: str, look: Callable[[], Found | None], seconds: float) -> Found | None:
        return look()


class Everybody:
    """Implements api.wiring.People: each token is Alice's, who may do everything."""

    async def who(self, token: str) -> User | None:
        return ALICE

    async def may(self, user: User, access: Access) -> bool:
        return True


def an_api() -> Any:
    kube, index = Kube(), Impatient()
    for job in (running("i-1"), booting("i-2", name="other")):
        index.put(kube.store(job))
    return create_app(Services(kube, index, Everybody(), KEYS, Clock(), CLUSTER_UID))


schema = schemathesis.openapi.from_asgi("/openapi.json", an_api())

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


def token_for(case: schemathesis.Case) -> dict[str, str]:
    """A good token for the operation, where one can be made for what the case asks."""
    if "/instances/" in case.path:
        return launched()
    if "/callback" in case.path:
        return of_attempt("container")
    if "/attempts/" in case.path:
        return of_attempt("agent")
    return bearer("alices-token")


@schema.parametrize()
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_every_operation_answers_as_its_document_says(case: schemathesis.Case) -> None:
    if "/attempts/" in case.path and str(case.path_parameters.get("number", "")).isdecimal():
        case.path_parameters = {"uid": "uid-of-night", "number": 1}  # so that the body is looked at
    case.call_and_validate(headers=token_for(case), checks=CHECKS)

"""Every error of the API is an RFC 9457 problem: what was wrong, in words, and never the inside of the program.

What the API server itself refused for the user's own fault is passed through with its text, which names the field.
What it refused to *us* (401, 403: our ServiceAccount lacks a right) is our fault, and a 500.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from spotjob.core.contract import Problem
from spotjob.core.ports import KubeError, Unanswered

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

PASSED_THROUGH = (400, 404, 409, 410, 413, 422)
"""Refusals of the API server that are the user's to mend."""

RETRY_SECONDS = 2
"""Retry-After of a 503."""


class Refusal(HTTPException):
    """A problem with a text for the caller."""


def unauthorized(detail: str) -> Refusal:
    """401: no token, or one that is not good."""
    return Refusal(401, detail, headers={"WWW-Authenticate": 'Bearer realm="spotjob"'})


def unavailable(detail: str, seconds: int = RETRY_SECONDS) -> Refusal:
    """503: the same request may succeed after `seconds`."""
    return Refusal(503, detail, headers={"Retry-After": str(seconds)})


Responses = dict[int | str, dict[str, Any]]
"""FastAPI's `responses` of a route."""


def documented(*statuses: int) -> Responses:
    """The `responses` of a route that may answer with these problems."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: {"schema": schema}}}
        for status in statuses
    }


def response(request: Request, status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    problem = Problem(title=HTTPStatus(status).phrase, status=status, detail=detail, instance=request.url.path)
    return JSONResponse(problem.wire(), status, headers=headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Make every error of this app a problem."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(KubeError, _refused_by_kubernetes)
    app.add_exception_handler(Unanswered, _unanswered)
    app.add_exception_handler(Exception, _unexpected)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- Starlette calls by type
    return response(request, error.status_code, error.detail, error.headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """400 for what is no JSON, else 422 with each field by name, and without what it held."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- Starlette calls by type
    found = error.errors()
    if any(item["type"] == "json_invalid" for item in found):
        position, cause = found[0]["loc"][-1], found[0]["ctx"]["error"]
        return response(request, 400, f"the body is not JSON: {cause} at character {position}")
    return response(request, 422, "; ".join(f"{_field(item['loc'])}: {_wanted(item)}" for item in found))


def _wanted(item: Mapping[str, Any]) -> str:
    """What the field should be. A body that came under another type was never read as JSON."""
    if item["loc"] == ("body",) and item["type"] == "model_attributes_type":
        return "must be a JSON object, sent with Content-Type: application/json"
    return str(item["msg"])


def _field(location: tuple[str | int, ...]) -> str:
    """`body.spec.env.0.name`."""
    return ".".join(map(str, location))


async def _refused_by_kubernetes(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, KubeError)  # noqa: S101 -- Starlette calls by type
    if error.status in PASSED_THROUGH:
        return response(request, error.status, error.message)
    log.error("the API server refused us: %s", error)
    if error.status == 429:
        return await _refused(request, unavailable("the Kubernetes API server asks for fewer requests"))
    return response(request, 500, "the API is not set up rightly; its log says how")


async def _unanswered(request: Request, error: Exception) -> JSONResponse:
    log.warning("the API server did not answer: %s", error)
    return await _refused(request, unavailable("the Kubernetes API server does not answer"))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    """Starlette raises the error again after this answer, so that the server logs it."""
    return response(request, 500, "an error in the API; its log says more")

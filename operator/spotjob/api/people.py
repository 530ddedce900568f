"""Routes for people: schedule, list, look at and delete SpotJobs, with their Kubernetes tokens and rights.

The API server stays the only judge of a spec: what is posted goes to it as it came, with strict validation, and its
refusal comes back in its own words. Our ServiceAccount writes; who asked for it stands in an annotation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Header, Query
from fastapi.responses import JSONResponse
from pydantic import Field, SkipValidation

from spotjob.api.auth import Name, Namespace, everywhere, in_namespace, to_one
from spotjob.api.problems import Refusal, Responses, documented
from spotjob.api.wiring import Given, Services
from spotjob.core.contract import Strict
from spotjob.core.ports import Conflict
from spotjob.core.reasons import Phase
from spotjob.core.resources import FINALIZER, SpotJob
from spotjob.core.spec import SpotJobSpec
from spotjob.core.wire import API_VERSION, GROUP, Wire
from spotjob.kube.reviews import User

router = APIRouter(prefix="/v1")

CREATED_BY = f"{GROUP}/created-by"
REQUEST_HASH = f"{GROUP}/request-hash"
"""sha256 of who asked, with which Idempotency-Key, for what: tells a repetition from a namesake."""

PAGE = 100
LARGEST_PAGE = 500

_PROBLEMS = (401, 403, 405, 413, 422, 500, 503)
_ONE: Responses = {200: {"model": SpotJob, "description": "The SpotJob, as Kubernetes has it"}}


class NewMetadata(Strict):
    """The part of ObjectMeta that may be given."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    """If given, it must be the one in the path."""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class NewJob(Strict):
    """A SpotJob as `kubectl apply` takes it, or just a name and a spec."""

    api_version: Literal["spotjob.dev/v1alpha1"] | None = None
    kind: Literal["SpotJob"] | None = None
    metadata: NewMetadata = NewMetadata()
    name: str | None = None
    """Short for metadata.name."""
    generate_name: str | None = None
    """Short for metadata.generateName: the name begins with this."""
    spec: Annotated[SpotJobSpec, SkipValidation]
    """Judged by the API server."""


class JobPage(Wire):
    """Some of the jobs."""

    items: list[SpotJob]
    continue_: Annotated[str | None, Field(alias="continue")] = None
    """Give this back as `continue` for the next page; absent on the last one."""


class Deleted(Wire):
    """A job that goes, once its instance is gone."""

    namespace: str
    name: str
    uid: str


async def _page(
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
    continue_: Annotated[str | None, Query(alias="continue", max_length=4096)] = None,
    label_selector: Annotated[str | None, Query(alias="labelSelector", max_length=1024)] = None,
    phase: Annotated[Phase | None, Query()] = None,
) -> dict[str, str]:
    asked = {
        "limit": str(limit),
        "continue": continue_,
        "labelSelector": label_selector,
        "fieldSelector": None if phase is None else f"status.phase={phase.value}",
    }
    return {name: value for name, value in asked.items() if value}


Page = Annotated[dict[str, str], Depends(_page)]
"""Which jobs to list: the API server's own parameters."""


# ---- reading ------------------------------------------------------------------------------------------------------

_LISTED: Responses = {200: {"model": JobPage, "description": "A page of SpotJobs"}}


@router.get("/jobs", responses=_LISTED | documented(400, 410, *_PROBLEMS), dependencies=[Depends(everywhere("list"))])
async def list_all_jobs(given: Given, page: Page) -> JSONResponse:
    """The jobs of all namespaces."""
    return await _list(given, None, page)


@router.get(
    "/namespaces/{namespace}/jobs",
    responses=_LISTED | documented(400, 410, *_PROBLEMS),
    dependencies=[Depends(in_namespace("list"))],
)
async def list_jobs(given: Given, namespace: Namespace, page: Page) -> JSONResponse:
    """The jobs of one namespace."""
    return await _list(given, namespace, page)


async def _list(given: Services, namespace: str | None, page: Page) -> JSONResponse:
    found = await given.kube.list_raw(namespace, page)
    more = found.get("metadata", {}).get("continue")
    return JSONResponse({"items": found["items"]} | ({"continue": more} if more else {}))


@router.get(
    "/namespaces/{namespace}/jobs/{name}",
    responses=_ONE | documented(404, *_PROBLEMS),
    dependencies=[Depends(to_one("get"))],
)
async def get_job(given: Given, namespace: Namespace, name: Name) -> JSONResponse:
    """One job with its status."""
    return JSONResponse(await given.kube.get_raw(namespace, name))


@router.delete(
    "/namespaces/{namespace}/jobs/{name}",
    responses=documented(404, 409, *_PROBLEMS),
    dependencies=[Depends(to_one("delete"))],
)
async def delete_job(given: Given, namespace: Namespace, name: Name) -> Deleted:
    """Delete a job. Its instance is terminated, then the object goes."""
    answer = await given.kube.delete_raw(namespace, name)
    about = answer["metadata"] if answer.get("kind") == "SpotJob" else answer.get("details", {})
    return Deleted(namespace=namespace, name=name, uid=about.get("uid", ""))


# ---- scheduling ---------------------------------------------------------------------------------------------------


_CREATED: Responses = {
    201: {"model": SpotJob, "description": "Created"},
    200: {"model": SpotJob, "description": "The same request had created this job before"},
}


@router.post(
    "/namespaces/{namespace}/jobs",
    status_code=201,
    responses=_CREATED | documented(400, 404, 409, *_PROBLEMS),
)
async def schedule(
    asked: NewJob,
    given: Given,
    namespace: Namespace,
    user: Annotated[User, Depends(in_namespace("create"))],
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> JSONResponse:
    """Schedule a job. With an Idempotency-Key a repeated request gives the job that the first one made."""
    manifest = manifest_of(asked, namespace, user.name, idempotency_key)
    try:
        return _job(201, await given.kube.create_raw(namespace, manifest))
    except Conflict:
        if idempotency_key is None:
            raise
        return await _the_first_one(given, manifest)


async def _the_first_one(given: Services, manifest: Mapping[str, Any]) -> JSONResponse:
    """The job that this very request made before. Raises 409 when the name is another request's."""
    metadata = manifest["metadata"]
    found = await given.kube.get_raw(metadata["namespace"], metadata["name"])
    if found["metadata"].get("annotations", {}).get(REQUEST_HASH) != metadata["annotations"][REQUEST_HASH]:
        raise Refusal(409, f"{metadata['name']} exists and was made by another request; use another Idempotency-Key")
    return _job(200, found)


def _job(status: int, job: Mapping[str, Any]) -> JSONResponse:
    metadata = job["metadata"]
    location = f"/v1/namespaces/{metadata['namespace']}/jobs/{quote(metadata['name'])}"
    return JSONResponse(job, status, headers={"Location": location})


def manifest_of(asked: NewJob, namespace: str, user: str, idempotency_key: str | None) -> dict[str, Any]:
    """The whole object to create. Pure. Raises 422 naming the field for a name that is given twice."""
    given = asked.metadata
    if given.namespace not in (None, namespace):
        raise Refusal(422, f"body.metadata.namespace: must be {namespace}, the namespace of the path")
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "SpotJob",
        "metadata": {
            **_one_of("name", asked.name, given.name),
            **_one_of("generateName", asked.generate_name, given.generate_name),
            "namespace": namespace,
            "labels": given.labels,
            "annotations": {**given.annotations, CREATED_BY: user},
            "finalizers": [FINALIZER],
        },
        "spec": asked.spec,
    }
    return manifest if idempotency_key is None else _repeatable(manifest, user, idempotency_key)


def _one_of(field: str, short: str | None, long: str | None) -> dict[str, str]:
    if short is not None and long is not None and short != long:
        raise Refusal(422, f"body.{field}: differs from body.metadata.{field}")
    value = long if short is None else short
    return {} if value is None else {field: value}


def _repeatable(manifest: dict[str, Any], user: str, key: str) -> dict[str, Any]:
    """With a name that hangs on user and key alone, and a hash that hangs on the whole request."""
    metadata = dict(manifest["metadata"])
    whole = _sha256(user, key, json.dumps(manifest, sort_keys=True))
    prefix = metadata.pop("generateName", "job-")
    metadata.setdefault("name", f"{prefix}{_sha256(user, key)[:20]}")
    return {**manifest, "metadata": {**metadata, "annotations": {**metadata["annotations"], REQUEST_HASH: whole}}}


def _sha256(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

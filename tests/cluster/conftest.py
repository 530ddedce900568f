"""The real API server over HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from spotjob.local.control_plane import ControlPlane
from tests.cluster.objects import JOBS, Json, a_job


@pytest.fixture(scope="session")
def api(control_plane: ControlPlane) -> Iterator[httpx.Client]:
    """The API server, as its administrator, strict about unknown fields."""
    trust = ssl.create_default_context(cafile=str(control_plane.ca_file))
    headers = {"Authorization": f"Bearer {control_plane.admin_token}"}
    strict = {"fieldValidation": "Strict"}
    url, patience = control_plane.url, 60.0  # httpx's own is 5 s, and a busy machine may stand still for longer
    with httpx.Client(base_url=url, verify=trust, headers=headers, params=strict, timeout=patience) as client:
        yield client


@pytest.fixture
def job(api: httpx.Client) -> Iterator[Json]:
    """A SpotJob that is really there, with an entry in every field that may not change."""
    spec: Json = {"image": "a:1", "command": ["a"], "args": ["b"], "env": [{"name": "A", "value": "1"}]}
    created = api.post(JOBS, json=a_job(**spec))
    assert created.status_code == 201, created.text
    yield created.json()
    api.delete(f"{JOBS}/job")

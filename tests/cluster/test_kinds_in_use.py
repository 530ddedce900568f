"""What may be changed in an object that is there, and what people see of it through kubectl."""

from __future__ import annotations

import json

import httpx
import pytest

from spotjob.core.wire import GROUP
from spotjob.local.control_plane import ControlPlane
from tests.cluster.objects import CLASSES, JOBS, Json, a_class, patch, refused_fields, requests

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crds")]

CHANGES: dict[str, tuple[Json, str]] = {
    "another image": ({"image": "b:1"}, "spec.image"),
    "another command": ({"command": ["b"]}, "spec.command"),
    "no command any more": ({"command": None}, "spec.command"),
    "other arguments": ({"args": []}, "spec.args"),
    "another value": ({"env": [{"name": "A", "value": "2"}]}, "spec.env"),
    "no variables any more": ({"env": None}, "spec.env"),
    "a class where there was none": ({"className": "other"}, "spec.className"),
    "another architecture": ({"architecture": "arm64"}, "spec.architecture"),
    "instance types where there were none": ({"instanceTypes": ["c6i.large"]}, "spec.instanceTypes"),
    "requests where there were none": (requests(cpu=1), "spec.resources"),
}


@pytest.mark.parametrize(("spec", "field"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.usefixtures("job")
def test_what_runs_cannot_be_changed(api: httpx.Client, spec: Json, field: str) -> None:
    assert field in refused_fields(patch(api, f"{JOBS}/job", {"spec": spec}))


@pytest.mark.usefixtures("job")
def test_how_long_and_how_often_it_is_tried_can_be_changed(api: httpx.Client) -> None:
    later = {"suspend": True, "startAt": "2030-01-01T00:00:00Z", "backoffLimit": 5, "ttlSecondsAfterFinished": 60}
    assert patch(api, f"{JOBS}/job", {"spec": later}).status_code == 200


def test_finalizer_and_status_can_be_written_and_neither_writes_the_other(api: httpx.Client, job: Json) -> None:
    guard = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": job["metadata"]["resourceVersion"]},
        {"op": "add", "path": "/metadata/finalizers", "value": ["spotjob.dev/instance"]},
    ]
    json_patch = {"Content-Type": "application/json-patch+json"}
    guarded = api.patch(f"{JOBS}/job", content=json.dumps(guard), headers=json_patch)
    assert guarded.json()["metadata"]["finalizers"] == ["spotjob.dev/instance"]

    status = {"status": {"phase": "Requested", "reason": "Booting", "attempt": 1, "instanceID": "i-0a"}}
    written = patch(api, f"{JOBS}/job/status", status)
    assert written.json()["status"]["reason"] == "Booting"
    assert written.json()["metadata"]["generation"] == 1

    assert patch(api, f"{JOBS}/job", {"status": {"phase": "Running"}}).json()["status"]["phase"] == "Requested"
    freed = patch(api, f"{JOBS}/job", {"metadata": {"finalizers": None}})
    assert "finalizers" not in freed.json()["metadata"]


@pytest.mark.usefixtures("job")
def test_a_status_written_against_an_old_version_is_refused(api: httpx.Client) -> None:
    stale = {"metadata": {"resourceVersion": "1"}, "status": {"phase": "Running"}}
    assert patch(api, f"{JOBS}/job/status", stale).status_code == 409


@pytest.mark.usefixtures("job")
def test_a_word_that_is_no_phase_never_gets_into_a_status(api: httpx.Client) -> None:
    assert "status.phase" in refused_fields(patch(api, f"{JOBS}/job/status", {"status": {"phase": "Pending"}}))


RUNNING = {
    "phase": "Running",
    "reason": "ContainerRunning",
    "message": "attempt 2 runs",
    "attempt": 2,
    "instanceID": "i-0b",
    "attempts": [
        {"number": n, "instanceID": f"i-0{i}", "instanceType": t, "boundAt": "2026-01-01T00:00:00Z"}
        for n, i, t in ((1, "a", "c6i.large"), (2, "b", "m6i.large"))
    ],
}


@pytest.mark.usefixtures("job")
def test_kubectl_get_shows_where_a_job_stands_and_why(api: httpx.Client, control_plane: ControlPlane) -> None:
    patch(api, f"{JOBS}/job/status", {"status": RUNNING}).raise_for_status()
    header, row = (line.split() for line in control_plane.kubectl("get", "sj").stdout.splitlines())
    assert header == ["NAME", "PHASE", "REASON", "ATTEMPT", "INSTANCE", "START", "AGE"]
    assert row[:5] == ["job", "Running", "ContainerRunning", "2", "i-0b"]


@pytest.mark.usefixtures("job")
def test_the_wide_table_adds_the_last_attempts_instance_type_and_the_message(
    api: httpx.Client, control_plane: ControlPlane
) -> None:
    patch(api, f"{JOBS}/job/status", {"status": RUNNING}).raise_for_status()
    wide = control_plane.kubectl("get", "spot", "-o", "wide").stdout
    assert "m6i.large" in wide
    assert "c6i.large" not in wide
    assert "attempt 2 runs" in wide


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("status.phase=Running", True),
        ("status.phase=Scheduled", False),
        ("status.instanceID=i-0b", True),
        ("spec.image=a:1", True),
        ("spec.startAt=2030-01-01T00:00:00Z", False),
    ],
)
def test_jobs_can_be_selected_by_field(
    api: httpx.Client, control_plane: ControlPlane, selector: str, found: bool
) -> None:
    patch(api, f"{JOBS}/job/status", {"status": RUNNING}).raise_for_status()
    names = control_plane.kubectl("get", "sj", "--field-selector", selector, "-o", "name").stdout.split()
    assert names == (["spotjob.spotjob.dev/job"] if found else [])


def test_kubectl_delete_all_does_not_touch_jobs(control_plane: ControlPlane) -> None:
    kinds = control_plane.kubectl("api-resources", "--categories=all", "-o", "name").stdout.split()
    assert kinds
    assert not [kind for kind in kinds if kind.endswith(GROUP)]


def test_kubectl_explain_tells_what_every_field_of_a_job_is_for(control_plane: ControlPlane) -> None:
    text = control_plane.kubectl("explain", "spotjob.spec").stdout
    assert "The container image, as `docker pull` takes it." in text
    assert "<no description>" not in text


def test_the_region_of_a_class_cannot_change_but_its_limits_can(api: httpx.Client) -> None:
    api.post(CLASSES, json=a_class()).raise_for_status()
    moved = patch(api, f"{CLASSES}/gold", {"spec": {"region": "eu-west-1"}})
    assert refused_fields(moved) == {"spec.region"}
    assert patch(api, f"{CLASSES}/gold", {"spec": {"maxConcurrent": 5}}).status_code == 200
    api.delete(f"{CLASSES}/gold").raise_for_status()

"""JobSequence on the real API server: what it takes, refuses, keeps and shows."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from spotjob.core.wire import API_VERSION, GROUP, VERSION
from spotjob.local.control_plane import ControlPlane
from tests.cluster.objects import Json, patch, refused_fields, tried

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crds")]

SEQUENCES = f"/apis/{GROUP}/{VERSION}/namespaces/default/jobsequences"
ECS: Json = {
    "name": "extract",
    "type": "ecs_task",
    "parameters": {"cluster": "c", "task_definition": "d:1", "overrides": {"container_overrides": [{"name": "main"}]}},
}
SPOT: Json = {"name": "load", "type": "spot_job", "parameters": {"image": "a:1", "command": ["sh"]}}
NIGHTLY: Json = {"schedule": "0 2 * * *", "timeZone": "Europe/Berlin"}


def a_sequence(name: str = "nightly", **spec: object) -> Json:
    return {
        "apiVersion": API_VERSION,
        "kind": "JobSequence",
        "metadata": {"name": name},
        "spec": {"steps": [ECS, SPOT], **spec},
    }


@pytest.fixture
def sequence(api: httpx.Client) -> Iterator[Json]:
    """One that is really there, without a schedule."""
    created = api.post(SEQUENCES, json=a_sequence(onFailure=[ECS], region="us-east-1"))
    assert created.status_code == 201, created.text
    yield created.json()
    api.delete(f"{SEQUENCES}/nightly")


def test_a_sequence_is_kept_as_it_was_written_to_the_last_parameter(sequence: Json) -> None:
    assert sequence["spec"] == a_sequence(onFailure=[ECS], region="us-east-1")["spec"]


STEP: Json = {**ECS}
REFUSED: dict[str, tuple[Json, str]] = {
    "no steps": ({"steps": []}, "spec.steps"),
    "a step without a name": ({"steps": [{"type": "ecs_task"}]}, "spec.steps[0].name"),
    "a step with a long name": ({"steps": [{**STEP, "name": "n" * 129}]}, "spec.steps[0].name"),
    "a step of a third type": ({"steps": [{**STEP, "type": "pod"}]}, "spec.steps[0].type"),
    "parameters that are a list": ({"steps": [{**STEP, "parameters": []}]}, "spec.steps[0].parameters"),
    "a negative number of retries": ({"steps": [{**STEP, "retries": -1}]}, "spec.steps[0].retries"),
    "an exit code above 255": ({"steps": [{**STEP, "successExitCodes": [256]}]}, "spec.steps[0].successExitCodes[0]"),
    "a region that is none": ({"region": "Frankfurt"}, "spec.region"),
    "451 steps": ({"steps": [STEP] * 451}, "spec.steps"),
    "no deadline at all": ({"activeDeadlineSeconds": 0}, "spec.activeDeadlineSeconds"),
    "a schedule with seconds": ({"schedule": "0 0 2 * * *"}, "spec.schedule"),
    "a schedule with its zone inside": ({"schedule": "TZ=UTC 0 2 * * *"}, "spec.schedule"),
    "a zone that is a path": ({**NIGHTLY, "timeZone": "../etc/passwd"}, "spec.timeZone"),
    "a zone without a schedule": ({"timeZone": "Europe/Berlin"}, "spec.timeZone"),
    "a starting deadline without a schedule": ({"startingDeadlineSeconds": 60}, "spec.startingDeadlineSeconds"),
    "a policy without a schedule": ({"concurrencyPolicy": "Forbid"}, "spec.concurrencyPolicy"),
    "an unknown policy": ({**NIGHTLY, "concurrencyPolicy": "Queue"}, "spec.concurrencyPolicy"),
}


@pytest.mark.parametrize(("spec", "field"), REFUSED.values(), ids=list(REFUSED))
def test_a_bad_sequence_is_refused_by_the_name_of_its_field(api: httpx.Client, spec: Json, field: str) -> None:
    answer = tried(api, SEQUENCES, a_sequence(**spec))
    assert field in refused_fields(answer)


@pytest.mark.parametrize("field", ["when", "timeoutsSeconds"])
def test_an_unknown_field_of_a_step_is_refused_by_its_name(api: httpx.Client, field: str) -> None:
    answer = tried(api, SEQUENCES, a_sequence(steps=[{**STEP, field: "failure"}]))
    assert answer.status_code == 400
    assert f'unknown field "spec.steps[0].{field}"' in answer.json()["message"]


def test_with_a_schedule_the_name_leaves_room_for_the_minute(api: httpx.Client) -> None:
    assert tried(api, SEQUENCES, a_sequence("n" * 52, **NIGHTLY)).status_code == 201
    assert "52 characters" in tried(api, SEQUENCES, a_sequence("n" * 53, **NIGHTLY)).text
    assert tried(api, SEQUENCES, a_sequence("n" * 53)).status_code == 201


CHANGES: dict[str, tuple[Json, str]] = {
    "another parameter": ({"steps": [{**ECS, "parameters": {"cluster": "d"}}, SPOT]}, "spec.steps"),
    "a further step": ({"steps": [ECS, SPOT, SPOT]}, "spec.steps"),
    "no steps after a failure any more": ({"onFailure": None}, "spec.onFailure"),
    "another region": ({"region": "eu-west-1"}, "spec.region"),
    "a schedule": ({"schedule": "0 2 * * *"}, "spec.schedule"),
}


@pytest.mark.parametrize(("spec", "field"), CHANGES.values(), ids=list(CHANGES))
@pytest.mark.usefixtures("sequence")
def test_what_a_run_goes_by_cannot_be_changed(api: httpx.Client, spec: Json, field: str) -> None:
    assert field in refused_fields(patch(api, f"{SEQUENCES}/nightly", {"spec": spec}))


@pytest.mark.usefixtures("sequence")
def test_a_sequence_can_be_suspended_and_given_more_time(api: httpx.Client) -> None:
    later = {"suspend": True, "activeDeadlineSeconds": 7200, "ttlSecondsAfterFinished": 60}
    assert patch(api, f"{SEQUENCES}/nightly", {"spec": later}).status_code == 200


def test_with_a_schedule_the_time_and_the_steps_can_be_changed_but_it_stays_scheduled(api: httpx.Client) -> None:
    api.post(SEQUENCES, json=a_sequence("cron", **NIGHTLY)).raise_for_status()
    changed = {"spec": {"schedule": "30 3 * * 1-5", "timeZone": "UTC", "steps": [SPOT]}}
    assert patch(api, f"{SEQUENCES}/cron", changed).status_code == 200
    assert "spec.schedule" in refused_fields(patch(api, f"{SEQUENCES}/cron", {"spec": {"schedule": None}}))
    api.delete(f"{SEQUENCES}/cron").raise_for_status()


def status(count: int) -> Json:
    """The longest that a status gets: every step ended with several tasks and a long message."""
    done = {
        "state": "Failed",
        "tries": 3,
        "startedAt": "2026-01-01T00:00:00Z",
        "endedAt": "2026-01-01T00:10:00Z",
        "message": "m" * 1000,
        "tasks": ["arn:aws:ecs:us-east-1:123456789012:task/yourcluster/" + "f" * 32] * 10,
        "result": {"rows": 5, "nested": {"kept": [1, None]}},
    }
    steps = [{"name": f"step-{n}", **done} for n in range(count)]
    run = {"id": "uid", "startedAt": "2026-01-01T00:00:00Z", "steps": steps}
    return {"phase": "Running", "progress": f"1/{count}", "step": "step-1", "message": "waits", "run": run}


@pytest.mark.usefixtures("sequence")
def test_a_status_with_500_long_steps_fits_and_results_are_kept_whole(api: httpx.Client) -> None:
    written = patch(api, f"{SEQUENCES}/nightly/status", {"status": status(500)})
    assert written.status_code == 200, written.text[:500]
    assert written.json()["status"]["run"]["steps"][499]["result"] == {"rows": 5, "nested": {"kept": [1, None]}}


def test_400_steps_with_large_parameters_are_taken_and_compared_within_the_cost_of_rules(api: httpx.Client) -> None:
    overrides = [{"name": "main", "environment": [{"name": f"V{n}", "value": "x" * 40} for n in range(20)]}]
    step = {**ECS, "parameters": {**ECS["parameters"], "overrides": {"container_overrides": overrides}}}
    api.post(SEQUENCES, json=a_sequence("long", steps=[step] * 400)).raise_for_status()
    assert patch(api, f"{SEQUENCES}/long", {"spec": {"suspend": True}}).status_code == 200
    api.delete(f"{SEQUENCES}/long").raise_for_status()


@pytest.mark.usefixtures("sequence")
def test_kubectl_shows_how_far_a_sequence_is(api: httpx.Client, control_plane: ControlPlane) -> None:
    patch(api, f"{SEQUENCES}/nightly/status", {"status": status(3)}).raise_for_status()
    header, row = (line.split() for line in control_plane.kubectl("get", "js").stdout.splitlines())
    assert header == ["NAME", "STEPS", "STEP", "STATUS", "AGE"]
    assert row[:4] == ["nightly", "1/3", "step-1", "Running"]


def test_kubectl_explain_tells_what_every_field_of_a_sequence_is_for(control_plane: ControlPlane) -> None:
    assert "<no description>" not in control_plane.kubectl("explain", "jobsequence.spec").stdout

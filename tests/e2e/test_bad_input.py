"""Bad input is refused with a message that names the field, and nothing is launched."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.e2e.platform import Person


@pytest.fixture(autouse=True)
def nothing_is_launched(person: Person):
    before = person.calls("CreateFleet")
    yield
    assert person.calls("CreateFleet") == before


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ({"image": None}, "spec.image"),
        ({"image": ""}, "spec.image"),
        ({"backoffLimit": -1}, "spec.backoffLimit"),
        ({"activeDeadlineSeconds": -5}, "spec.activeDeadlineSeconds"),
        ({"resources": {"requests": {"cpu": -2}}}, "spec.resources.requests.cpu"),
        ({"resources": {"requests": {"memory": "-4Gi"}}}, "spec.resources.requests.memory"),
        ({"imaeg": "busybox"}, "spec.imaeg"),
        (
            {"env": [{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            "spec.env[0]",
        ),
        ({"env": [{"name": "SPOTJOB_NAME", "value": "x"}]}, "spec.env[0].name"),
        ({"startAt": "tomorrow"}, "spec.startAt"),
        ({"capacity": {"type": "on-demand", "fallback": {"afterInterruptions": 1}}}, "spec.capacity"),
        ({"activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 90}, "spec.attemptDeadlineSeconds"),
        ({"activeDeadlineSeconds": 60, "startupDeadlineSeconds": 90}, "spec.startupDeadlineSeconds"),
        ({"retryOn": {"exitCodes": [75]}}, "spec.backoffLimit"),
        (
            {"interruptionLimit": 1, "capacity": {"fallback": {"afterInterruptions": 2}}},
            "spec.capacity.fallback.afterInterruptions",
        ),
    ],
)
def test_the_api_server_refuses_it_and_names_the_field(person: Person, spec: dict[str, Any], named: str):
    manifest = person.manifest("bad")
    manifest["spec"] = {name: value for name, value in {**manifest["spec"], **spec}.items() if value is not None}
    refused = person.kubectl("create", "-f", "-", text=json.dumps(manifest), check=False)
    assert refused.returncode != 0
    assert named in refused.stderr


def test_a_name_of_300_characters_is_refused(person: Person):
    refused = person.kubectl("create", "-f", "-", text=json.dumps(person.manifest("n" * 300)), check=False)
    assert refused.returncode != 0
    assert "metadata.name" in refused.stderr


def test_an_unknown_class_is_a_condition_of_the_job(person: Person):
    person.apply(person.manifest("classless", className="gold"))
    status = person.reason("classless", "ClassNotReady")
    assert "gold" in status["message"]
    assert [c["type"] for c in status["conditions"] if c["status"] == "False"] == ["CapacityAvailable"]


# ---- the API ------------------------------------------------------------------------------------------------------


@pytest.fixture
def people_token(person: Person) -> str:
    """A bearer token of somebody who may edit SpotJobs in namespace default."""
    person.kubectl("create", "serviceaccount", "ann", check=False)
    person.kubectl("create", "rolebinding", "ann", "--clusterrole=edit", "--serviceaccount=default:ann", check=False)
    asked = ("auth", "can-i", "create", "spotjobs.spotjob.dev", "--as=system:serviceaccount:default:ann")
    person.until(
        lambda: person.kubectl(*asked, check=False).returncode == 0, 30, "the API server to know the new binding"
    )
    token: str = person.kubectl("create", "token", "ann").stdout.strip()
    return token


def post(person: Person, path: str, content: bytes, token: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    answer = httpx.post(f"{person.layout.api_url}{path}", content=content, headers=headers, timeout=30)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == answer.status_code
    return answer


def test_a_claim_with_a_wrong_token_is_unauthorized(person: Person):
    claim = {"uid": "u", "attempt": 1, "nonce": "0123456789abcdef"}
    assert post(person, "/v1/instances/i-1/claim", json.dumps(claim).encode(), "nonsense").status_code == 401


def test_a_body_of_two_megabytes_is_too_large(person: Person, people_token: str):
    body = json.dumps({"name": "big", "spec": {"image": "x" * 2 * 1024 * 1024}}).encode()
    assert post(person, "/v1/namespaces/default/jobs", body, people_token).status_code == 413


def test_malformed_json_is_a_bad_request(person: Person, people_token: str):
    assert post(person, "/v1/namespaces/default/jobs", b'{"name": "x', people_token).status_code == 400


def test_the_api_passes_the_api_servers_own_words_on(person: Person, people_token: str):
    body = json.dumps({"name": "x", "spec": {"image": "busybox", "imaeg": "y"}}).encode()
    answer = post(person, "/v1/namespaces/default/jobs", body, people_token)
    assert answer.status_code in (400, 422)
    assert "spec.imaeg" in answer.json()["detail"]


def test_the_api_names_the_limit_that_can_never_act_and_says_what_is_allowed(person: Person, people_token: str):
    spec = {"image": "busybox", "activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 90}
    answer = post(person, "/v1/namespaces/default/jobs", json.dumps({"name": "x", "spec": spec}).encode(), people_token)
    assert answer.status_code == 422
    detail = answer.json()["detail"]
    print(detail)
    assert "spec.attemptDeadlineSeconds: Invalid value: must not be more than activeDeadlineSeconds" in detail


def test_somebody_without_rights_is_forbidden(person: Person):
    person.kubectl("create", "serviceaccount", "bob", check=False)
    token = person.kubectl("create", "token", "bob").stdout.strip()
    body = json.dumps({"name": "x", "spec": {"image": "busybox"}}).encode()
    assert post(person, "/v1/namespaces/default/jobs", body, token).status_code == 403

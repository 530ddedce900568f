"""What the real API server takes and refuses."""

from __future__ import annotations

import httpx
import pytest

from spotjob.core.resources import SpotJob, SpotJobClass
from tests.cluster.objects import CLASSES, JOBS, Json, a_class, a_job, patch, refused_fields, requests, tried

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("crds")]


def secret(name: str = "s", key: str = "k") -> Json:
    return {"secretKeyRef": {"name": name, "key": key}}


REFUSED_JOBS: dict[str, tuple[Json, str]] = {
    "no image": ({"image": None}, "spec.image"),
    "an empty image": ({"image": ""}, "spec.image"),
    "an image with a space": ({"image": "a b"}, "spec.image"),
    "an image that is a number": ({"image": 5}, "spec.image"),
    "a command that is no list": ({"command": "echo hi"}, "spec.command"),
    "a NUL in an argument": ({"args": ["a\0b"]}, "spec.args[0]"),
    "a negative backoffLimit": ({"backoffLimit": -1}, "spec.backoffLimit"),
    "a backoffLimit in quotes": ({"backoffLimit": "3"}, "spec.backoffLimit"),
    "a negative deadline": ({"activeDeadlineSeconds": -5}, "spec.activeDeadlineSeconds"),
    "a negative capacity timeout": ({"capacityTimeoutSeconds": -1}, "spec.capacityTimeoutSeconds"),
    "a negative interruption limit": ({"interruptionLimit": -1}, "spec.interruptionLimit"),
    "a negative time to live": ({"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished"),
    "no time to start": ({"startupDeadlineSeconds": 0}, "spec.startupDeadlineSeconds"),
    "a variable with two values": ({"env": [{"name": "A", "value": "1", "valueFrom": secret()}]}, "spec.env[0]"),
    "a variable from nowhere": ({"env": [{"name": "A", "valueFrom": {}}]}, "spec.env[0].valueFrom"),
    "a variable from two places": (
        {"env": [{"name": "A", "valueFrom": secret() | {"configMapKeyRef": {"name": "c", "key": "k"}}}]},
        "spec.env[0].valueFrom",
    ),
    "a secret's name that is a path": (
        {"env": [{"name": "A", "valueFrom": secret(name="../x")}]},
        "spec.env[0].valueFrom.secretKeyRef.name",
    ),
    "a variable twice": ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "spec.env[1]"),
    "a reserved variable": ({"env": [{"name": "SPOTJOB_X", "value": "1"}]}, "spec.env[0].name"),
    "an equals sign in a variable's name": ({"env": [{"name": "A=B", "value": "1"}]}, "spec.env[0].name"),
    "a value that is too long": ({"env": [{"name": "A", "value": "x" * 32_769}]}, "spec.env[0].value"),
    "a NUL in a value": ({"env": [{"name": "A", "value": "a\0b"}]}, "spec.env[0].value"),
    "a startAt that is no time": ({"startAt": "tomorrow"}, "spec.startAt"),
    "a startAt without a zone": ({"startAt": "2026-01-01T00:00:00"}, "spec.startAt"),
    "a startAt in the year 0": ({"startAt": "0000-01-01T00:00:00Z"}, "spec.startAt"),
    "a startAt in small letters": ({"startAt": "2026-01-01t00:00:00z"}, "spec.startAt"),
    "a className that no object can have": ({"className": "X Y"}, "spec.className"),
    "negative cpu": (requests(cpu="-1"), "spec.resources.requests.cpu"),
    "no cpu": (requests(cpu=0), "spec.resources.requests.cpu"),
    "no memory": (requests(memory="0.0Gi"), "spec.resources.requests.memory"),
    "memory in words": (requests(memory="much"), "spec.resources.requests.memory"),
    "an amount that no machine can compute": (requests(memory="1e999999999"), "spec.resources.requests.memory"),
    "no GPU": (requests(**{"nvidia.com/gpu": 0}), "spec.resources.requests.nvidia.com/gpu"),
    "an unknown architecture": ({"architecture": "riscv"}, "spec.architecture"),
    "a fallback without spot": (
        {"capacity": {"type": "on-demand", "fallback": {"afterInterruptions": 1}}},
        "spec.capacity.fallback",
    ),
    "a fallback that never comes": ({"capacity": {"fallback": {}}}, "spec.capacity.fallback"),
    "a signal that cannot be caught or sent": ({"interruption": {"signal": "SIGSTOP"}}, "spec.interruption.signal"),
    "a retry of success": ({"retryOn": {"exitCodes": [0]}}, "spec.retryOn.exitCodes[0]"),
    "an exit code above 255": ({"retryOn": {"never": [256]}}, "spec.retryOn.never[0]"),
}


@pytest.mark.parametrize(("spec", "field"), REFUSED_JOBS.values(), ids=list(REFUSED_JOBS))
def test_a_bad_job_is_refused_by_the_name_of_its_field(api: httpx.Client, spec: Json, field: str) -> None:
    answer = tried(api, JOBS, a_job(**spec))
    assert field in refused_fields(answer)
    assert field in answer.json()["message"]


def waiting(limit: int, fallback: int) -> Json:
    return {"capacityTimeoutSeconds": limit, "capacity": {"fallback": {"afterWaitingSeconds": fallback}}}


def interrupted(limit: int, fallback: int) -> Json:
    return {"interruptionLimit": limit, "capacity": {"fallback": {"afterInterruptions": fallback}}}


RETRY_75: Json = {"retryOn": {"exitCodes": [75]}}
BOUNDS: dict[str, tuple[Json, str, str, Json]] = {
    "an attempt longer than its job": (
        {"activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 61},
        "spec.attemptDeadlineSeconds",
        "must not be more than activeDeadlineSeconds",
        {"activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 60},
    ),
    "a start that takes longer than its job": (
        {"activeDeadlineSeconds": 300, "startupDeadlineSeconds": 301},
        "spec.startupDeadlineSeconds",
        "must not be more than activeDeadlineSeconds",
        {"activeDeadlineSeconds": 300, "startupDeadlineSeconds": 300},
    ),
    "a start that takes longer than its job and than the default": (
        {"activeDeadlineSeconds": 300, "startupDeadlineSeconds": 601},
        "spec.startupDeadlineSeconds",
        "only the default (600) may be",
        {"activeDeadlineSeconds": 300},
    ),
    "a fallback after the last interruption": (
        interrupted(limit=2, fallback=3),
        "spec.capacity.fallback.afterInterruptions",
        "must not be more than interruptionLimit",
        interrupted(limit=2, fallback=2),
    ),
    "a fallback after interruptions where none is allowed": (
        interrupted(limit=0, fallback=1),
        "spec.capacity.fallback.afterInterruptions",
        "must not be more than interruptionLimit",
        {"interruptionLimit": 0, "capacity": {"fallback": {"afterWaitingSeconds": 60}}},
    ),
    "a fallback after the last wait": (
        waiting(limit=60, fallback=60),
        "spec.capacity.fallback.afterWaitingSeconds",
        "must be less than capacityTimeoutSeconds",
        waiting(limit=60, fallback=59),
    ),
    "an exit code that is and is not retried": (
        {"backoffLimit": 1, "retryOn": {"exitCodes": [1, 75], "never": [2, 75]}},
        "spec.retryOn.never",
        "must not hold a code that exitCodes holds too",
        {"backoffLimit": 1, "retryOn": {"exitCodes": [1, 75], "never": [2]}},
    ),
    "exit codes to retry no times": (
        {**RETRY_75, "backoffLimit": 0},
        "spec.backoffLimit",
        "must be at least 1 when retryOn.exitCodes is set",
        {**RETRY_75, "backoffLimit": 1},
    ),
    "exit codes to retry and not how often": (
        RETRY_75,
        "spec.backoffLimit",
        "must be at least 1 when retryOn.exitCodes is set",
        {"retryOn": {"never": [75]}},
    ),
    "a success of a killed container": (
        {"interruption": {"signal": "SIGKILL", "exitZero": "Succeeded"}},
        "spec.interruption.exitZero",
        "must be Interrupted with signal SIGKILL",
        {"interruption": {"signal": "SIGKILL"}},
    ),
    "a signal after the reclaim": (
        {"interruption": {"secondsBefore": 0}},
        "spec.interruption.secondsBefore",
        "should be greater than or equal to 1",
        {"interruption": {"secondsBefore": 1}},
    ),
    "a signal before the notice": (
        {"interruption": {"secondsBefore": 111}},
        "spec.interruption.secondsBefore",
        "should be less than or equal to 110",
        {"interruption": {"secondsBefore": 110}},
    ),
    "a kill before the stop signal": (
        {"terminationGracePeriodSeconds": -1},
        "spec.terminationGracePeriodSeconds",
        "should be greater than or equal to 0",
        {"terminationGracePeriodSeconds": 0},
    ),
    "a grace of more than an hour": (
        {"terminationGracePeriodSeconds": 3601},
        "spec.terminationGracePeriodSeconds",
        "should be less than or equal to 3600",
        {"terminationGracePeriodSeconds": 3600},
    ),
}


@pytest.mark.parametrize(("spec", "field", "sentence", "neighbour"), BOUNDS.values(), ids=list(BOUNDS))
def test_an_impossible_limit_is_refused_by_name_with_what_is_allowed_and_its_neighbour_is_taken(
    api: httpx.Client, spec: Json, field: str, sentence: str, neighbour: Json
) -> None:
    refused = tried(api, JOBS, a_job(**spec))
    assert refused_fields(refused) == {field}
    [line] = [c["message"] for c in refused.json()["details"]["causes"]]
    print(f"{field}: {line}")
    assert sentence in line
    assert tried(api, JOBS, a_job(**neighbour)).status_code == 201


def test_a_running_jobs_deadline_cannot_be_changed_into_an_impossible_one(api: httpx.Client, job: Json) -> None:
    deadlines = {"activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 61}
    refused = patch(api, f"{JOBS}/job", {"spec": deadlines})
    assert refused_fields(refused) == {"spec.attemptDeadlineSeconds"}
    assert patch(api, f"{JOBS}/job", {"spec": {**deadlines, "activeDeadlineSeconds": 61}}).status_code == 200


def test_an_unknown_field_is_refused_by_its_name(api: httpx.Client) -> None:
    answer = tried(api, JOBS, a_job(imagee="a:1"))
    assert answer.status_code == 400
    assert 'unknown field "spec.imagee"' in answer.json()["message"]


def test_a_name_of_300_characters_is_refused(api: httpx.Client) -> None:
    assert "metadata.name" in refused_fields(tried(api, JOBS, a_job(name="a" * 300)))


def test_a_name_is_at_most_63_characters_long(api: httpx.Client) -> None:
    assert "metadata.name" in refused_fields(tried(api, JOBS, a_job(name="a" * 64)))
    assert tried(api, JOBS, a_job(name="a" * 63)).status_code == 201


ACCEPTED_JOBS: dict[str, Json] = {
    "only an image": {},
    "empty arguments": {"args": []},
    "a variable without a value": {"env": [{"name": "A"}]},
    "a variable with a name that only containers like": {"env": [{"name": "a.b-c/d", "value": "1"}]},
    "quotes, newlines and other scripts": {"env": [{"name": "A", "value": "'\"$(id)`id`\n\té漢\r\n"}]},
    "a value from a secret": {"env": [{"name": "A", "valueFrom": secret("my.secret", "tls.crt")}]},
    "a start with a zone": {"startAt": "2026-01-01T00:00:00+05:30"},
    "a start in nanoseconds": {"startAt": "2026-01-01T00:00:00.123456789Z"},
    "the last start": {"startAt": "8999-12-31T23:59:59+00:00"},
    "whole and broken amounts": requests(cpu=2, memory="0.5Gi", **{"ephemeral-storage": "40Gi", "nvidia.com/gpu": 1}),
    "thousandths": requests(cpu="1500m"),
    "a fallback": {"capacity": {"fallback": {"afterInterruptions": 2, "afterWaitingSeconds": 600}}},
    "a longer wait for capacity than for the work": {"capacityTimeoutSeconds": 3600, "activeDeadlineSeconds": 60},
    "a longer wait for the fallback than for the work": {
        "activeDeadlineSeconds": 60,
        "capacity": {"fallback": {"afterWaitingSeconds": 3600}},
    },
    "a longer time to stop than to work": {"activeDeadlineSeconds": 1, "terminationGracePeriodSeconds": 3600},
    "an exit code that is never retried": {"backoffLimit": 1, "retryOn": {"never": [1]}},
    "as many exit codes as there may be": {
        "backoffLimit": 1,
        "retryOn": {"exitCodes": list(range(1, 65)), "never": list(range(65, 129))},
    },
    "all of the rest": {
        "className": "gold",
        "architecture": "arm64",
        "instanceTypes": ["c7g*.large"],
        "backoffLimit": 3,
        "interruptionLimit": 0,
        "capacityTimeoutSeconds": 60,
        "activeDeadlineSeconds": 3600,
        "attemptDeadlineSeconds": 600,
        "startupDeadlineSeconds": 30,
        "interruption": {"signal": "SIGINT", "secondsBefore": 90, "exitZero": "Succeeded"},
        "retryOn": {"exitCodes": [75], "never": [1]},
        "imagePullSecrets": [{"name": "registry"}],
        "suspend": True,
        "ttlSecondsAfterFinished": 0,
    },
}


@pytest.mark.parametrize("spec", ACCEPTED_JOBS.values(), ids=list(ACCEPTED_JOBS))
def test_a_good_job_is_taken_and_our_model_reads_it(api: httpx.Client, spec: Json) -> None:
    answer = tried(api, JOBS, a_job(**spec))
    assert answer.status_code == 201, answer.text
    read = SpotJob.model_validate(answer.json()).spec.wire()
    assert read["image"] == "a:1"
    assert {name for name, value in spec.items() if value != []} <= read.keys()


def test_the_server_fills_in_the_models_own_defaults(api: httpx.Client) -> None:
    """So an object means the same to the operator as to whoever reads it with kubectl."""
    filled = tried(api, JOBS, a_job()).json()
    assert SpotJob.model_validate(filled).spec == SpotJob.model_validate(a_job()).spec
    assert filled["spec"]["startupDeadlineSeconds"] == 600
    assert filled["spec"]["interruption"] == {"signal": "SIGTERM", "secondsBefore": 15, "exitZero": "Interrupted"}
    assert "env" not in filled["spec"]


REFUSED_CLASSES: dict[str, tuple[Json, str]] = {
    "no region": ({"region": None}, "spec.region"),
    "a zone for a region": ({"region": "us-east-1a"}, "spec.region"),
    "subnets by nothing": ({"subnets": {}}, "spec.subnets"),
    "subnets by ids and by tags": ({"subnets": {"ids": ["subnet-0a"], "tags": {"a": "b"}}}, "spec.subnets"),
    "a subnet that is none": ({"subnets": {"ids": ["vpc-0a"]}}, "spec.subnets.ids[0]"),
    "no security group": ({"securityGroups": []}, "spec.securityGroups"),
    "an image that is neither id nor parameter": ({"amiAlias": "latest"}, "spec.amiAlias"),
    "an address without a scheme": ({"apiURL": "spotjob.example.com"}, "spec.apiURL"),
    "no instances at all": ({"maxConcurrent": 0}, "spec.maxConcurrent"),
    "an instance for ever": ({"maxInstanceSeconds": 9_999_999}, "spec.maxInstanceSeconds"),
    "a volume of 1 GiB": ({"volume": {"sizeGiB": 1}}, "spec.volume.sizeGiB"),
}


@pytest.mark.parametrize(("spec", "field"), REFUSED_CLASSES.values(), ids=list(REFUSED_CLASSES))
def test_a_bad_class_is_refused_by_the_name_of_its_field(api: httpx.Client, spec: Json, field: str) -> None:
    assert field in refused_fields(tried(api, CLASSES, a_class(**spec)))


def test_a_good_class_is_taken_and_filled_in_as_our_model_would(api: httpx.Client) -> None:
    filled = tried(api, CLASSES, a_class())
    assert filled.status_code == 201, filled.text
    assert SpotJobClass.model_validate(filled.json()).spec == SpotJobClass.model_validate(a_class()).spec

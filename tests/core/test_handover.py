from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest

from spotjob.core.contract import CONTAINER_ENV, ClaimedJob, RegistryAuth
from spotjob.core.handover import (
    Contents,
    Source,
    Unready,
    hand_over,
    limits,
    power_off_at,
    registry_auth,
    sources,
    start_by,
)
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.spec import ResourceRequests
from spotjob.core.tokens import verify
from tests.builders import NOW, a_job, booting

KEYS = {"k1": b"k" * 32}
PASSWORD = Source("Secret", "database")
SETTINGS = Source("ConfigMap", "settings")
LOGINS = Source("Secret", "registry")


def a_class(**spec: Any) -> SpotJobClass:
    needed = {"region": "us-east-1", "subnets": {"ids": ["subnet-1"]}, "securityGroups": ["sg-1"]}
    return SpotJobClass.model_validate(
        {"metadata": {"name": "default"}, "spec": {**needed, "apiURL": "http://api.example:8080", **spec}}
    )


def handed(job: SpotJob, contents: Contents | None = None, api_url: str = "", **class_spec: Any) -> ClaimedJob:
    assert job.running is not None
    return hand_over(job, job.running, a_class(**class_spec), contents or {}, KEYS, api_url)


def from_secret(name: str, key: str, variable: str = "VALUE") -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": key}}}


def logins(**auths: Any) -> Contents:
    return {LOGINS: {".dockerconfigjson": json.dumps({"auths": auths["auths"]}).encode()}}


def with_pull_secret() -> SpotJob:
    return a_job(imagePullSecrets=[{"name": "registry"}])


# ---- environment ----


@pytest.mark.parametrize("value", ['it\'s "quoted"', "a\nb\r\n", "$(id)", "`id`", "é漢\U0001f600", "x" * 8192, ""])
def test_values_reach_the_container_as_they_are(value: str) -> None:
    assert handed(booting(env=[{"name": "V", "value": value}])).env["V"] == value


def test_a_variable_without_a_value_is_empty() -> None:
    assert handed(booting(env=[{"name": "V"}])).env["V"] == ""


def test_secrets_and_config_maps_are_read_at_the_claim() -> None:
    job = booting(
        env=[
            from_secret("database", "password", "PASSWORD"),
            {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        ]
    )
    assert sources(job) == {PASSWORD, SETTINGS}
    env = handed(job, {PASSWORD: {"password": b"hunter2"}, SETTINGS: {"colour": b"red"}}).env
    assert (env["PASSWORD"], env["COLOUR"]) == ("hunter2", "red")


def test_the_container_finds_everything_that_it_was_promised_but_the_file_that_only_the_agent_knows() -> None:
    env = handed(booting()).env
    assert set(env) == set(CONTAINER_ENV) - {"SPOTJOB_INTERRUPTION_FILE"}
    assert env["SPOTJOB_CALLBACK_URL"] == "http://api.example:8080/v1/callback"
    assert (env["SPOTJOB_NAMESPACE"], env["SPOTJOB_NAME"], env["SPOTJOB_ATTEMPT"]) == ("batch", "night", "1")


def test_a_callback_address_of_its_own_wins_over_the_classes() -> None:
    env = handed(booting(), api_url="https://jobs.example/").env
    assert env["SPOTJOB_CALLBACK_URL"] == "https://jobs.example/v1/callback"


def test_no_variable_of_a_job_can_take_the_place_of_ours() -> None:
    job = booting(env=[{"name": "SPOTJOB_CALLBACK_URL", "value": "http://elsewhere"}])
    assert "elsewhere" not in handed(job).env["SPOTJOB_CALLBACK_URL"]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        ({}, "Secret database does not exist"),
        ({PASSWORD: {"user": b"x"}}, "Secret database has no key password"),
        ({PASSWORD: {"password": b"\xff\xfe"}}, "key password of Secret database is not UTF-8"),
    ],
)
def test_a_missing_or_unreadable_secret_is_named(contents: Contents, words: str) -> None:
    with pytest.raises(Unready, match=words):
        handed(booting(env=[from_secret("database", "password")]), contents)


# ---- tokens and masks ----


def test_agent_and_container_get_different_tokens_for_the_same_attempt() -> None:
    job = handed(booting("i-1"))
    agent = verify(KEYS, job.agent_token, "agent")
    container = verify(KEYS, job.env["SPOTJOB_CALLBACK_TOKEN"], "container")
    assert (agent.uid, agent.attempt, agent.instance) == ("uid-of-night", 1, "i-1")
    assert agent.model_copy(update={"kind": "container"}) == container


def test_secret_values_are_masked_whole_and_by_line_and_plain_values_are_not() -> None:
    job = booting(env=[from_secret("database", "key"), {"name": "PLAIN", "value": "visible"}])
    mask = handed(job, {PASSWORD: {"key": b"first\n  second \n \n"}}).mask
    assert {"first\n  second \n \n", "first", "second"} <= set(mask)
    assert "visible" not in mask
    assert "" not in mask


def test_both_tokens_are_masked() -> None:
    job = handed(booting())
    assert {job.agent_token, job.env["SPOTJOB_CALLBACK_TOKEN"]} <= set(job.mask)


# ---- registries ----


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "docker.io"),
        ("registry.example:5000", "registry.example:5000"),
        ("https://registry.example/v2/team", "registry.example"),
    ],
)
def test_a_login_is_found_by_registry_host(address: str, host: str) -> None:
    encoded = base64.b64encode(b"robot:pass:word").decode()
    found = registry_auth(with_pull_secret(), logins(auths={address: {"auth": encoded}}))
    assert found == {host: RegistryAuth(username="robot", password="pass:word")}


def test_a_login_may_be_given_as_user_name_and_password() -> None:
    auths = {"r.example": {"username": "robot", "password": "p"}}
    assert registry_auth(with_pull_secret(), logins(auths=auths)) == {
        "r.example": RegistryAuth(username="robot", password="p")
    }


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"auths": []}', b'{"auths": {"r": {}}}', b'{"auths": {"r": {"auth": "hunter2!"}}}', b"\xff"],
)
def test_a_pull_secret_that_is_none_is_named_without_its_content(document: bytes) -> None:
    with pytest.raises(Unready, match="Secret registry") as caught:
        registry_auth(with_pull_secret(), {LOGINS: {".dockerconfigjson": document}})
    assert "hunter2" not in str(caught.value)
    assert caught.value.__suppress_context__


# ---- limits and time ----


def test_limits_are_in_the_engines_units_and_rounded_up() -> None:
    found = limits(ResourceRequests.model_validate({"cpu": "500m", "memory": "1.5Gi", "nvidia.com/gpu": 2}))
    assert (found.nano_cpus, found.memory_bytes, found.gpus) == (500_000_000, 1_610_612_736, 2)
    assert limits(ResourceRequests(memory="1500m")).memory_bytes == 2


def test_a_job_that_asks_for_nothing_has_no_limits() -> None:
    found = handed(booting()).limits
    assert (found.nano_cpus, found.memory_bytes, found.gpus) == (None, None, None)


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 3600),
        ({"attemptDeadlineSeconds": 60, "startupDeadlineSeconds": 100}, 160 + 160),
        ({"attemptDeadlineSeconds": 1200}, 600 + 1200 + 300),
        ({"activeDeadlineSeconds": 30}, 30 + 60),
        ({"activeDeadlineSeconds": 3000}, 3000 + 300),
        ({"attemptDeadlineSeconds": 100_000, "activeDeadlineSeconds": 100_000}, 3600),
    ],
)
def test_the_instance_powers_itself_off_at_the_first_of_its_limits(spec: dict[str, int], seconds: float) -> None:
    job = booting(**spec)
    assert job.running is not None
    assert power_off_at(job, job.running, a_class(maxInstanceSeconds=3600)) == NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("spec", "seconds"),
    [
        ({}, 600 + 300),
        ({"startupDeadlineSeconds": 30}, 30 + 60),
        ({"startupDeadlineSeconds": 100}, 100 + 100),
        ({"startupDeadlineSeconds": 30, "activeDeadlineSeconds": 30}, 30 + 60),
        ({"startupDeadlineSeconds": 86_400}, 3600),
    ],
)
def test_an_instance_whose_container_does_not_begin_powers_itself_off_after_the_operators_own_deadline(
    spec: dict[str, int], seconds: float
) -> None:
    job = booting(**spec)
    assert job.running is not None
    assert start_by(job, job.running, a_class(maxInstanceSeconds=3600)) == NOW + timedelta(seconds=seconds)

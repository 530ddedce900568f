from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spotjob.core.mirror import closed, content, item, open_shards
from spotjob.core.resources import SpotJob

NOW = datetime(2026, 11, 22, 10, 0, 0, 123456, tzinfo=UTC)
TTL = timedelta(days=90)
IN_90_DAYS = 1803117600
"""2027-02-20T10:00:00Z."""


def a_job(env: list[dict[str, Any]] | None = None, start_at: str | None = None, **status: Any) -> SpotJob:
    metadata = {
        "name": "night",
        "namespace": "batch",
        "uid": "uid-1",
        "resourceVersion": "42",
        "creationTimestamp": "2026-11-22T09:00:00Z",
    }
    spec = {"image": "busybox:1", "env": env or [], **({"startAt": start_at} if start_at else {})}
    return SpotJob.model_validate({"metadata": metadata, "spec": spec, "status": status})


def an_attempt(number: int = 1, instance_id: str = "i-1", **more: Any) -> dict[str, Any]:
    return {"number": number, "instanceID": instance_id, "boundAt": "2026-11-22T09:30:00Z", **more}


def test_a_new_job_is_an_item_under_the_names_of_the_first_scheduler() -> None:
    job = a_job(env=[{"name": "A", "value": "1 = 2"}, {"name": "EMPTY"}], phase="Scheduled", reason="Suspended")
    assert item(job, NOW, TTL) == {
        "id": "uid-1",
        "namespace": "batch",
        "name": "night",
        "imageName": "busybox:1",
        "dateToRun": "2026-11-22T09:00:00.000Z",
        "environmentVariablesList": ["A=1 = 2", "EMPTY="],
        "jobStatus": "Scheduled",
        "reason": "Suspended",
        "statusShard": "Scheduled#2",
        "version": 42,
        "updatedAt": "2026-11-22T10:00:00.123Z",
    }


def test_a_running_job_names_its_newest_attempt() -> None:
    attempts = [an_attempt(1, "i-1"), an_attempt(2, "i-2", spotInstanceRequestID="sir-2")]
    made = content(a_job(phase="Running", reason="ContainerRunning", attempts=attempts))
    assert made["attempt"] == 2
    assert made["instanceId"] == "i-2"
    assert made["spotInstanceRequestId"] == "sir-2"
    assert made["statusShard"] == "Running#2"


def test_a_terminated_job_keeps_its_instance_leaves_the_index_and_expires() -> None:
    job = a_job(
        phase="TerminatedNOK",
        reason="ContainerFailed",
        exitCode=7,
        completionTime="2026-11-22T10:00:00Z",
        attempts=[an_attempt(callback={"ok": False, "message": "no input"})],
    )
    made = item(job, NOW + timedelta(days=1), TTL)
    assert made["exitCode"] == 7
    assert made["instanceId"] == "i-1"
    assert made["callback"] == "nok"
    assert made["expiresAt"] == IN_90_DAYS
    assert "statusShard" not in made


def test_exit_code_zero_is_not_left_out() -> None:
    assert content(a_job(phase="FinishedOK", exitCode=0))["exitCode"] == 0


def test_a_job_that_is_finished_but_not_terminated_expires_and_stays_in_the_index() -> None:
    made = item(a_job(phase="FinishedOK", completionTime="2026-11-22T10:00:00Z"), NOW, TTL)
    assert made["statusShard"] == "FinishedOK#2"
    assert made["expiresAt"] == IN_90_DAYS


def test_the_start_time_wins_over_the_creation_time_and_is_written_in_utc() -> None:
    assert content(a_job(start_at="2026-12-24T20:00:00+02:00"))["dateToRun"] == "2026-12-24T18:00:00.000Z"


def test_content_changes_only_with_the_job() -> None:
    job = a_job(phase="Running")
    another_version = job.model_copy(update={"metadata": job.metadata.model_copy(update={"resource_version": "43"})})
    assert content(job) == content(another_version)
    assert content(job) != content(a_job(phase="FinishedOK"))


def test_values_from_secrets_and_config_maps_are_named_not_shown() -> None:
    env = [
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
        {"name": "MODE", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "mode"}}},
    ]
    assert content(a_job(env=env))["environmentVariablesList"] == [
        "PASSWORD=<secret db, key password>",
        "MODE=<configMap settings, key mode>",
    ]


def test_an_environment_too_large_for_dynamodb_says_how_much_is_left_out() -> None:
    env = [{"name": f"N{n}", "value": "é" * 10_000} for n in range(20)]
    listed = content(a_job(env=env))["environmentVariablesList"]
    assert len(listed) == 16
    assert listed[-1] == "<5 more left out: an item holds 400 KB>"
    assert sum(len(each.encode()) for each in listed) < 300 * 1024


def test_every_open_phase_has_its_shards() -> None:
    shards = open_shards()
    assert len(shards) == len(set(shards)) == 40
    for phase in ("Scheduled", "Requested", "Running", "FinishedOK", "FinishedNOK"):
        assert content(a_job(phase=phase))["statusShard"] in shards
    assert not [shard for shard in shards if shard.startswith("Terminated")]


@pytest.mark.parametrize(
    ("phase", "reason", "closed_as", "closed_reason"),
    [
        ("Scheduled", "WaitingForStartTime", "TerminatedNOK", "Cancelled"),
        ("Running", "ContainerRunning", "TerminatedNOK", "Cancelled"),
        ("FinishedOK", "ContainerSucceeded", "TerminatedOK", "ContainerSucceeded"),
        ("FinishedNOK", "ContainerFailed", "TerminatedNOK", "ContainerFailed"),
    ],
)
def test_an_item_whose_object_is_gone_is_closed_with_its_verdict(
    phase: str, reason: str, closed_as: str, closed_reason: str
) -> None:
    before = item(a_job(phase=phase, reason=reason), NOW - timedelta(hours=1), TTL)
    after = closed(before, NOW, TTL)
    assert (after["jobStatus"], after["reason"]) == (closed_as, closed_reason)
    assert after["version"] == 43
    assert after["updatedAt"] == "2026-11-22T10:00:00.123Z"
    assert after["expiresAt"] == IN_90_DAYS
    assert "statusShard" not in after
    assert after["imageName"] == "busybox:1"

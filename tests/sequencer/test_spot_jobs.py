"""Steps that are SpotJobs, against the real API server. No operator runs them here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from spotjob.local.control_plane import ControlPlane
from tests.sequencer.account import AT_ONCE, Account, a_step, ended, said

pytestmark = pytest.mark.cluster


@pytest.fixture
def namespace(control_plane: ControlPlane, crds: None) -> str:
    return control_plane.make_namespace(f"sequencer-{uuid4().hex[:8]}")


def a_job_step(name: str = "train", **spec: Any) -> str:
    return f"- {name}: {json.dumps({'type': 'spot_job', 'parameters': {'image': 'busybox:1', **spec}})}\n"


def jobs(control_plane: ControlPlane, namespace: str) -> list[Any]:
    found: list[Any] = json.loads(control_plane.kubectl("get", "sj", "-n", namespace, "-o", "json").stdout)["items"]
    return found


def finish(control_plane: ControlPlane, namespace: str, phase: str, message: str = "") -> None:
    """What the operator would write."""
    (job,) = (job for job in jobs(control_plane, namespace) if "phase" not in job.get("status", {}))
    bound = {"number": 1, "instanceID": "i-0123456789abcdef0", "boundAt": "2026-11-22T02:00:00Z"}
    attempt = {**bound, "callback": {"ok": phase == "TerminatedOK", "message": message}}
    reason = "ContainerSucceeded" if phase == "TerminatedOK" else "ContainerFailed"
    status = {"phase": phase, "reason": reason, "attempt": 1, "attempts": [attempt]}
    patch = json.dumps({"status": status})
    name = job["metadata"]["name"]
    control_plane.kubectl("patch", "sj", name, "-n", namespace, "--subresource=status", "--type=merge", "-p", patch)


def test_a_signal_deletes_the_job_and_ends_the_run(
    account: Account, control_plane: ControlPlane, namespace: str
) -> None:
    file = account.write(a_job_step())
    process = account.start(file, "--namespace", namespace, KUBECONFIG=str(control_plane.kubeconfig))
    said(process, "SpotJob created")
    (job,) = jobs(control_plane, namespace)
    assert job["metadata"]["labels"] == {"spotjob.dev/sequencer-run": account.run_id()}
    assert job["metadata"]["name"] == f"{account.run_id()}-1-1"
    process.terminate()
    assert ended(process).code == 143
    assert jobs(control_plane, namespace) == []


def test_a_second_signal_names_the_job_that_still_runs(
    account: Account, control_plane: ControlPlane, namespace: str
) -> None:
    file = account.write(a_job_step())
    process = account.start(file, "--namespace", namespace, "--detach", KUBECONFIG=str(control_plane.kubeconfig))
    said(process, "SpotJob created")
    process.terminate()
    end = ended(process, seconds=AT_ONCE)
    assert (end.code, end.err) == (143, "")
    assert f"train may still run: {account.run_id()}-1-1" in end.errors
    assert len(jobs(control_plane, namespace)) == 1


def test_a_job_that_succeeded_gives_its_result_to_an_ecs_task(
    account: Account, control_plane: ControlPlane, namespace: str
) -> None:
    later = a_step("load", parameters={"group": "${steps.train.result.model}"})
    file = account.write(a_job_step() + later)
    process = account.start(file, "--namespace", namespace, KUBECONFIG=str(control_plane.kubeconfig))
    said(process, "SpotJob created")
    finish(control_plane, namespace, "TerminatedOK", json.dumps({"model": "m-7"}))
    end = ended(process)
    assert end.code == 0, end
    assert account.record()["steps"][0]["result"] == {"model": "m-7"}
    assert account.effects == 1


def test_a_job_that_failed_fails_the_run(account: Account, control_plane: ControlPlane, namespace: str) -> None:
    file = account.write(a_job_step() + a_step("load"))
    process = account.start(file, "--namespace", namespace, KUBECONFIG=str(control_plane.kubeconfig))
    said(process, "SpotJob created")
    finish(control_plane, namespace, "TerminatedNOK")
    assert (ended(process).code, account.effects) == (1, 0)


def test_what_the_api_server_refuses_is_told_before_anything_has_run(
    account: Account, control_plane: ControlPlane
) -> None:
    file = account.write(a_step("first") + a_job_step())
    end = account.run(file, "--namespace", "there-is-none", KUBECONFIG=str(control_plane.kubeconfig))
    assert (end.code, account.effects) == (2, 0)
    assert end.errors[0].startswith("train: the API server refuses its SpotJob: ")


def test_without_a_kubeconfig_only_sequences_with_jobs_are_refused(account: Account) -> None:
    end = account.run(account.write(a_job_step()))
    assert end.code == 2
    assert end.errors[0].startswith("a step is a SpotJob: no Kubernetes API server is configured")
    assert account.run(account.write(a_step("one"))).code == 0


def test_a_kubeconfig_that_cannot_be_read_is_named(account: Account, tmp_path: Path) -> None:
    end = account.run(account.write(a_job_step()), KUBECONFIG=str(tmp_path / "nowhere"))
    assert end.code == 2
    assert "cannot read the kubeconfig" in end.errors[0]

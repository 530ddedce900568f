"""The agent's pure parts, and what its one file may be made of."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest

from spotjob.agent import agent
from spotjob.core import contract

SOURCE = Path(agent.__file__ or "").read_text()
STARTED, ENDED = "2026-11-22T01:00:00.123456789Z", "2026-11-22T01:00:05.5Z"


def a_container(**state: Any) -> dict[str, Any]:
    known = {"Status": "exited", "ExitCode": 0, "StartedAt": STARTED, "FinishedAt": ENDED}
    return {"Config": {"Labels": {"spotjob.boot": "this-boot"}}, "State": {**known, **state}}


def a_frame(text: str, stream: int = 1) -> bytes:
    content = text.encode()
    return bytes([stream, 0, 0, 0]) + len(content).to_bytes(4, "big") + content


def test_the_agent_is_one_file_of_at_most_500_lines_of_python_3_9() -> None:
    ast.parse(SOURCE, feature_version=(3, 9))
    assert len(SOURCE.splitlines()) <= 500


def test_annotations_that_python_3_9_cannot_evaluate_are_never_evaluated() -> None:
    assert "from __future__ import annotations" in SOURCE


def test_the_agent_imports_nothing_but_the_standard_library() -> None:
    modules = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(SOURCE))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert modules <= set(sys.stdlib_module_names)


def test_the_agent_and_the_api_agree_on_limits_and_names() -> None:
    assert agent.LOG_TAIL_BYTES == contract.LOG_TAIL_BYTES
    assert contract.RESULT_LINE in SOURCE
    interruption_file = "SPOTJOB_INTERRUPTION_FILE"
    assert interruption_file in contract.CONTAINER_ENV
    assert interruption_file in SOURCE


@pytest.mark.parametrize(
    ("container", "facts"),
    [
        (a_container(ExitCode=7), {"finishedAs": "Exited", "exitCode": 7, "outOfMemory": False}),
        (a_container(ExitCode=137), {"exitCode": 137, "outOfMemory": False}),
        (a_container(ExitCode=137, OOMKilled=True), {"exitCode": 137, "outOfMemory": True}),
        (a_container(ExitCode=1, OOMKilled=True), {"exitCode": 1, "outOfMemory": False}),
        (a_container(ExitCode=255), {"finishedAs": "Exited", "exitCode": 255}),
        (a_container(Status="created", ExitCode=127, Error="no such file"), {"finishedAs": "StartFailed"}),
    ],
)
def test_state_says_how_a_container_ended(container: dict[str, Any], facts: dict[str, Any]) -> None:
    assert facts.items() <= agent.ending(container, "this-boot").items()


@pytest.mark.parametrize("code", [0, 143, 255])
def test_a_container_of_an_earlier_boot_has_no_exit_code(code: int) -> None:
    told = agent.ending(a_container(ExitCode=code), "the-next-boot")
    assert told["finishedAs"] == "HostRebooted"
    assert "exitCode" not in told


def test_a_container_that_never_ran_has_no_exit_code() -> None:
    assert "exitCode" not in agent.ending(a_container(Status="created", ExitCode=127), "this-boot")


def test_a_container_that_is_gone_has_no_exit_code() -> None:
    assert "exitCode" not in agent.ending(None, "this-boot")


def test_the_api_understands_what_an_ending_says() -> None:
    told = agent.ending(a_container(ExitCode=7), "this-boot")
    report = contract.Report.model_validate({"kind": "finished", **told})
    assert report.started_at is not None
    assert (report.at - report.started_at).total_seconds() == pytest.approx(5.376544, abs=1e-6)


def test_a_specification_is_whole() -> None:
    job = contract.ClaimedJob(
        namespace="default",
        name="train",
        uid="u-1",
        attempt=2,
        image="127.0.0.1:5000/spotjob-test",
        command=["/bin/train"],
        env={"A": "=b=", "PATH": "/x"},
        limits=contract.Limits(memory_bytes=1024, gpus=2),
        power_off_at="2026-11-22T02:00:00Z",  # type: ignore[arg-type]
        agent_token="t",
    )
    assert agent.container_spec(job.wire(), "i-1", "boot-1") == {
        "Image": "127.0.0.1:5000/spotjob-test:latest",
        "Entrypoint": ["/bin/train"],
        "Cmd": None,
        "Env": ["A==b=", "PATH=/x", "SPOTJOB_INTERRUPTION_FILE=/run/spotjob/interruption.json"],
        "Labels": {
            "spotjob.instance": "i-1",
            "spotjob.uid": "u-1",
            "spotjob.attempt": "2",
            "spotjob.boot": "boot-1",
        },
        "HostConfig": {
            "Init": True,
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            "Mounts": [{"Type": "bind", "Source": "/run/spotjob", "Target": "/run/spotjob", "ReadOnly": True}],
            "NetworkMode": "default",
            "NanoCpus": 0,
            "Memory": 1024,
            "MemorySwap": 1024,
            "DeviceRequests": [{"Count": 2, "Capabilities": [["gpu"]]}],
        },
    }


def test_no_more_cpus_are_asked_for_than_the_host_has() -> None:
    job = {"uid": "u", "attempt": 1, "image": "i", "limits": {"nanoCpus": 10**12}}
    host = agent.container_spec(job, "i-1", "boot")["HostConfig"]
    assert host["NanoCpus"] == (os.cpu_count() or 1) * 10**9


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("busybox", "busybox:latest"),
        ("busybox:1", "busybox:1"),
        ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
        ("127.0.0.1:5000/a/b:2", "127.0.0.1:5000/a/b:2"),
        ("a@sha256:00", "a@sha256:00"),
    ],
)
def test_an_image_without_a_tag_is_the_latest(image: str, reference: str) -> None:
    assert agent.with_tag(image) == reference


@pytest.mark.parametrize(
    ("image", "user"),
    [
        ("registry.example.com/a:1", "example"),
        ("localhost/a:1", "local"),
        ("busybox:1", "hub"),
        ("library/busybox", "hub"),
        ("other.example.com/a", None),
    ],
)
def test_a_login_goes_to_its_own_registry_only(image: str, user: str | None) -> None:
    hosts = {"registry.example.com": "example", "localhost": "local", "docker.io": "hub"}
    logins = {host: {"username": name, "password": "p"} for host, name in hosts.items()}
    sent = json.loads(urlsafe_b64decode(agent.registry_auth(image, logins)))
    assert sent.get("username") == user


@pytest.mark.parametrize(
    "said",
    [
        "manifest unknown",
        "name unknown",
        "manifest for 127.0.0.1:5000/a:9 not found: manifest unknown: manifest unknown",
        "invalid reference format",
        "denied: requested access to the resource is denied",
        "pull access denied for nobody/nothing, repository does not exist or may require 'docker login'",
        'failed to resolve reference "127.0.0.1:5000/a:9": 127.0.0.1:5000/a:9: not found',
        "no matching manifest for linux/arm64/v8 in the manifest list entries",
    ],
)
def test_an_image_that_no_later_try_will_find_is_hopeless(said: str) -> None:
    assert agent.HOPELESS.search(said)


@pytest.mark.parametrize(
    "said",
    [
        "received unexpected HTTP status: 500 Internal Server Error",
        "toomanyrequests: You have reached your pull rate limit.",
        "unauthorized: authentication required",
        "no basic auth credentials",
        'Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused',
        'Get "https://nowhere/v2/": dial tcp: lookup nowhere: no such host',
        "net/http: request canceled while waiting for connection (Client.Timeout exceeded)",
        "unexpected EOF",
    ],
)
def test_what_may_pass_is_tried_again(said: str) -> None:
    assert not agent.HOPELESS.search(said)


def test_a_log_stream_is_put_together_from_its_frames() -> None:
    assert agent.log_tail(a_frame("one\n") + a_frame("two\n", stream=2) + a_frame("")) == "one\ntwo\n"


def test_a_tail_is_cut_between_characters() -> None:
    assert agent.log_tail(a_frame("x" + "ü" * 1024)) == "ü" * 1024
    assert agent.log_tail(a_frame("ü" * 1024 + "x")) == "ü" * 1023 + "x"


def test_bytes_that_are_no_text_keep_the_tail_within_its_limit() -> None:
    frame = b"\x01\0\0\0" + (4000).to_bytes(4, "big") + b"\xff" * 4000
    assert len(agent.log_tail(frame).encode()) <= agent.LOG_TAIL_BYTES


def test_a_secret_at_the_edge_of_the_tail_leaves_no_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_secrets", ["abcdefghij", "abcdefghij-longer"])
    text = agent.log_tail(a_frame("abcdefghij-longer" + "." * (agent.LOG_TAIL_BYTES - 4)))
    assert text.startswith("***.")
    assert not re.search(r"[a-z]", text)


@pytest.mark.parametrize(
    "text", ["2026-11-22T01:00:00Z", "2026-11-22T01:00:00.000000001Z", "2026-11-22T01:00:00+00:00"]
)
def test_times_of_docker_of_ec2_and_of_the_api_are_read(text: str) -> None:
    assert agent.epoch(text) == pytest.approx(1795309200, abs=1e-6)


def test_a_file_is_whole_and_has_its_mode(tmp_path: Path) -> None:
    agent.write(tmp_path / "secret.json", "{}")
    agent.write(tmp_path / "shared.json", "{}", 0o644)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "secret.json": 0o600,
        "shared.json": 0o644,
    }


def test_what_is_remembered_is_made_once(tmp_path: Path) -> None:
    made = [agent.remember(tmp_path / "nonce.json", lambda n=number: {"nonce": n}) for number in (1, 2)]  # type: ignore[misc]
    assert made == [{"nonce": 1}, {"nonce": 1}]


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> agent.Life:
    (tmp_path / "boot_id").write_text("this-boot")
    monkeypatch.setattr(agent, "BOOT_ID", tmp_path / "boot_id")
    monkeypatch.setattr(agent, "SIGNALLED", tmp_path / "signalled.json")
    job = {"uid": "u", "attempt": 1, "image": "a:1", "agentToken": "t"}
    return agent.Life("i-1", job)


def test_only_an_end_after_the_signal_counts_as_signalled(life: agent.Life) -> None:
    facts = agent.ending(a_container(ExitCode=0), "this-boot")
    assert life._report(facts)["signalled"] is False
    for seconds, signalled in ((-1, True), (1, False)):
        agent.SIGNALLED.write_text(json.dumps({"at": agent.epoch(ENDED) + seconds}))
        assert life._report(facts)["signalled"] is signalled


def test_a_container_that_an_earlier_agent_asked_for_is_taken_over(
    life: agent.Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    def engine(method: str, path: str, *_: Any) -> bytes:
        if path.startswith("/containers/create"):
            raise agent.EngineError(409, "the name is in use")
        return b"{}"

    monkeypatch.setattr(agent, "engine", engine)
    assert life._make() is None


def test_what_the_engine_refuses_to_make_has_failed_to_start(life: agent.Life, monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(method: str, path: str, *_: Any) -> bytes:
        if path.startswith("/containers/create"):
            raise agent.EngineError(400, "invalid mount")
        return b"{}"

    monkeypatch.setattr(agent, "engine", engine)
    assert life._make() == {"finishedAs": "StartFailed", "message": "invalid mount"}

"""The whole platform with its real parts: up, killed parts, down."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from rich.console import Console

import spotjob
from spotjob.local import account, containers, docker, probes
from spotjob.local.control_plane import ControlPlane
from spotjob.local.laptop import Busy, Options, Platform
from spotjob.local.layout import API, AWS, OPERATOR, OWN_PARTS
from spotjob.local.processes import MARKER
from spotjob.local.progress import Progress

SOURCES = Path(spotjob.__file__).parents[1]
pytestmark = pytest.mark.e2e

SLEEPER = """
apiVersion: spotjob.dev/v1alpha1
kind: SpotJob
metadata: {name: sleeper, namespace: default}
spec: {image: IMAGE, command: [sleep, "300"]}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    """A platform of its own for each test, since these tests break it."""
    made = Platform(tmp_path / "state", Progress(Console(quiet=True)))
    yield made
    made.down()
    assert marked_processes(made.state) == []
    assert left_over_containers(made.state) == []
    assert {path.name for path in made.state.iterdir()} <= {"lock", "logs"}


def marked_processes(state: Path) -> list[int]:
    """Every process that carries the platform's mark."""
    mark = f"{MARKER}={state}\0".encode()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in environment(pid)]


def environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def left_over_containers(state: Path) -> Sequence[str]:
    engine = docker.find(os.environ)
    return engine.containers(f"{containers.LABEL}={state}") if engine else []


def pids(platform: Platform) -> dict[str, int]:
    return {row.name: row.pid or 0 for row in platform.status()}


def states(platform: Platform) -> dict[str, str]:
    """Of the parts that are not up. One that is slow to answer is asked again."""

    def settled() -> bool:
        return all(row.state != "not ready" for row in platform.status())

    probes.wait_until(settled, 60, "every part to be up or dead")
    return {row.name: row.state for row in platform.status() if row.state != "up"}


def run_a_container(platform: Platform) -> None:
    """A job whose container runs and will not end by itself."""
    layout = platform.layout
    layout.cluster.kubectl("apply", "-f", "-", input=SLEEPER.replace("IMAGE", layout.test_image))
    layout.cluster.kubectl(
        "wait", "spotjob/sleeper", "--for=jsonpath={.status.phase}=Running", "--timeout=240s", timeout_seconds=270
    )


def test_what_is_up_stays_and_what_was_killed_comes_back_as_it_was(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.up()
    before = pids(platform)
    variables = environment(before[API])
    assert states(platform) == {}

    platform.kill(OPERATOR)
    platform.kill(API)
    assert states(platform) == {OPERATOR: "dead", API: "dead"}

    monkeypatch.setenv("AWS_PROFILE", "of-another-shell")
    platform.start(API)
    assert states(platform) == {OPERATOR: "dead"}

    platform.up()
    after = pids(platform)
    assert {name for name in after if after[name] != before[name]} == {OPERATOR, API}
    assert states(platform) == {}
    assert sorted(environment(after[API]).split(b"\0")) == sorted(variables.split(b"\0"))


def test_down_finds_everything_after_the_aws_server_was_killed(platform: Platform) -> None:
    platform.up()
    run_a_container(platform)
    assert account.instances_alive(platform.layout.aws_url)
    platform.kill(AWS)
    image, engine = platform.layout.test_image, docker.find(os.environ)
    assert engine is None or (left_over_containers(platform.state) and engine.images(image))

    platform.down()
    assert engine is None or engine.images(image) == []
    assert marked_processes(platform.state) == []
    assert left_over_containers(platform.state) == []


def test_down_finds_everything_after_up_was_killed_in_the_middle(platform: Platform) -> None:
    command = [sys.executable, "-m", "spotjob", "local", "up", "--state", str(platform.state)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCES)}, stderr=subprocess.DEVNULL) as up:
        probes.wait_until(lambda: platform.processes.alive("kube-apiserver"), 120, "the API server's process")
        up.kill()

    platform.down()
    assert marked_processes(platform.state) == []


def test_the_first_up_leaves_nothing_when_it_is_told_to_end(platform: Platform) -> None:
    """By SIGTERM: a test run in the background inherits that SIGINT, and under nohup SIGHUP, are ignored."""
    command = [sys.executable, "-m", "spotjob", "local", "up", "--state", str(platform.state)]
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(SOURCES)}, stderr=subprocess.DEVNULL) as up:
        probes.wait_until(lambda: platform.processes.alive("kube-apiserver"), 120, "the API server's process")
        up.terminate()
    assert up.returncode == 128 + signal.SIGTERM
    assert marked_processes(platform.state) == []
    assert not platform.exists


def test_a_second_command_on_the_same_folder_is_told_so(platform: Platform) -> None:
    platform.state.mkdir()
    with (platform.state / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another spotjob command"):
            platform.up()


def test_a_job_ends_well_under_the_rights_of_the_split_overlay(platform: Platform) -> None:
    layout = platform.up(Options(rights="split"))
    manifest = SLEEPER.replace("IMAGE", layout.test_image).replace('"300"', '"0"')
    layout.cluster.kubectl("apply", "-f", "-", input=manifest)
    layout.cluster.kubectl("wait", "spotjob/sleeper", "--for=condition=Complete", "--timeout=240s", timeout_seconds=270)


def test_a_cluster_of_the_users_own_is_used_and_not_stopped(platform: Platform, control_plane: ControlPlane) -> None:
    layout = platform.up(Options(kubeconfig=control_plane.kubeconfig))
    assert tuple(pids(platform)) == OWN_PARTS
    assert layout.cluster.kubectl("get", "spotjobclass", "default").stdout
    platform.down()
    assert control_plane.kubectl("get", "--raw=/readyz").stdout == "ok"

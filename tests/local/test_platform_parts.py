"""The platform's plan: what is started, how, and what the commands say. Nothing runs here."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingUnixStreamServer
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from spotjob.cli import app
from spotjob.core.resources import SpotJobClass
from spotjob.local import containers, content, demo, layout, parts
from spotjob.local.cli import _first_job, ecs_table
from spotjob.local.docker import Docker
from spotjob.local.layout import API, AWS, OPERATOR, Layout

PORTS = {"api_server": 1, "etcd": 2, "etcd_peer": 3, "registry": 5000, "aws": 4, "api": 5, "metrics": 6}
NETWORK = {"subnets": [{"id": "subnet-0a", "availabilityZone": "us-east-1a"}], "securityGroup": "sg-0b"}


def a_layout(state: Path = Path("/state"), **changes: object) -> Layout:
    known: dict[str, object] = {
        "state": str(state),
        "kubectl": "/bin/kubectl",
        "programs": {"etcd": "/bin/etcd"},
        "admin_kubeconfig": f"{state}/admin",
        "ports": PORTS,
    }
    return Layout(**{**known, **changes})  # type: ignore[arg-type]


def local(*words: str, state: Path) -> tuple[int, str]:
    """Exit code and output of one `spotjob local` command."""
    result = CliRunner().invoke(app, ["local", *words, "--state", str(state)])
    return result.exit_code, result.output


# ---- the plan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", layout.OWN_PARTS)
def test_nothing_of_the_users_accounts_and_clusters_reaches_a_part(part: str) -> None:
    users = {"AWS_PROFILE": "prod", "AWS_SESSION_TOKEN": "t", "KUBECONFIG": "/users/me/.kube/config", "PATH": "/bin"}
    environment = parts.environment(part, a_layout(), users)
    assert "prod" not in environment.values()
    assert "AWS_SESSION_TOKEN" not in environment
    assert environment.get("KUBECONFIG") != "/users/me/.kube/config"
    assert environment["PATH"] == "/bin"


def test_the_platforms_settings_reach_operator_and_api_alone_and_outlive_the_first_up(tmp_path: Path) -> None:
    layout.save(a_layout(tmp_path, settings={"SPOTJOB_POLL_SECONDS": "7"}))
    found = layout.load(tmp_path)
    assert found is not None
    polls = {part: parts.environment(part, found, {}).get("SPOTJOB_POLL_SECONDS") for part in layout.OWN_PARTS}
    assert polls == {"registry": None, "aws-server": None, OPERATOR: "7", API: "7"}


def test_a_proxy_of_the_user_is_not_asked_for_loopback() -> None:
    environment = parts.environment(OPERATOR, a_layout(), {"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "corp"})
    assert environment["no_proxy"] == environment["NO_PROXY"] == "127.0.0.1,localhost"


def test_operator_and_api_act_as_their_service_accounts() -> None:
    for part in (OPERATOR, API):
        assert parts.environment(part, a_layout(), {})["KUBECONFIG"] == f"/state/kubeconfigs/{part}"


@pytest.mark.parametrize(
    ("rights", "operator", "api"),
    [("base", "spotjob", "spotjob"), ("split", "spotjob-operator", "spotjob-api")],
)
def test_the_accounts_are_those_that_the_manifests_make(rights: str, operator: str, api: str) -> None:
    made = a_layout(rights=rights)
    assert (made.account(OPERATOR), made.account(API)) == (operator, api)


def test_the_boot_time_reaches_the_aws_server_only_if_it_is_given() -> None:
    assert not [word for word in parts.command(AWS, a_layout()) if "boot" in word]
    assert parts.command(AWS, a_layout(boot_seconds=0.5))[-1] == "--boot-seconds=0.5"


def test_with_a_cluster_of_the_users_own_no_control_plane_is_started() -> None:
    assert a_layout(programs={}).parts == layout.OWN_PARTS
    assert a_layout().parts[:3] == ("etcd", "kube-apiserver", "kube-controller-manager")


def test_the_default_class_is_a_class_and_the_default() -> None:
    made = SpotJobClass.model_validate(content.default_class(NETWORK, "http://127.0.0.1:5"))
    assert made.default
    assert made.spec.subnets.ids == ("subnet-0a",)
    assert made.spec.security_groups == ("sg-0b",)


def test_the_token_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    content.make_token_key(tmp_path)
    key = next(tmp_path.iterdir())
    first = key.read_text()
    content.make_token_key(tmp_path)
    assert key.read_text() == first
    assert len(first) >= 32
    assert key.stat().st_mode & 0o777 == 0o600


def test_an_example_follows_the_registry_to_another_port() -> None:
    text = "image: 127.0.0.1:5000/spotjob-test:1"
    assert demo.for_registry(text, a_layout()) == text
    assert demo.for_registry(text, a_layout(ports={**PORTS, "registry": 7})) == "image: 127.0.0.1:7/spotjob-test:1"


def test_the_ports_are_all_different() -> None:
    ports = layout.choose_ports()
    assert len(set(ports.values())) == len(ports) == len(PORTS)


def test_a_layout_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = layout.save(a_layout(tmp_path, boot_seconds=0.5, rights="split"))
    assert layout.load(tmp_path) == made
    layout.forget(tmp_path)
    assert layout.load(tmp_path) is None


# ---- the commands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("status",), ("env",), ("interrupt", "hello")])
def test_a_command_without_a_platform_says_how_to_start_one(command: tuple[str, ...], tmp_path: Path) -> None:
    code, output = local(*command, state=tmp_path)
    assert code == 1
    assert f"no local platform in {tmp_path}: start one with `spotjob local up`" in output


def test_down_without_a_platform_is_fine(tmp_path: Path) -> None:
    assert local("down", state=tmp_path / "never")[0] == 0
    assert not (tmp_path / "never").exists()


def test_env_survives_a_shell_whatever_is_in_the_state_folders_name(tmp_path: Path) -> None:
    state = tmp_path / "it's $(mine)"
    layout.save(a_layout(state))
    code, output = local("env", state=state)
    shell = subprocess.run(["sh", "-c", f'{output}\nprintf %s "$KUBECONFIG"'], capture_output=True, text=True)
    assert code == 0
    assert shell.stdout == f"{state}/admin"


def test_env_names_everything_that_a_users_tools_need(tmp_path: Path) -> None:
    layout.save(a_layout(tmp_path))
    names = {line.split()[1].split("=")[0] for line in local("env", state=tmp_path)[1].splitlines()}
    assert names >= {
        "KUBECONFIG",
        "AWS_ENDPOINT_URL",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_REGION",
        "AWS_DEFAULT_REGION",
        "SPOTJOB_API_URL",
        "SPOTJOB_LOCAL_IMAGE",
    }


@pytest.mark.parametrize("command", ["up", "down", "status", "env", "interrupt", "demo"])
def test_every_command_shows_an_example_in_its_help(command: str) -> None:
    assert "Example: " in CliRunner().invoke(app, ["local", command, "--help"]).output


def test_a_state_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, output = local("up", state=tmp_path / "file" / "state")
    assert code == 1
    assert f"error: the state of the platform cannot be kept in {tmp_path}/file/state: " in output


def test_the_next_step_follows_the_registry_to_another_port() -> None:
    assert _first_job(a_layout()) == "kubectl apply -f examples/01-hello.yaml"
    moved = _first_job(a_layout(ports={**PORTS, "registry": 7}))
    assert moved == "sed s/127.0.0.1:5000/127.0.0.1:7/ examples/01-hello.yaml | kubectl apply -f -"


@pytest.mark.parametrize("command", ["operator", "api"])
def test_a_setting_that_makes_no_sense_is_named_as_the_variable_that_it_is(command: str) -> None:
    told = CliRunner().invoke(app, [command], env={"SPOTJOB_API_PORT": "abc"})
    assert told.exit_code == 2
    assert "error: SPOTJOB_API_PORT: Input should be a valid integer" in told.output


def test_the_command_line_starts_without_the_extra_packages_of_the_local_platform() -> None:
    code = "import sys; sys.modules.update(moto=None, cryptography=None, werkzeug=None); import spotjob.cli"
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


# ---- containers that are left over --------------------------------------------------------------------------------


class FakeDocker(ThreadingUnixStreamServer):
    """Just enough of the Engine API. `late` are containers that appear after the first look."""

    daemon_threads = True

    def __init__(self, socket: Path, state: Path) -> None:
        super().__init__(str(socket), _Answers)
        self.label = f"{containers.LABEL}={state}"
        self.there: list[str] = []
        self.late: list[str] = []


class _Answers(BaseHTTPRequestHandler):
    server: FakeDocker

    def do_GET(self) -> None:
        asked = json.loads(parse_qs(urlsplit(self.path).query)["filters"][0])
        shown = self.server.there if asked == {"label": [self.server.label]} else []
        self._answer(200, json.dumps([{"Id": name} for name in shown]).encode())

    def do_DELETE(self) -> None:
        self.server.there.remove(urlsplit(self.path).path.rpartition("/")[2])
        if not self.server.there:
            self.server.there, self.server.late = self.server.late, []
        self._answer(204, b"")

    def do_POST(self) -> None:
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[FakeDocker]:
    with FakeDocker(tmp_path / "docker.sock", Path("/state")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_containers_of_this_platform_are_removed_also_one_that_comes_late(docker: FakeDocker, tmp_path: Path) -> None:
    docker.there, docker.late = ["a", "b"], ["c"]
    assert containers.remove_all(Path("/state"), Docker(tmp_path / "docker.sock")) == 3
    assert docker.there == []


def test_containers_of_another_platform_stay(docker: FakeDocker, tmp_path: Path) -> None:
    docker.there = ["a"]
    assert containers.remove_all(Path("/other"), Docker(tmp_path / "docker.sock")) == 0
    assert docker.there == ["a"]


def test_without_a_docker_daemon_there_is_nothing_to_remove() -> None:
    assert containers.remove_all(Path("/state"), None) == 0


def test_ecs_tasks_are_shown_with_why_they_ended() -> None:
    running = {
        "arn": "arn:aws:ecs:us-east-1:1:task/yourcluster/0a",
        "cluster": "yourcluster",
        "taskDefinition": "job:1",
        "startedBy": "run-1",
        "lastStatus": "RUNNING",
        "stopCode": "",
        "stoppedReason": "",
        "exitCodes": {"main": None, "proxy": None},
        "forgotten": False,
    }
    ended = {"stopCode": "UserInitiated", "stoppedReason": "enough", "exitCodes": {"main": 143, "proxy": None}}
    _, first, second = ecs_table([running, running | ended | {"forgotten": True}]).splitlines()
    assert first.split() == ["0a", "yourcluster", "job:1", "RUNNING", "-,-", "run-1"]
    assert second.split()[3:] == ["(forgotten)", "143,-", "run-1", "UserInitiated", "enough"]


def test_the_ecs_command_needs_a_platform(tmp_path: Path) -> None:
    code, output = local("ecs", state=tmp_path)
    assert code == 1
    assert "error:" in output

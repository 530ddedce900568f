"""The stand-in engine: docker's answers, with plain processes. Whole lives of agents on it: SPOTJOB_TEST_STAND_IN=1."""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spotjob.local import docker, images
from spotjob.local.docker import Docker, DockerError
from spotjob.local.engine import StandIn, cannot_honour
from spotjob.local.instances import DockerMachines
from spotjob.local.registry import Registry

HOST = {"NetworkMode": "host"}


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    registry = Registry(images.test_image())
    registry.start()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> Iterator[Docker]:
    stand_in = StandIn(tmp_path_factory.mktemp("stand-in"))
    stand_in.start()
    docker = Docker(stand_in.path)
    pull(docker, registry.image_name)
    yield docker
    stand_in.close()


def pull(docker: Docker, name: str) -> dict[str, Any]:
    last = docker.call("POST", f"/images/create?fromImage={name}").splitlines()[-1]
    return dict(json.loads(last))


def create(docker: Docker, registry: Registry, name: str = "", **spec: Any) -> str:
    name = name or uuid.uuid4().hex
    body = {"Image": registry.image_name, "HostConfig": HOST, "Labels": {"spotjob.instance": name}, **spec}
    docker.call("POST", f"/containers/create?name={name}", body)
    return name


def run(docker: Docker, registry: Registry, script: str, **spec: Any) -> str:
    name = create(docker, registry, Cmd=["/bin/sh", "-c", script], **spec)
    docker.call("POST", f"/containers/{name}/start")
    return name


def state(docker: Docker, name: str) -> dict[str, Any]:
    return dict(json.loads(docker.call("GET", f"/containers/{name}/json"))["State"])


def wait(docker: Docker, name: str) -> int:
    return int(json.loads(docker.call("POST", f"/containers/{name}/wait"))["StatusCode"])


def output(docker: Docker, name: str) -> str:
    return docker.call("GET", f"/containers/{name}/logs?stdout=1&stderr=1&tail=200")[8:].decode()


def eventually(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_ended(pid: int) -> bool:
    """Looked at once: it may go between two looks."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


def test_it_says_loudly_what_it_is_not(tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path / "engine")
    stand_in.start()
    assert "NO CONTAINER" in stand_in.warning
    assert Docker(stand_in.path).call("GET", "/_ping") == b"OK"
    stand_in.close()


def test_a_process_lives_as_a_container_does(engine: Docker, registry: Registry) -> None:
    name = create(engine, registry, Cmd=["/bin/sh", "-c", "exit 9"])
    assert state(engine, name)["Status"] == "created"
    engine.call("POST", f"/containers/{name}/start")
    assert wait(engine, name) == 9
    ended = state(engine, name)
    assert (ended["Status"], ended["ExitCode"]) == ("exited", 9)
    assert ended["StartedAt"] <= ended["FinishedAt"]


def test_the_images_own_command_runs_when_none_is_given(engine: Docker, registry: Registry) -> None:
    name = create(engine, registry)
    engine.call("POST", f"/containers/{name}/start")
    assert wait(engine, name) == 0
    assert output(engine, name) == "hello\n"


def test_the_environment_is_the_containers_alone(
    engine: Docker, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_HOST", "1")
    name = run(engine, registry, 'printf "%s|%s" "$A" "$OF_THE_HOST"', Env=["A=it's\n$(id)"])
    wait(engine, name)
    assert output(engine, name) == "it's\n$(id)|"


def test_a_path_below_a_mount_is_found_on_the_host(engine: Docker, registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "note").write_text("seen")
    mount = {"Type": "bind", "Source": str(tmp_path), "Target": "/run/spotjob", "ReadOnly": True}
    host = {**HOST, "Mounts": [mount]}
    name = run(engine, registry, "cat $NOTE", HostConfig=host, Env=["NOTE=/run/spotjob/note"])
    wait(engine, name)
    assert output(engine, name) == "seen"


def test_a_name_is_taken_once(engine: Docker, registry: Registry) -> None:
    name = create(engine, registry)
    with pytest.raises(DockerError, match="already in use") as refused:
        create(engine, registry, name)
    assert refused.value.status == 409


def test_a_signal_reaches_the_process_and_its_handler(engine: Docker, registry: Registry) -> None:
    name = run(engine, registry, 'trap "exit 12" TERM; echo ready; while :; do sleep 0.05; done')
    eventually(lambda: "ready" in output(engine, name))
    engine.call("POST", f"/containers/{name}/kill?signal=SIGTERM")
    assert wait(engine, name) == 12
    with pytest.raises(DockerError, match="not running"):
        engine.call("POST", f"/containers/{name}/kill?signal=SIGTERM")


def test_a_signal_without_a_handler_gives_128_and_its_number(engine: Docker, registry: Registry) -> None:
    name = run(engine, registry, "exec sleep 60")
    engine.call("POST", f"/containers/{name}/kill?signal=SIGTERM")
    assert wait(engine, name) == 143


def test_a_container_is_found_by_its_label_and_ended(engine: Docker, registry: Registry) -> None:
    name = run(engine, registry, "exec sleep 60")
    create(engine, registry)
    assert engine.containers(f"spotjob.instance={name}") == [name]
    engine.end(name, 2)
    assert engine.containers(f"spotjob.instance={name}") == []


def test_what_the_first_process_started_ends_with_it(engine: Docker, registry: Registry) -> None:
    name = run(engine, registry, "sleep 60 & echo $!; exit 0")
    wait(engine, name)
    child = int(output(engine, name))
    eventually(lambda: has_ended(child))


def test_a_missing_program_exits_127_and_says_so_in_the_log(engine: Docker, registry: Registry) -> None:
    name = create(engine, registry, Entrypoint=["/no/such/program"])
    engine.call("POST", f"/containers/{name}/start")
    assert wait(engine, name) == 127
    assert "/no/such/program" in output(engine, name)


def test_waiting_ends_when_the_process_ends(engine: Docker, registry: Registry) -> None:
    name = run(engine, registry, "exec sleep 60")
    seen: list[int] = []
    waiting = threading.Thread(target=lambda: seen.append(wait(engine, name)))
    waiting.start()
    engine.call("POST", f"/containers/{name}/kill?signal=SIGKILL")
    waiting.join(60)
    assert seen == [137]


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ({"Memory": 1}, "Memory"),
        ({"NanoCpus": 1}, "NanoCpus"),
        ({"DeviceRequests": [{}]}, "DeviceRequests"),
        ({"Privileged": True}, "Privileged"),
        ({"NetworkMode": "default"}, "a network of its own"),
    ],
)
def test_what_a_plain_process_cannot_have_is_refused(
    engine: Docker, registry: Registry, host: dict[str, Any], named: str
) -> None:
    with pytest.raises(DockerError, match=f"NO CONTAINER.*{named}"):
        create(engine, registry, HostConfig={**HOST, **host})


def test_a_user_is_refused() -> None:
    assert cannot_honour({"Image": "a", "User": "nobody", "HostConfig": HOST}) == ["User"]


@pytest.mark.parametrize(
    ("repository", "said"),
    [
        ("missing:1", "name unknown"),
        ("spotjob-test:9", "manifest unknown"),
        ("denied:1", "denied"),
        ("broken:1", "unexpected HTTP status: 500"),
        ("limited:1", "toomanyrequests"),
    ],
)
def test_a_failed_pull_is_told_in_dockers_words(engine: Docker, registry: Registry, repository: str, said: str) -> None:
    assert said in pull(engine, f"{registry.host}/{repository}")["error"]


def test_no_registry_but_those_on_loopback_is_asked(engine: Docker) -> None:
    assert pull(engine, "registry.example.com/a:1")["error"].startswith("denied")


def test_what_it_does_not_know_is_refused(engine: Docker) -> None:
    with pytest.raises(DockerError) as refused:
        engine.call("POST", "/volumes/create")
    assert refused.value.status == 501


def test_its_end_ends_every_process(tmp_path: Path, registry: Registry) -> None:
    stand_in = StandIn(tmp_path / "engine")
    stand_in.start()
    docker = Docker(stand_in.path)
    pull(docker, registry.image_name)
    name = run(docker, registry, "echo $$; exec sleep 60")
    eventually(lambda: output(docker, name))
    process = int(output(docker, name))
    stand_in.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_the_engine_that_docker_host_names_is_taken(engine: Docker) -> None:
    found = docker.find({"DOCKER_HOST": f"unix://{engine.path}"})
    assert found is not None
    assert found.path == engine.path


def test_without_any_engine_machines_say_that_there_is_no_container(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docker, "DEFAULT_SOCKET", tmp_path / "nobody.sock")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    machines = DockerMachines(tmp_path, "http://127.0.0.1:9")
    assert not machines.real
    assert "NO CONTAINER" in capsys.readouterr().err
    machines.close()


def test_a_program_runs_while_its_image_is_pulled_again(engine: Docker, registry: Registry) -> None:
    pulls = [threading.Thread(target=pull, args=(engine, registry.image_name)) for _ in range(8)]
    for thread in pulls:
        thread.start()
    names = []
    while any(thread.is_alive() for thread in pulls) or len(names) < 10:
        names.append(run(engine, registry, "true"))
    for thread in pulls:
        thread.join()
    assert {wait(engine, name) for name in names} == {0}

"""ECS tasks whose containers really run: in docker where it answers, and as plain processes everywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spotjob.local import docker, images
from spotjob.local.aws_server import AwsServer
from spotjob.local.docker import DEFAULT_SOCKET, Docker
from spotjob.local.ecs.containers import lines_of
from spotjob.local.ecs.defaults import LOG_GROUP
from spotjob.local.engine import StandIn
from spotjob.local.instances import DockerMachines
from spotjob.local.registry import Registry
from tests.contract.ec2_clients import over_http
from tests.contract.ecs_account import ecs_account, lever, until_stopped

ENGINES = ["plain processes", *(["docker"] if docker.find(os.environ) else [])]


@pytest.fixture(name="registry", scope="module")
def _registry() -> Iterator[Registry]:
    registry = Registry(images.test_image())
    registry.start()
    yield registry
    registry.close()


@pytest.fixture(name="engine", scope="module", params=ENGINES)
def _engine(
    request: pytest.FixtureRequest, registry: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Docker]:
    if request.param == "docker":
        found = docker.find(os.environ) or Docker(DEFAULT_SOCKET)
        yield found
        found.untag(registry.image_name)
        return
    stand_in = StandIn(tmp_path_factory.mktemp("stand-in"))
    stand_in.start()
    yield Docker(stand_in.path)
    stand_in.close()


@pytest.fixture(name="server", scope="module")
def _server(engine: Docker, registry: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AwsServer]:
    state = tmp_path_factory.mktemp("state")
    with ecs_account(lambda url: DockerMachines(state, url, engine.path), registry.image_name) as server:
        yield server
    assert list(engine.containers(f"spotjob.state={state}")) == []


@pytest.fixture(name="ecs", scope="module")
def _ecs(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "ecs") as client:
        yield client


def run(ecs: Any, script: str = "", definition: str = "test-task-def", **override: Any) -> str:
    """Run one task, with a shell script instead of its own command; its ARN."""
    command = {"command": ["/bin/sh", "-c", script]} if script else {}
    overrides = [{"name": "main", **command, **override}] if command or override else []
    (task,) = ecs.run_task(taskDefinition=definition, overrides={"containerOverrides": overrides})["tasks"]
    return str(task["taskArn"])


def ending(ecs: Any, arn: str) -> tuple[str, int | None]:
    """Stop code, and the exit code of container `main`; None where the answer has no such key."""
    task = until_stopped(ecs, arn)
    return task["stopCode"], task["containers"][0].get("exitCode")


def logged(server: AwsServer, arn: str) -> list[str]:
    with over_http(server.url, "logs") as logs:
        stream = f"ecs/main/{arn.rpartition('/')[2]}"
        return [
            event["message"] for event in logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream)["events"]
        ]


def until_logged(server: AwsServer, ecs: Any, arn: str, line: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        (task,) = ecs.describe_tasks(tasks=[arn])["tasks"]
        if "runtimeId" in task["containers"][0] and line in logged(server, arn):
            return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_container_says_hello_and_exits_with_0(server: AwsServer, ecs: Any) -> None:
    arn = run(ecs)
    assert ending(ecs, arn) == ("EssentialContainerExited", 0)
    assert logged(server, arn) == ["hello"]


def test_command_and_environment_of_the_request_win(server: AwsServer, ecs: Any) -> None:
    arn = run(ecs, "echo $WORD; echo oh >&2; exit 3", environment=[{"name": "WORD", "value": "two words"}])
    assert ending(ecs, arn) == ("EssentialContainerExited", 3)
    assert sorted(logged(server, arn)) == ["oh", "two words"]


def test_a_stopped_container_hears_sigterm_and_its_log_is_read_while_it_runs(server: AwsServer, ecs: Any) -> None:
    arn = run(ecs, "trap 'echo bye; exit 9' TERM; echo hi; while :; do sleep 0.1; done")
    until_logged(server, ecs, arn, "hi")
    ecs.stop_task(task=arn)
    assert ending(ecs, arn) == ("UserInitiated", 9)
    assert logged(server, arn) == ["hi", "bye"]


def test_a_container_that_ignores_sigterm_is_killed_after_its_stop_timeout(
    server: AwsServer, ecs: Any, registry: Registry
) -> None:
    stubborn = {"name": "main", "image": registry.image_name, "stopTimeout": 1}
    awslogs = {"logDriver": "awslogs", "options": {"awslogs-group": LOG_GROUP, "awslogs-stream-prefix": "ecs"}}
    ecs.register_task_definition(family="stubborn", containerDefinitions=[stubborn | {"logConfiguration": awslogs}])
    arn = run(ecs, "trap '' TERM; echo hi; while :; do sleep 0.1; done", "stubborn")
    until_logged(server, ecs, arn, "hi")
    ecs.stop_task(task=arn)
    assert ending(ecs, arn) == ("UserInitiated", 137)


@pytest.mark.parametrize(
    ("container", "reason"),
    [
        ({"image": "127.0.0.1:1/none:1"}, "CannotPullContainerError"),
        ({"dependsOn": [{"containerName": "main", "condition": "START"}]}, "the local platform has no dependsOn"),
    ],
)
def test_a_container_that_cannot_be_had_fails_to_start(
    ecs: Any, registry: Registry, container: dict[str, Any], reason: str
) -> None:
    given = {"name": "main", "image": registry.image_name} | container
    ecs.register_task_definition(family="cannot", containerDefinitions=[given])
    task = until_stopped(ecs, run(ecs, definition="cannot"))
    assert task["stopCode"] == "TaskFailedToStart"
    assert reason in task["containers"][0]["reason"]
    assert "exitCode" not in task["containers"][0]


def test_a_lost_host_takes_its_containers_along(server: AwsServer, ecs: Any, engine: Docker) -> None:
    arn = run(ecs, "echo hi; sleep 600")
    until_logged(server, ecs, arn, "hi")
    lever(server, "POST", "ecs-host-lost", arn=arn)
    assert ending(ecs, arn) == ("TerminationNotice", None)
    deadline = time.monotonic() + 60
    while engine.containers(f"spotjob.task={arn.rpartition('/')[2]}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_end_of_the_server_is_the_end_of_its_containers(engine: Docker, registry: Registry, tmp_path: Path) -> None:
    machines = DockerMachines(tmp_path, "http://127.0.0.1:9", engine.path)
    with ecs_account(lambda _: machines, registry.image_name) as server, over_http(server.url, "ecs") as ecs:
        arn = run(ecs, "echo hi; sleep 600")
        until_logged(server, ecs, arn, "hi")
        assert len(engine.containers(f"spotjob.state={tmp_path}")) == 1
    assert list(engine.containers(f"spotjob.state={tmp_path}")) == []


def test_docker_s_frames_are_lines_however_they_are_cut() -> None:
    frames = [b"\1\0\0\0\0\0\0\3on", b"e", b"\2\0\0\0\0\0\0\5\ntwo\n"]
    assert lines_of(b"".join(frames)) == ["one", "two"]
    assert lines_of(b"") == []

"""Machines with the real agent for the tests of this folder: real containers where a Docker Engine answers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest

from spotjob.local.docker import DockerError
from spotjob.local.engine import StandIn
from spotjob.local.images import test_image as build_test_image
from spotjob.local.instances import DockerMachines
from spotjob.local.registry import Registry
from tests.agent.fleet import Fleet
from tests.agent.world import World

QUICK = {"SPOTJOB_POLL_SECONDS": "0.2", "SPOTJOB_PULL_SECONDS": "1.2"}
ENGINE = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    registry = Registry(build_test_image())
    registry.start()
    yield registry
    registry.close()


@pytest.fixture(scope="session")
def private_registry(registry: Registry) -> Iterator[Registry]:
    private = Registry(registry.image, private=True)
    private.start()
    yield private
    private.close()


@pytest.fixture(scope="session")
def machines(
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
    registry: Registry,
    private_registry: Registry,
) -> Iterator[DockerMachines]:
    """On the Docker Engine that answers; else, or with SPOTJOB_TEST_STAND_IN=1, on the stand-in."""
    stand_in = StandIn(tmp_path_factory.mktemp("stand-in")) if os.environ.get("SPOTJOB_TEST_STAND_IN") else None
    if stand_in is not None:
        stand_in.start()
    socket = stand_in.path if stand_in else None
    machines = DockerMachines(tmp_path_factory.mktemp("machines"), "http://127.0.0.1:9", socket, settings=QUICK)
    pytestconfig.stash[ENGINE] = describe(machines)
    yield machines
    machines.close()
    if is_docker(machines):
        for name in (registry.image_name, private_registry.image_name):
            forget_image(machines, name)
    if stand_in is not None:
        stand_in.close()


def is_docker(machines: DockerMachines) -> bool:
    return machines.real and not os.environ.get("SPOTJOB_TEST_STAND_IN")


def describe(machines: DockerMachines) -> str:
    return f"docker at {machines.docker.path}" if is_docker(machines) else "the stand-in: NO CONTAINER"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what the containers of these tests were."""
    if ENGINE in config.stash:
        terminalreporter.write_line(f"containers of the agent's tests: {config.stash[ENGINE]}")


def forget_image(machines: DockerMachines, name: str) -> None:
    with contextlib.suppress(DockerError):  # not every run has pulled it
        machines.docker.call("DELETE", f"/images/{name}?force=1")


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.start()
    yield world
    world.close()


@pytest.fixture
def fleet(machines: DockerMachines, world: World) -> Iterator[Fleet]:
    fleet = Fleet(machines, world, is_docker(machines))
    yield fleet
    for instance in fleet.off:
        fleet.halt(instance)


@pytest.fixture
def image(registry: Registry) -> str:
    return registry.image_name

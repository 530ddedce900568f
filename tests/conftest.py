"""One real control plane and one whole platform for the test session, each started when a test first asks for it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from spotjob.core.wire import GROUP, VERSION
from spotjob.local import control_plane as control_planes
from spotjob.local import probes, provision
from spotjob.local.control_plane import ControlPlane
from spotjob.local.laptop import Platform
from spotjob.local.processes import Processes
from spotjob.local.progress import Progress

ROOT = Path(__file__).parents[1]

# pytest-asyncio asks for "the" loop before it makes its own; without this one is made, and never closed.
asyncio.set_event_loop(None)


def pytest_configure() -> None:
    """SIGTERM, as `timeout` sends it, ends the session like Ctrl-C: fixtures still stop what they started."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def control_plane_programs(pytestconfig: pytest.Config) -> dict[str, Path]:
    """The programs of the control plane; when they must be built first, that is shown as it goes on."""
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return provision.obtain(Progress())


@pytest.fixture(scope="session")
def control_plane(
    tmp_path_factory: pytest.TempPathFactory, control_plane_programs: dict[str, Path]
) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager, with RBAC; the caller is their administrator."""
    processes = Processes(tmp_path_factory.mktemp("platform"))
    try:
        yield control_planes.start(processes, control_plane_programs, control_planes.Ports(*probes.free_ports(3)))
    finally:
        processes.stop(control_planes.PROCESSES, grace_seconds=0)
        processes.sweep()


@pytest.fixture(scope="session")
def crds(control_plane: ControlPlane) -> None:
    """The kinds of crds/*.yaml are served."""
    applied = control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"), "-o", "name").stdout.split()
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=50s", *applied)
    for name in applied:
        plural = name.partition("/")[2].partition(".")[0]
        probes.wait_until(lambda: _served(control_plane, plural), 60, f"{plural} to be served")  # noqa: B023 -- at once


def _served(control_plane: ControlPlane, plural: str) -> bool:
    """Established is only written: until the server has read that it answers 404, then 429 while it sets up storage."""
    watch = f"/apis/{GROUP}/{VERSION}/{plural}?watch=true&timeoutSeconds=1"
    told = (
        control_plane.kubectl("get", f"--raw={watch}", check=False),
        control_plane.kubectl("explain", plural, check=False),
    )
    return all(done.returncode == 0 for done in told)


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory, control_plane_programs: dict[str, Path]) -> Iterator[Platform]:
    """The whole local platform under the rights of deploy/base. Tests that share it leave no job behind."""
    platform = Platform(tmp_path_factory.mktemp("laptop"), Progress(Console(quiet=True)))
    try:
        platform.up()
        yield platform
    finally:
        platform.down()

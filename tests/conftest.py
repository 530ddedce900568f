"""One real control plane for the whole test session, started when the first test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from spotjob.local import control_plane as control_planes
from spotjob.local import probes, provision
from spotjob.local.control_plane import ControlPlane
from spotjob.local.processes import Processes
from spotjob.local.progress import Progress

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """etcd, kube-apiserver and kube-controller-manager, with RBAC; the caller is their administrator."""
    processes = Processes(tmp_path_factory.mktemp("platform"))
    try:
        yield control_planes.start(processes, provision.obtain(Progress()), control_planes.Ports(*probes.free_ports(3)))
    finally:
        processes.stop(control_planes.PROCESSES, grace_seconds=0)
        processes.sweep()


@pytest.fixture(scope="session")
def crds(control_plane: ControlPlane) -> None:
    """The kinds of crds/*.yaml are served."""
    applied = control_plane.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"), "-o", "name").stdout.split()
    control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", *applied)

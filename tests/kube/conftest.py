from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from uuid import uuid4

import pytest

from spotjob.clock import RealClock
from spotjob.kube import transport
from spotjob.kube.client import KubeClient
from spotjob.kube.config import from_kubeconfig
from spotjob.local.control_plane import ControlPlane


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client gives a call 10 s and sends no write again; a busy machine may stand still for longer."""
    monkeypatch.setattr(transport, "REQUEST_SECONDS", 60.0)


@pytest.fixture
async def kube(control_plane: ControlPlane, crds: None) -> AsyncIterator[KubeClient]:
    """The real API server, as its administrator."""
    async with KubeClient(from_kubeconfig(control_plane.kubeconfig), RealClock()) as client:
        yield client


@pytest.fixture
def namespace(control_plane: ControlPlane) -> str:
    """A namespace of its own for each test."""
    return control_plane.make_namespace(f"kube-{uuid4().hex[:8]}")


@pytest.fixture
def client_of(control_plane: ControlPlane, tmp_path: Path) -> Callable[[str, str], KubeClient]:
    """A client with exactly the rights of a ServiceAccount."""

    def made(namespace: str, account: str) -> KubeClient:
        path = control_plane.service_account_kubeconfig(namespace, account, tmp_path / f"{account}.kubeconfig")
        return KubeClient(from_kubeconfig(path), RealClock())

    return made

"""A world within the process, and the API's own process under exactly the rights that deploy/ gives it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from spotjob.clock import RealClock
from spotjob.core.tokens import launch_token
from spotjob.kube.client import KubeClient
from spotjob.kube.config import from_kubeconfig
from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from tests.api.process import KEYS, TIMEOUT, Api, Scene, a_person
from tests.api.world import World, bearer
from tests.cluster.objects import a_class

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    async with made.client:
        yield made


@pytest.fixture(scope="package")
def api(control_plane: ControlPlane, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A running API with a ServiceAccount of its own, and deploy/'s rights for it."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "keys").mkdir()
    (folder / "keys" / "k1").write_bytes(KEYS["k1"])
    system = control_plane.make_namespace(f"system-{uuid4().hex[:8]}")
    control_plane.kubectl("create", "serviceaccount", "api", "-n", system)
    control_plane.kubectl("apply", "-f", str(ROOT / "deploy" / "parts" / "rights-of-api.yaml"))
    for role in ("spotjob-api", "spotjob-api-values"):
        binding = ("create", "clusterrolebinding", f"{system}-{role}", f"--clusterrole={role}")
        control_plane.kubectl(*binding, f"--serviceaccount={system}:api")
    (port,) = probes.free_ports(1)
    made = Api(
        {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "PYTHONPATH": str(ROOT / "operator"),
            "KUBECONFIG": str(control_plane.service_account_kubeconfig(system, "api", folder / "kubeconfig")),
            "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
            "SPOTJOB_TOKEN_KEY_DIR": str(folder / "keys"),
            "SPOTJOB_API_HOST": "127.0.0.1",
            "SPOTJOB_API_PORT": str(port),
        },
        f"http://127.0.0.1:{port}",
        folder / "log",
    )
    process = made.start()
    yield made
    process.terminate()
    assert process.wait(60) == 0, made.log.read_text()


@pytest.fixture
async def scene(api: Api, control_plane: ControlPlane) -> AsyncIterator[Scene]:
    mark = uuid4().hex[:8]
    async with (
        KubeClient(from_kubeconfig(control_plane.kubeconfig), RealClock()) as kube,
        # The API hangs up after 5 s without a request, when httpx would still take the connection for good.
        httpx.AsyncClient(base_url=api.url, timeout=TIMEOUT, limits=httpx.Limits(keepalive_expiry=1)) as http,
    ):
        await kube.request(
            "PATCH",
            "/apis/spotjob.dev/v1alpha1/spotjobclasses/standard",
            body=a_class() | {"metadata": {"name": "standard"}},
            params={"fieldManager": "tests", "force": "true"},
            content_type="application/apply-patch+yaml",
        )
        person = bearer(await a_person(kube, f"api-{mark}"))
        launch = bearer(launch_token(KEYS, await kube.cluster_uid()))
        yield Scene(kube, http, f"api-{mark}", f"i-{mark}", person, launch)

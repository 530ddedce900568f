"""What one local platform is made of: its parts, ports and files. Decided once and kept in `<state>/platform.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from spotjob.local import control_plane, kubeconfig, probes, registry

REGISTRY, AWS, OPERATOR, API = "registry", "aws-server", "operator", "api"
OWN_PARTS = (REGISTRY, AWS, OPERATOR, API)
"""Besides the control plane; in the order of their start."""

REGION = "us-east-1"
REGISTRY_PORT = 5000
"""The examples name images by this port; another one is taken only when it is in use."""

Rights = Literal["base", "split"]
"""Which manifests of deploy/ say what operator and API may do."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One platform. Every path is absolute, so that any later command finds the same things."""

    state: str
    """The folder of everything else."""
    kubectl: str
    """The program."""
    programs: dict[str, str]
    """Control plane programs by name; empty when the cluster is somebody else's."""
    admin_kubeconfig: str
    ports: dict[str, int]
    """Loopback ports: api_server, etcd, etcd_peer, registry, aws, api, metrics."""
    rights: Rights = "base"
    boot_seconds: float | None = None
    """How long a simulated instance boots; None means the simulator's own default."""
    settings: dict[str, str] = field(default_factory=dict)
    """More variables for operator and API, such as SPOTJOB_LAUNCH_WINDOW_SECONDS; they win over the platform's own."""

    @property
    def own_control_plane(self) -> bool:
        return bool(self.programs)

    @property
    def parts(self) -> tuple[str, ...]:
        """Every process that should run, in the order of their start."""
        return (*control_plane.PROCESSES, *OWN_PARTS) if self.own_control_plane else OWN_PARTS

    @property
    def folder(self) -> Path:
        return Path(self.state)

    @property
    def key_folder(self) -> Path:
        return self.folder / "keys"

    @property
    def cluster(self) -> control_plane.Cluster:
        """The cluster, as its administrator."""
        return control_plane.Cluster(Path(self.admin_kubeconfig), Path(self.kubectl))

    @property
    def control_plane_ports(self) -> control_plane.Ports:
        return control_plane.Ports(self.ports["api_server"], self.ports["etcd"], self.ports["etcd_peer"])

    @property
    def registry(self) -> str:
        """Host and port, as an image reference begins with them."""
        return f"127.0.0.1:{self.ports['registry']}"

    @property
    def test_image(self) -> str:
        """The image that the examples use."""
        return f"{self.registry}/{registry.REPOSITORY}:{registry.TAG}"

    @property
    def aws_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['aws']}"

    @property
    def api_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api']}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['metrics']}"

    def account(self, part: str) -> str:
        """The ServiceAccount under which operator or API runs, as deploy/ names it."""
        return "spotjob" if self.rights == "base" else f"spotjob-{part}"

    def account_kubeconfig(self, part: str) -> Path:
        return self.folder / "kubeconfigs" / part

    def ready_url(self, part: str) -> str:
        """Where this part answers 200 once it is ready; empty for those that have no such place."""
        return {
            control_plane.API_SERVER: f"https://127.0.0.1:{self.ports['api_server']}/readyz",
            REGISTRY: f"http://{self.registry}/v2/",
            AWS: f"{self.aws_url}/_spotjob/ready",
            OPERATOR: f"{self.metrics_url}/readyz",
            API: f"{self.api_url}/readyz",
        }.get(part, "")


def default_state(environ: Mapping[str, str]) -> Path:
    """${XDG_STATE_HOME:-~/.local/state}/spotjob/local"""
    root = environ.get("XDG_STATE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".local" / "state"
    return Path(root) / "spotjob" / "local"


def choose_ports() -> dict[str, int]:
    names = ("api_server", "etcd", "etcd_peer", "aws", "api", "metrics", "registry")
    chosen = dict(zip(names, probes.free_ports(len(names)), strict=True))
    if probes.port_is_free(REGISTRY_PORT):
        chosen["registry"] = REGISTRY_PORT
    return chosen


def load(state: Path) -> Layout | None:
    """The platform in this folder; None if there is none."""
    try:
        return Layout(**json.loads(_file(state).read_text()))
    except (FileNotFoundError, NotADirectoryError):
        return None


def save(layout: Layout) -> Layout:
    kubeconfig.write_private(_file(layout.folder), json.dumps(asdict(layout), indent=1))
    return layout


def forget(state: Path) -> None:
    _file(state).unlink(missing_ok=True)


def _file(state: Path) -> Path:
    return Path(os.path.abspath(state)) / "platform.json"

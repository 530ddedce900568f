"""A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager.

No scheduler and no kubelet: objects, RBAC, watches, garbage collection and namespaces are real, pods never run.
The controllers are the four that SpotJob's objects need. etcd does not sync to disk: a crash of the machine may lose
the state, a crash of a process does not.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

from spotjob.local import kubeconfig, probes
from spotjob.local.errors import LocalError
from spotjob.local.processes import Processes

ETCD, API_SERVER, CONTROLLER_MANAGER = "etcd", "kube-apiserver", "kube-controller-manager"
PROCESSES = (ETCD, API_SERVER, CONTROLLER_MANAGER)
"""In the order of their start."""

_CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "clusterrole-aggregation-controller",
)
_READY_SECONDS = 60.0


class KubectlFailed(LocalError):
    """kubectl ended with an error; the text is its own."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Any Kubernetes cluster, as the user of a kubeconfig."""

    kubeconfig: Path
    kubectl_program: Path

    def kubectl(
        self, *args: str, input: str | None = None, check: bool = True, timeout_seconds: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl. Raises KubectlFailed with its error text, unless `check` is off."""
        done = subprocess.run(
            [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *args],
            input=input,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if check and done.returncode:
            raise KubectlFailed(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done

    def lines(self, *args: str) -> Generator[str]:
        """What kubectl prints, line by line as it comes; it is stopped when the iterator is closed."""
        command: list[str | Path] = [self.kubectl_program, f"--kubeconfig={self.kubeconfig}", *args]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
            try:
                yield from running.stdout or ()
            finally:
                running.kill()

    def make_namespace(self, name: str, labels: Mapping[str, str] | None = None) -> str:
        """Create a namespace; its name."""
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels or {})}}
        self.kubectl("create", "-f", "-", input=json.dumps(manifest))
        return name

    def service_account_kubeconfig(self, namespace: str, name: str, path: Path, hours: int = 24) -> Path:
        """Write a kubeconfig that acts as this ServiceAccount, with exactly its rights, by a TokenRequest."""
        view = self.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json").stdout
        token = self.kubectl("create", "token", name, "-n", namespace, f"--duration={hours}h").stdout.strip()
        entry = json.loads(view)["clusters"][0]["cluster"]
        return kubeconfig.write(path, kubeconfig.with_token(entry, name, token, namespace))


@dataclass(frozen=True, slots=True)
class ControlPlane(Cluster):
    """The cluster that `start` made, as its administrator."""

    url: str
    ca_file: Path
    admin_token: str


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of the control plane."""

    api_server: int
    etcd: int
    etcd_peer: int


def start(processes: Processes, binaries: Mapping[str, Path], ports: Ports) -> ControlPlane:
    """Start what does not run yet and wait until /readyz answers. Raises probes.NotReady with the log's end."""
    folder = processes.state / "control-plane"
    plane = _prepare(folder, binaries["kubectl"], ports)
    commands = {
        ETCD: etcd_command(binaries[ETCD], folder, ports),
        API_SERVER: api_server_command(binaries[API_SERVER], folder, ports),
        CONTROLLER_MANAGER: controller_manager_command(binaries[CONTROLLER_MANAGER], folder),
    }

    _start_missing(processes, commands, ETCD)
    _start_missing(processes, commands, API_SERVER)
    _wait_ready(processes, plane, (ETCD, API_SERVER))
    _write_admin_kubeconfig(plane)
    _start_missing(processes, commands, CONTROLLER_MANAGER)
    return plane


def etcd_command(program: Path, folder: Path, ports: Ports) -> list[str]:
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        str(program),
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_command(program: Path, folder: Path, ports: Ports) -> list[str]:
    return [
        str(program),
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={ports.api_server}",
        f"--cert-dir={folder / 'certificates'}",
        "--authorization-mode=RBAC",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'service-account.key'}",
        f"--service-account-signing-key-file={folder / 'service-account.key'}",
        "--service-cluster-ip-range=10.0.0.0/24",
        # 127.0.0.1 is no address that a Service may point to.
        "--endpoint-reconciler-type=none",
    ]


def controller_manager_command(program: Path, folder: Path) -> list[str]:
    return [
        str(program),
        f"--kubeconfig={folder / 'admin.kubeconfig'}",
        f"--controllers={','.join(_CONTROLLERS)}",
        "--leader-elect=false",
        "--secure-port=0",
    ]


def _prepare(folder: Path, kubectl: Path, ports: Ports) -> ControlPlane:
    """Credentials, made once; they are kept so that a restarted server knows its old clients."""
    (folder / "certificates").mkdir(parents=True, exist_ok=True)
    tokens, key = folder / "tokens.csv", folder / "service-account.key"
    if not tokens.exists():
        kubeconfig.write_private(tokens, f'{secrets.token_hex(32)},admin,admin,"system:masters"\n')
    if not key.exists():
        kubeconfig.write_private(key, _private_key())
    return ControlPlane(
        kubeconfig=folder / "admin.kubeconfig",
        kubectl_program=kubectl,
        url=f"https://127.0.0.1:{ports.api_server}",
        # The server writes its certificate and the one that signed it into this file.
        ca_file=folder / "certificates" / "apiserver.crt",
        admin_token=tokens.read_text().partition(",")[0],
    )


def _private_key() -> str:
    """A P-256 key in PEM, which signs ServiceAccount tokens."""
    # moto brings this package: it belongs to the extra `local`, and the command line starts without that.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    return (
        ec.generate_private_key(ec.SECP256R1())
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        .decode()
    )


def _start_missing(processes: Processes, commands: Mapping[str, list[str]], name: str) -> None:
    if not processes.alive(name):
        processes.start(name, commands[name])


def _wait_ready(processes: Processes, plane: ControlPlane, names: tuple[str, ...]) -> None:
    def ready() -> bool:
        for name in names:
            if not processes.alive(name):
                log = processes.log_file(name)
                raise probes.NotReady(f"{name} ended; last lines of {log}:\n{processes.last_lines(name)}")
        return plane.ca_file.exists() and probes.answers(
            f"{plane.url}/readyz", token=plane.admin_token, ca_file=plane.ca_file
        )

    probes.wait_until(ready, _READY_SECONDS, f"kube-apiserver (log: {processes.log_file(API_SERVER)})")


def _write_admin_kubeconfig(plane: ControlPlane) -> None:
    entry = {"server": plane.url, "certificate-authority": str(plane.ca_file)}
    kubeconfig.write(plane.kubeconfig, kubeconfig.with_token(entry, "admin", plane.admin_token))

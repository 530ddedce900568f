"""How to reach the Kubernetes API server: from a kubeconfig file, or from inside a pod.

$KUBECONFIG wins, then the pod's own ServiceAccount, then ~/.kube/config. What this client cannot do (exec plugins,
insecure-skip-tls-verify, a list of files) is refused by name instead of being ignored.
"""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, CA and namespace."""

UNSUPPORTED = {
    "user": ("exec", "auth-provider", "username", "password", "as", "impersonate"),
    "cluster": ("insecure-skip-tls-verify", "proxy-url", "tls-server-name"),
}


class ConfigError(Exception):
    """There is no usable configuration; the message says what is wrong and where."""


@dataclass(frozen=True, slots=True)
class KubeConfig:
    """One connection. Certificates and keys are PEM bytes, wherever they came from."""

    server: str
    """Such as https://127.0.0.1:6443."""
    ca: bytes | None = None
    """None means the system's certificate authorities."""
    client_certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    """Read again for each request, since a pod's token is renewed every hour; wins over `token`."""
    namespace: str = "default"

    def bearer(self) -> str | None:
        """The token to send now; None means that the client certificate speaks."""
        if self.token_file is not None:
            return self.token_file.read_text().strip()
        return self.token

    def ssl_context(self) -> ssl.SSLContext | None:
        """None for plain HTTP."""
        if self.server.startswith("http://"):
            return None
        context = ssl.create_default_context(cadata=None if self.ca is None else self.ca.decode())
        if self.client_certificate is not None and self.client_key is not None:
            _load_client_certificate(context, self.client_certificate, self.client_key)
        return context


def load_config(environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> KubeConfig:
    """The configuration that this environment asks for. Raises ConfigError."""
    if path := environ.get("KUBECONFIG"):
        return from_kubeconfig(Path(path))
    if environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").exists():
        return _in_cluster(environ, service_account)
    home = Path(environ.get("HOME", "/")) / ".kube" / "config"
    if home.exists():
        return from_kubeconfig(home)
    raise ConfigError(f"no Kubernetes API server is configured: set KUBECONFIG, run in a pod, or write {home}")


def _in_cluster(environ: Mapping[str, str], service_account: Path) -> KubeConfig:
    host, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT", "443")
    address = f"[{host}]" if ":" in host else host
    return KubeConfig(
        server=f"https://{address}:{port}",
        ca=(service_account / "ca.crt").read_bytes(),
        token_file=service_account / "token",
        namespace=(service_account / "namespace").read_text().strip(),
    )


def from_kubeconfig(path: Path) -> KubeConfig:
    """The current context of one kubeconfig file; paths in it are relative to it. Raises ConfigError."""
    document = _document(path)
    context = _named(document, "contexts", "context", document.get("current-context"), path)
    cluster = _named(document, "clusters", "cluster", context.get("cluster"), path)
    user = _named(document, "users", "user", context.get("user"), path)
    _refuse_unsupported("user", user, path)
    _refuse_unsupported("cluster", cluster, path)
    try:
        return KubeConfig(
            server=str(cluster["server"]).rstrip("/"),
            ca=_pem(cluster, "certificate-authority", path),
            client_certificate=_pem(user, "client-certificate", path),
            client_key=_pem(user, "client-key", path),
            token=user.get("token"),
            token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
            namespace=context.get("namespace") or "default",
        )
    except KeyError as error:
        raise ConfigError(f"{path}: the cluster has no {error}") from error
    except (OSError, binascii.Error) as error:
        raise ConfigError(f"{path}: {error}") from error


def _document(path: Path) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the kubeconfig {path}: {error}") from error
    if not isinstance(document, dict):
        raise ConfigError(f"{path} is no kubeconfig")
    return document


def _named(document: Mapping[str, Any], plural: str, singular: str, name: object, path: Path) -> Mapping[str, Any]:
    for entry in document.get(plural) or []:
        if entry.get("name") == name:
            return entry.get(singular) or {}
    raise ConfigError(f"{path}: there is no {singular} named {name!r} in {plural}")


def _refuse_unsupported(kind: str, entry: Mapping[str, Any], path: Path) -> None:
    for name in UNSUPPORTED[kind]:
        if entry.get(name):
            raise ConfigError(f"{path}: {name} of a {kind} is not supported; use a token or a client certificate")


def _pem(entry: Mapping[str, Any], name: str, path: Path) -> bytes | None:
    """`name`-data in base64 wins over the file `name`, as in kubectl."""
    if data := entry.get(f"{name}-data"):
        return base64.b64decode("".join(str(data).split()), validate=True)
    file = entry.get(name)
    return (path.parent / str(file)).read_bytes() if file else None


def _load_client_certificate(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """The ssl module takes a client certificate from a file only: one that lives for this call, readable by us."""
    with tempfile.NamedTemporaryFile(prefix="spotjob-") as file:
        file.write(certificate.rstrip() + b"\n" + key)
        file.flush()
        context.load_cert_chain(file.name)

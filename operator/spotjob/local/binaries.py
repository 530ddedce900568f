"""Finds the programs of the control plane: kube-apiserver, etcd, kube-controller-manager and kubectl.

They are looked for in this order; each program comes from the first place that has it:

    1. $KUBEBUILDER_ASSETS, the folder that envtest users have
    2. the cache, where steps 4 and 5 put what they make
    3. $PATH, if the version is recent enough
    4. the official envtest archive (without kube-controller-manager), checked against a committed sha512
    5. `go build` from the committed go.mod

This file holds the order, the places and the versions, and does 1 to 3; `provision.py` does 4 and 5.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

KUBERNETES_VERSION = "v1.36.3"
"""The version that is built from source; controlplane/go.mod requires the same."""

NAMES = ("kube-apiserver", "etcd", "kube-controller-manager", "kubectl")

_OLDEST = {"kube-apiserver": (1, 32), "kube-controller-manager": (1, 32), "kubectl": (1, 30), "etcd": (3, 4)}
"""Programs on PATH may be old; selectableFields of CRDs are stable since Kubernetes 1.32."""

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def system() -> str:
    """This machine in Go's words: linux-amd64."""
    machine = platform.machine().lower()
    return f"{platform.system().lower()}-{_ARCHITECTURES.get(machine, machine)}"


def cache_folder(environ: Mapping[str, str], system_name: str) -> Path:
    """Where downloaded and built programs are kept, for all platforms of this user."""
    root = environ.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".cache"
    return Path(root) / "spotjob" / f"control-plane-{KUBERNETES_VERSION}-{system_name}"


def locate(
    environ: Mapping[str, str],
    cache: Path,
    is_program: Callable[[Path], bool],
    recent: Callable[[str, Path], bool],
) -> dict[str, Path]:
    """The programs that are there already. `recent` is asked only about those on PATH."""
    found: dict[str, Path] = {}
    assets = environ.get("KUBEBUILDER_ASSETS")
    trusted = [Path(assets), cache] if assets else [cache]
    path = [Path(folder) for folder in environ.get("PATH", "").split(os.pathsep) if folder]
    for name in NAMES:
        for folder in trusted:
            if name not in found and is_program(folder / name):
                found[name] = folder / name
        for folder in path:
            if name not in found and is_program(folder / name) and recent(name, folder / name):
                found[name] = folder / name
    return found


def missing(found: Collection[str], wanted: Collection[str] = NAMES) -> tuple[str, ...]:
    """The programs that are still to be had, in the order in which they are built."""
    return tuple(name for name in NAMES if name in wanted and name not in found)


def version_in(text: str) -> tuple[int, int] | None:
    """Major and minor of the first version number in a program's answer."""
    match = re.search(r"\bv?(\d+)\.(\d+)\.\d+", text)
    return (int(match[1]), int(match[2])) if match else None


def is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def is_recent(name: str, program: Path) -> bool:
    """Whether this program starts and is not too old for us."""
    question = ["version", "--client"] if name == "kubectl" else ["--version"]
    try:
        answer = subprocess.run([program, *question], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = version_in(answer.stdout)
    return answer.returncode == 0 and version is not None and version >= _OLDEST[name]


def find() -> dict[str, Path]:
    """The programs that are on this machine now."""
    return locate(os.environ, cache_folder(os.environ, system()), is_program, is_recent)

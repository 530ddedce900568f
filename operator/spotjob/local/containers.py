"""Removes the containers of simulated instances that nobody is left to stop.

Each of them has the label `spotjob.state=<state folder>`. A container can still appear after its instance's agent was
killed, since the Docker daemon finishes what it was asked for; so, if any was there, we look again a little later.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

LABEL = "spotjob.state"
DOCKER_SOCKET = Path("/var/run/docker.sock")

_ROUNDS = 10
_SECOND_LOOK_SECONDS = 2.0


def remove_all(state: Path, docker: Path = DOCKER_SOCKET) -> int:
    """Remove every container of this platform; how many there were. Without a Docker daemon there are none."""
    removed, empty_looks = 0, 0
    for _ in range(_ROUNDS):
        names = _list(state, docker)
        for name in names:
            _ask(docker, "DELETE", f"/containers/{quote(name)}?force=1&v=1")
        removed += len(names)
        empty_looks = 0 if names else empty_looks + 1
        if empty_looks == 2 or not removed:
            break
        time.sleep(_SECOND_LOOK_SECONDS if not names else 0)
    return removed


def _list(state: Path, docker: Path) -> list[str]:
    query = urlencode({"all": 1, "filters": json.dumps({"label": [f"{LABEL}={state}"]})})
    return [container["Id"] for container in _ask(docker, "GET", f"/containers/json?{query}") or []]


def _ask(docker: Path, method: str, path: str) -> Any:
    """One call of the Docker Engine API; None where no daemon listens, or for an answer without a body."""
    connection = _UnixConnection(docker)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
    except (FileNotFoundError, ConnectionRefusedError, PermissionError):
        return None
    finally:
        connection.close()
    return json.loads(body) if answer.status == 200 else None


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

"""Asks servers on loopback whether they are ready, and waits with a deadline."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from spotjob.local.errors import LocalError

_POLL_SECONDS = 0.1
_PORTS = range(20_000, 32_000)  # below the range from which Linux takes ports for outgoing connections


class NotReady(LocalError):
    """Something did not become ready in time, or ended before it was."""


def get(
    url: str, *, token: str | None = None, ca_file: Path | None = None, timeout_seconds: float = 5.0
) -> tuple[int, bytes]:
    """(status, body) of a GET. Raises OSError or http.client.HTTPException without an answer."""
    return send("GET", url, token=token, ca_file=ca_file, timeout_seconds=timeout_seconds)


def send(
    method: str,
    url: str,
    body: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    ca_file: Path | None = None,
    timeout_seconds: float = 5.0,
) -> tuple[int, bytes]:
    """(status, body) of one request with a JSON body. Raises OSError or http.client.HTTPException without an answer."""
    parts = urlsplit(url)
    headers = {"Connection": "close"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body), "application/json"
    connection = _connection(parts.scheme, parts.netloc, ca_file, timeout_seconds)
    try:
        connection.request(method, f"{parts.path}?{parts.query}" if parts.query else parts.path, data, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def answers(url: str, *, token: str | None = None, ca_file: Path | None = None) -> bool:
    """Whether a GET is answered with 200."""
    try:
        return get(url, token=token, ca_file=ca_file, timeout_seconds=2.0)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until `condition` holds. Raises NotReady after `seconds`; the condition may raise it earlier.

    The last look begins when the time is over: one that a busy machine held up says nothing about now.
    """
    deadline = time.monotonic() + seconds
    while True:
        last = time.monotonic() > deadline
        if condition():
            return
        if last:
            raise NotReady(f"after {seconds:.0f} s still waiting for {what}")
        time.sleep(_POLL_SECONDS)


def free_ports(count: int) -> list[int]:
    """Different loopback ports on which nobody listens now.

    They are drawn from below the ephemeral range, so that no outgoing connection takes one while its server restarts.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, k=len(_PORTS)):
        if len(found) == count:
            break
        if port_is_free(port):
            found.append(port)
    return found


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _connection(scheme: str, netloc: str, ca_file: Path | None, timeout_seconds: float) -> http.client.HTTPConnection:
    if scheme == "https":
        trust = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        return http.client.HTTPSConnection(netloc, timeout=timeout_seconds, context=trust)
    return http.client.HTTPConnection(netloc, timeout=timeout_seconds)

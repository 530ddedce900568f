"""A read-only image registry on loopback, so that pulls of simulated instances are real, and fail in real ways.

    python -m spotjob.local.registry --port 5000

It serves the test image as `127.0.0.1:PORT/spotjob-test:1`. Other repository names are levers: each fails as
registries fail (the error codes of the OCI distribution specification). Debian's docker-registry could serve the
image too, but cannot be made to fail, and is one more thing to install; the part of the protocol that a pull needs is
four paths.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from spotjob.local.images import MANIFEST_TYPE, Image, test_image

REPOSITORY, TAG = "spotjob-test", "1"
LOGIN = ("spotjob", "open-sesame")
"""User and password of a registry that wants them."""
SLOW_SECONDS = 3.0

_PATH = re.compile(r"/v2/(?P<repository>[a-z0-9/._-]+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes = b""
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def error(status: int, code: str, message: str, **headers: str) -> Answer:
    """An error as the distribution specification words it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), headers=named)


LEVERS = {
    "missing": error(404, "NAME_UNKNOWN", "repository name not known to registry"),
    "denied": error(403, "DENIED", "requested access to the resource is denied"),
    "broken": Answer(500, b"{}"),
    "limited": error(429, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
}
"""Repository name -> what every request for it gets. Also: `slow` serves the image, but late."""
UNAUTHORIZED = error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="spotjob"')


def answer(image: Image, path: str) -> Answer:
    """What a GET or HEAD of `path` gives. Pure."""
    if path.rstrip("/") == "/v2":
        return Answer(200, b"{}")
    found = _PATH.fullmatch(path)
    if found is None:
        return error(404, "NAME_INVALID", "not a path of this registry")
    repository, kind, reference = found["repository"], found["kind"], found["reference"]
    if repository in LEVERS:
        return LEVERS[repository]
    if repository not in (REPOSITORY, "slow"):
        return LEVERS["missing"]
    return _content(image, kind, reference)


def _content(image: Image, kind: str, reference: str) -> Answer:
    if kind == "manifests":
        if reference not in (TAG, "latest", image.digest):
            return error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return Answer(200, image.manifest, MANIFEST_TYPE, {"Docker-Content-Digest": image.digest})
    if reference not in image.blobs:
        return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
    return Answer(200, image.blobs[reference], "application/octet-stream", {"Docker-Content-Digest": reference})


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Registry

    def do_GET(self) -> None:
        if self.path.startswith("/v2/slow/"):
            time.sleep(SLOW_SECONDS)
        entitled = not self.server.private or self.headers.get("Authorization") == _basic(*LOGIN)
        given = answer(self.server.image, self.path) if entitled else UNAUTHORIZED
        self.send_response(given.status)
        for name, value in {**given.headers, "Content-Type": given.media_type}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(given.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(given.body)

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        if self.server.log is not None:
            with self.server.log.open("a") as log:
                log.write(f"{self.log_date_time_string()} {format % args}\n")


class Registry(ThreadingHTTPServer):
    """The registry, listening on loopback. `port` 0 takes a free one; `state` is a folder for registry.log.

    A `private` one wants LOGIN for everything.
    """

    daemon_threads = True
    request_queue_size = 128  # a hundred instances pull at the same time

    def __init__(self, image: Image, port: int = 0, state: Path | None = None, private: bool = False) -> None:
        self.image, self.private = image, private
        self.log = state / "registry.log" if state else None
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def host(self) -> str:
        """What stands before the repository in an image's name."""
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def image_name(self) -> str:
        return f"{self.host}/{REPOSITORY}:{TAG}"

    def start(self) -> None:
        """Serve from a thread until `close`."""
        Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


def main() -> None:
    arguments = argparse.ArgumentParser(description="Serve the test image on loopback.")
    arguments.add_argument("--port", type=int, required=True, help="TCP port on 127.0.0.1, 0 for a free one")
    arguments.add_argument("--state", type=Path, help="folder for registry.log")
    given = arguments.parse_args()
    registry = Registry(test_image(), given.port, given.state)
    print(f"serving {registry.image_name}", flush=True)
    registry.serve_forever()


if __name__ == "__main__":
    main()

"""A stand-in for the Docker Engine where none answers: its API on a unix socket, with plain processes behind it.

There is NO CONTAINER: no isolation, no limits, no file system of its own; a job is a process of this host with the
programs of its image's layer first on its PATH. It exists so that the whole system can be tried, and most of its
tests run, where docker cannot. Whatever it cannot honour it refuses; nothing is silently ignored. Images are really
looked up in the registry, so that a missing image and a broken registry look as they do with docker.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from threading import Lock, Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from spotjob.local.plain import NotRunning, PlainContainer, Program
from spotjob.local.processes import MARKER
from spotjob.local.puller import LocalImage, PullError, pull

_HONOURED = {"Image", "Entrypoint", "Cmd", "Env", "Labels", "HostConfig"}
_HONOURED_OF_HOST = {"Init", "LogConfig", "Mounts"}


class Refused(Exception):
    """The answer is an error: (HTTP status, message)."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. `words` is what the route's pattern caught."""

    words: Sequence[str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    auth: str


class StandIn:
    """The engine. `folder` takes its images, logs and socket; `start` and `close` are its life."""

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._images: dict[str, LocalImage] = {}
        self._containers: dict[str, PlainContainer] = {}
        self._lock = Lock()
        self.path = folder / "engine.sock"
        self._server = _Server(str(self.path), _Handler)
        self._server.stand_in = self

    @property
    def warning(self) -> str:
        return "NO CONTAINER: no Docker Engine answers here, so jobs run as plain processes of this machine"

    def start(self) -> None:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """End every process and the engine."""
        for container in list(self._containers.values()):
            container.stop(0)
        self._server.shutdown()
        self._server.server_close()

    def serve(self, method: str, path: str, body: Mapping[str, Any], auth: str) -> tuple[int, Any]:
        """(HTTP status, JSON or bytes) of one call."""
        url = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        for wanted, pattern, action in _ROUTES:
            found = re.fullmatch(pattern, unquote(url.path))
            if wanted == method and found:
                try:
                    return action(self, Ask(found.groups(), query, body, auth))
                except Refused as refused:
                    return int(refused.args[0]), {"message": refused.args[1]}
        return 501, {"message": f"the stand-in for Docker does not know {method} {url.path}"}

    # ---- images

    def ping(self, _: Ask) -> tuple[int, Any]:
        return 200, b"OK"

    def image(self, ask: Ask) -> tuple[int, Any]:
        if ask.words[0] not in self._images:
            raise Refused(404, f"No such image: {ask.words[0]}")
        return 200, {"Id": ask.words[0]}

    def pull(self, ask: Ask) -> tuple[int, Any]:
        name = ask.query["fromImage"]
        try:
            found = pull(name, ask.auth, self._folder / "images")
        except PullError as error:
            return 200, json.dumps({"error": str(error), "errorDetail": {"message": str(error)}}).encode() + b"\r\n"
        self._images[name] = found
        return 200, json.dumps({"status": f"Status: Downloaded newer image for {name}"}).encode() + b"\r\n"

    # ---- containers

    def create(self, ask: Ask) -> tuple[int, Any]:
        name, image = ask.query["name"], self._images.get(ask.body["Image"])
        if image is None:
            raise Refused(404, f"No such image: {ask.body['Image']}")
        refusal = cannot_honour(ask.body)
        if refusal:
            raise Refused(400, f"NO CONTAINER: a plain process cannot have {', '.join(refusal)}")
        folder = self._folder / "containers" / name
        with self._lock:
            if name in self._containers:
                raise Refused(409, f'Conflict. The container name "/{name}" is already in use')
            (folder / "work").mkdir(parents=True)
            program = program_of(ask.body, image, folder / "work")
            labels = ask.body.get("Labels", {})
            self._containers[name] = PlainContainer(name, image.name, labels, program, folder / "log")
        return 201, {"Id": name, "Warnings": []}

    def start_container(self, ask: Ask) -> tuple[int, Any]:
        return (204 if self._find(ask).start() else 304), b""

    def inspect(self, ask: Ask) -> tuple[int, Any]:
        return 200, self._find(ask).inspect()

    def wait(self, ask: Ask) -> tuple[int, Any]:
        container = self._find(ask)
        if container.status == "running":
            container.ended.wait()
        return 200, {"StatusCode": container.inspect()["State"]["ExitCode"]}

    def kill(self, ask: Ask) -> tuple[int, Any]:
        try:
            self._find(ask).signal(signal.Signals[ask.query.get("signal", "SIGKILL")])
        except NotRunning as error:
            raise Refused(409, str(error)) from error
        return 204, b""

    def stop_container(self, ask: Ask) -> tuple[int, Any]:
        self._find(ask).stop(float(ask.query.get("t", "10")))
        return 204, b""

    def remove(self, ask: Ask) -> tuple[int, Any]:
        container = self._find(ask)
        # First: who waits for its end must not find it as one that has ended by itself.
        with self._lock:
            self._containers.pop(container.name, None)
        container.stop(0)
        shutil.rmtree(self._folder / "containers" / container.name, ignore_errors=True)
        return 204, b""

    def logs(self, ask: Ask) -> tuple[int, Any]:
        log, lines = self._find(ask).log, int(ask.query.get("tail", "1000"))
        text = b"".join((log.read_bytes() if log.exists() else b"").splitlines(keepends=True)[-lines:])
        return 200, b"\x01\0\0\0" + len(text).to_bytes(4, "big") + text

    def list(self, ask: Ask) -> tuple[int, Any]:
        wanted = json.loads(ask.query.get("filters", "{}")).get("label", [])
        pairs = [label.partition("=")[::2] for label in wanted]
        found = [
            container.inspect()
            for container in list(self._containers.values())
            if all(container.labels.get(name) == value for name, value in pairs)
        ]
        return 200, [{"Id": item["Id"], "State": item["State"]["Status"]} for item in found]

    def _find(self, ask: Ask) -> PlainContainer:
        container = self._containers.get(ask.words[0])
        if container is None:
            raise Refused(404, f"No such container: {ask.words[0]}")
        return container


_ROUTES: tuple[tuple[str, str, Callable[[StandIn, Ask], tuple[int, Any]]], ...] = (
    ("GET", "/_ping", StandIn.ping),
    ("GET", "/images/(.+)/json", StandIn.image),
    ("POST", "/images/create", StandIn.pull),
    ("GET", "/containers/json", StandIn.list),
    ("POST", "/containers/create", StandIn.create),
    ("POST", "/containers/([^/]+)/start", StandIn.start_container),
    ("POST", "/containers/([^/]+)/wait", StandIn.wait),
    ("POST", "/containers/([^/]+)/kill", StandIn.kill),
    ("POST", "/containers/([^/]+)/stop", StandIn.stop_container),
    ("GET", "/containers/([^/]+)/json", StandIn.inspect),
    ("GET", "/containers/([^/]+)/logs", StandIn.logs),
    ("DELETE", "/containers/([^/]+)", StandIn.remove),
)


def cannot_honour(spec: Mapping[str, Any]) -> Sequence[str]:
    """What of a container's specification a plain process cannot have. Pure."""
    host = spec.get("HostConfig", {})
    asked = [name for name, value in spec.items() if value and name not in _HONOURED]
    asked += [name for name, value in host.items() if value and name not in {*_HONOURED_OF_HOST, "NetworkMode"}]
    return asked + ([] if host.get("NetworkMode") == "host" else ["a network of its own"])


def program_of(spec: Mapping[str, Any], image: LocalImage, folder: Path) -> Program:
    """What to run: docker's rules for Entrypoint and Cmd, and this host's paths for the image's and the mounts'."""
    entrypoint = spec.get("Entrypoint") or image.entrypoint
    own_command = [] if spec.get("Entrypoint") else image.command
    words = [*entrypoint, *(spec.get("Cmd") or own_command)]
    env = dict(pair.split("=", 1) for pair in [*image.env, *spec.get("Env", [])])
    for mount in spec.get("HostConfig", {}).get("Mounts", []):
        env = {name: _outside(value, mount["Target"], mount["Source"]) for name, value in env.items()}
    search = [str(image.root / "bin"), *env.get("PATH", "").split(":"), os.environ.get("PATH", os.defpath)]
    marker = {MARKER: os.environ[MARKER]} if MARKER in os.environ else {}
    return Program([image.program(words[0]), *words[1:]], {**env, "PATH": ":".join(search), **marker}, folder)


def _outside(value: str, target: str, source: str) -> str:
    """A path below a mount's target, as this host has it."""
    return source + value[len(target) :] if value == target or value.startswith(target + "/") else value


class _Server(ThreadingMixIn, UnixStreamServer):
    daemon_threads = True
    request_queue_size = 256
    stand_in: StandIn


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        auth = self.headers.get("X-Registry-Auth", "")
        status, given = self.server.stand_in.serve(self.command, self.path, body, auth)
        content = given if isinstance(given, bytes) else json.dumps(given).encode()
        self.send_response(status)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status not in (204, 304):
            self.wfile.write(content)

    do_GET = do_DELETE = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing; `format` is the base class's name for it."""

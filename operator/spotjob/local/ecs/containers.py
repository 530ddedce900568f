"""What the containers of ECS tasks really run on: a Docker Engine, or its stand-in where none answers.

Each container has the labels `spotjob.state=<platform's folder>`, by which `spotjob local down` finds what a killed
platform left behind, and `spotjob.task=<task id>`. It shares the host's network, has no limits of cpu and memory, and
gets neither role nor metadata service. What else a definition asks for and cannot have, it is told at its start.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from spotjob.local.docker import Docker, DockerError
from spotjob.local.ecs.records import Container, Task

_HONOURED = frozenset(
    {"name", "image", "cpu", "memory", "memoryReservation", "essential", "command", "entryPoint", "environment"}
    | {"logConfiguration", "portMappings", "stopTimeout", "user", "workingDirectory"}
)
_WAIT_SECONDS = 30.0
_LAST_END_SECONDS = 20.0
_LAST_LINES = 10_000
_FRAME_HEADER = 8

log = logging.getLogger(__name__)


class Told(Protocol):
    """Hears what becomes of containers; each is named by its task's ARN and its own name. Callable from any thread."""

    def started(self, arn: str, container: str, runtime_id: str) -> None: ...

    def cannot_start(self, arn: str, container: str, reason: str) -> None: ...

    def ended(self, arn: str, container: str, exit_code: int | None, reason: str) -> None: ...

    def wrote(self, arn: str, container: str, lines: Sequence[str]) -> None: ...


@dataclass(slots=True)
class _Run:
    """One container from its order to its end."""

    task: Task
    container: Container
    told: Told
    lock: Lock = field(default_factory=Lock)
    stopped: bool = False
    """It was told to stop, and must not be started any more."""
    live: bool = False
    gone: Event = field(default_factory=Event)
    """Nothing of it is left in Docker."""

    @property
    def name(self) -> str:
        """Of the container in Docker."""
        return f"ecs-{self.task.id}-{self.container.name}"


class Containers:
    """Starts and stops containers. No call waits for what it orders."""

    def __init__(self, docker: Docker, labels: Mapping[str, str]) -> None:
        self._docker, self._labels = docker, labels
        self._runs: dict[tuple[str, str], _Run] = {}

    def start(self, task: Task, name: str, told: Told) -> None:
        """Pull the image if it is not there, and run the container to its end."""
        run = _Run(task, task.container(name), told)
        self._runs[task.id, name] = run
        _in_background(f"run-{run.name}", lambda: self._run(run))

    def stop(self, task: Task, name: str, grace_seconds: float) -> None:
        """SIGTERM, the grace, SIGKILL. One that has not started never will."""
        run = self._runs.get((task.id, name))
        if run is not None:
            _in_background(f"stop-{run.name}", lambda: self._stop(run, grace_seconds))

    def read(self, task_id: str, name: str) -> None:
        """Tell what a running container has written so far; nothing about one that does not run."""
        run = self._runs.get((task_id, name))
        if run is not None and run.live:
            try:
                run.told.wrote(run.task.arn, name, self._output(run))
            except (OSError, DockerError) as error:
                log.warning("the log of %s cannot be read: %s", run.name, error)

    def close(self) -> None:
        """Kill whatever still runs, and return when it is gone, or after 20 s."""
        runs = list(self._runs.values())
        for run in runs:
            self._stop(run, 0)
        deadline = time.monotonic() + _LAST_END_SECONDS
        for run in runs:
            run.gone.wait(max(0.0, deadline - time.monotonic()))

    # ---- one container

    def _run(self, run: _Run) -> None:
        arn, name = run.task.arn, run.container.name
        try:
            started = self._started(run)
        except (OSError, DockerError, _CannotRun) as error:
            run.told.cannot_start(arn, name, str(error))
        else:
            self._follow(run, started)
        self._remove(run)

    def _started(self, run: _Run) -> str | None:
        """Docker's id of the container, now that it runs; None when it was told to stop before."""
        spec = specification(run.task, run.container, self._labels)
        self._obtain(str(spec["Image"]))
        try:
            made = json.loads(self._docker.call("POST", f"/containers/create?{urlencode({'name': run.name})}", spec))
            with run.lock:
                if run.stopped:
                    return None
                self._docker.call("POST", f"/containers/{quote(run.name)}/start")
                run.live = True
        except DockerError as error:
            raise _CannotRun(f"CannotStartContainerError: {_said(error)}") from error
        return str(made["Id"])

    def _obtain(self, image: str) -> None:
        try:
            self._docker.call("GET", f"/images/{quote(image, safe='/:@')}/json")
        except DockerError as error:
            if error.status != 404:
                raise
            self._pull(image)

    def _pull(self, image: str) -> None:
        try:
            progress = self._docker.call("POST", f"/images/create?{urlencode({'fromImage': image})}", timeout=600)
        except DockerError as error:
            raise _CannotRun(f"CannotPullContainerError: {_said(error)}") from error
        failures = [line["error"] for line in map(json.loads, progress.splitlines()) if "error" in line]
        if failures:
            raise _CannotRun(f"CannotPullContainerError: {failures[0]}")

    def _follow(self, run: _Run, runtime_id: str | None) -> None:
        arn, name = run.task.arn, run.container.name
        if runtime_id is None:
            run.told.ended(arn, name, None, "")
            return
        run.told.started(arn, name, runtime_id)
        try:
            exit_code, reason = self._wait(run)
            run.told.wrote(arn, name, self._output(run))
        except (OSError, DockerError) as error:
            run.told.ended(arn, name, None, f"CannotInspectContainerError: {error}")
        else:
            run.told.ended(arn, name, exit_code, reason)

    def _wait(self, run: _Run) -> tuple[int, str]:
        """Exit code and reason of the container, once it has ended."""
        while True:
            try:
                self._docker.call("POST", f"/containers/{quote(run.name)}/wait", timeout=_WAIT_SECONDS)
            except TimeoutError:
                continue
            state = json.loads(self._docker.call("GET", f"/containers/{quote(run.name)}/json"))["State"]
            reason = "OutOfMemoryError: Container killed due to memory usage" if state["OOMKilled"] else ""
            return int(state["ExitCode"]), reason

    def _output(self, run: _Run) -> Sequence[str]:
        query = urlencode({"stdout": 1, "stderr": 1, "tail": _LAST_LINES})
        return lines_of(self._docker.call("GET", f"/containers/{quote(run.name)}/logs?{query}"))

    def _stop(self, run: _Run, grace_seconds: float) -> None:
        with run.lock:
            run.stopped = True
        if run.live:
            # Docker answers when the container is down, so not before the grace is over.
            path = f"/containers/{quote(run.name)}/stop?t={round(grace_seconds)}"
            try:
                self._docker.call("POST", path, timeout=grace_seconds + 60)
            except DockerError as error:
                if error.status not in (304, 404):
                    log.warning("%s does not stop: %s", run.name, error)

    def _remove(self, run: _Run) -> None:
        run.live = False
        try:
            self._docker.end(run.name, 0)
        except (OSError, DockerError) as error:
            log.warning("%s cannot be removed: %s", run.name, error)
        # Not before: `close` waits for those that are known.
        self._runs.pop((run.task.id, run.container.name), None)
        run.gone.set()


class _CannotRun(Exception):
    """The text is what ECS shows as the container's reason."""


def specification(task: Task, container: Container, labels: Mapping[str, str]) -> dict[str, Any]:
    """Docker's create request for a container, the task's overrides in it. Raises _CannotRun. Pure."""
    given = container.definition
    refused = sorted(name for name, value in given.items() if value and name not in _HONOURED)
    if refused:
        raise _CannotRun(f"CannotCreateContainerError: the local platform has no {', '.join(refused)}")
    override = _override(task, container.name)
    environment = {pair["name"]: pair["value"] for pair in (*given["environment"], *override.get("environment", ()))}
    asked = {
        "Image": given["image"],
        "Entrypoint": given.get("entryPoint"),
        "Cmd": override.get("command") or given.get("command"),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "User": given.get("user"),
        "WorkingDir": given.get("workingDirectory"),
        "Labels": {**labels, "spotjob.task": task.id},
        # Containers see this host's loopback addresses, as those of instances do.
        "HostConfig": {"NetworkMode": "host", "LogConfig": {"Type": "json-file"}},
    }
    return {name: value for name, value in asked.items() if value}


def _override(task: Task, container: str) -> Mapping[str, Any]:
    overrides = task.request.get("overrides", {}).get("containerOverrides", ())
    return next((one for one in overrides if one.get("name") == container), {})


def lines_of(stream: bytes) -> Sequence[str]:
    """The lines in Docker's stream of frames: stdout or stderr, 3 zero bytes, the length in 4 bytes, the text. Pure."""
    text, at = b"", 0
    while at + _FRAME_HEADER <= len(stream):
        length = int.from_bytes(stream[at + 4 : at + _FRAME_HEADER], "big")
        text += stream[at + _FRAME_HEADER : at + _FRAME_HEADER + length]
        at += _FRAME_HEADER + length
    return text.decode(errors="replace").splitlines()


def _said(error: DockerError) -> str:
    """Docker's message without the JSON around it."""
    text = str(error).partition(": ")[2]
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text


def _in_background(name: str, act: Callable[[], None]) -> None:
    Thread(target=act, name=name, daemon=True).start()

"""What the stand-in engine has instead of containers: one plain process of this host for each.

No isolation of any kind. The words are docker's, as far as the agent reads them (inspect's State).
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

NEVER = "0001-01-01T00:00:00Z"


class NotRunning(Exception):
    """There is no process to signal."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: whole words, nothing is expanded."""

    command: Sequence[str]
    env: Mapping[str, str]
    folder: Path
    """Its working directory."""


class PlainContainer:
    """A process with a container's life: created, running, exited."""

    def __init__(self, name: str, image: str, labels: Mapping[str, str], program: Program, log: Path) -> None:
        self.name, self.image, self.labels = name, image, labels
        self._program, self.log = program, log
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._state: dict[str, Any] = {"Status": "created", "ExitCode": 0, "OOMKilled": False, "Error": ""}
        self._state |= {"StartedAt": NEVER, "FinishedAt": NEVER}
        self.ended = Event()
        """Set once the process has ended."""

    def inspect(self) -> dict[str, Any]:
        with self._lock:
            state = dict(self._state)
        config = {"Image": self.image, "Labels": dict(self.labels)}
        return {"Id": self.name, "Name": f"/{self.name}", "Config": config, "State": state}

    @property
    def status(self) -> str:
        return str(self.inspect()["State"]["Status"])

    def start(self) -> bool:
        """Start it; False if it has been started before."""
        with self._lock:
            if self._state["Status"] != "created":
                return False
            self._state.update(Status="running", StartedAt=_now())
            try:
                self._process = self._spawn()
            except OSError as error:
                # As docker's init process has it: it runs, says so, and exits.
                self.log.write_text(f"exec {self._program.command[0]} failed: {error.strerror}\n")
                self._ended(126 if isinstance(error, PermissionError) else 127)
                return True
        Thread(target=self._reap, args=(self._process,), daemon=True).start()
        return True

    def signal(self, number: signal.Signals) -> None:
        """Raises NotRunning."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                raise NotRunning(f"container {self.name} is not running")
            self._process.send_signal(number)

    def stop(self, grace_seconds: float) -> None:
        """SIGTERM, the grace, SIGKILL; returns when it has ended. One that does not run is fine."""
        with contextlib.suppress(NotRunning):
            self.signal(signal.SIGTERM)
            if not self.ended.wait(grace_seconds):
                self.signal(signal.SIGKILL)
            self.ended.wait(10)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as sink:
            return subprocess.Popen(
                self._program.command,
                env=self._program.env,
                cwd=self._program.folder,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        # The end of a container's first process ends the others too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with self._lock:
            self._ended(code if code >= 0 else 128 - code)

    def _ended(self, code: int) -> None:
        self._state.update(Status="exited", ExitCode=code, FinishedAt=_now())
        self.ended.set()


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""One simulated machine: runs the user data as cloud-init would, and then plays systemd for its units.

The machine's disk is a folder. The real user data is run by bash with that folder as SPOTJOB_ROOT and two programs
played: `dnf` does nothing, and `systemctl` tells this module through a FIFO what it was asked for. Of systemd there
is what the user data relies on: a service with Restart=always, a timer with an absolute date, poweroff.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread

AGENT_UNIT, DEADLINE_TIMER = "spotjob-agent.service", "spotjob-deadline.timer"
_LOOK_SECONDS = 0.5  # how soon a process that died is noticed
_SYSTEMCTL = """#!/bin/sh
printf '%s\\n' "$*" >"$SPOTJOB_SYSTEMCTL"
"""
_DNF = """#!/bin/sh
echo "dnf $*: a simulated instance uses its host's engine"
"""

log = logging.getLogger(__name__)


def install_shims(folder: Path) -> None:
    """Put the played programs into `folder`, which is to come first on PATH."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("systemctl", _SYSTEMCTL), ("dnf", _DNF)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)


class Guest:
    """One machine, from `boot` to `halt`. `folder` is its own; console and agent.log stay there afterwards."""

    def __init__(self, folder: Path, environment: Mapping[str, str], power_off: Callable[[], None]) -> None:
        """`environment` is all that its processes get; `power_off` is called once, from this machine's thread."""
        self.disk, self.console = folder / "disk", folder / "console"
        self._agent_log, self._fifo = folder / "agent.log", folder / "systemctl.fifo"
        own = {"SPOTJOB_ROOT": self.disk, "SPOTJOB_CONSOLE": self.console, "SPOTJOB_SYSTEMCTL": self._fifo}
        self._environment = {**environment, **{name: str(path) for name, path in own.items()}}
        self._power_off: Callable[[], None] | None = power_off
        self._deadline = self._restart_at = float("inf")
        self._bootstrap: subprocess.Popen[bytes] | None = None
        self._agent: subprocess.Popen[bytes] | None = None
        self._halting = Event()
        self._thread = Thread(target=self._run, name=folder.name, daemon=True)

    def boot(self, user_data: str) -> None:
        """Returns at once."""
        boot_id = self.disk / "proc/sys/kernel/random/boot_id"
        boot_id.parent.mkdir(parents=True)
        boot_id.write_text(f"{uuid.uuid4()}\n")
        (self.disk / "user-data").write_text(user_data, errors="surrogateescape")
        os.mkfifo(self._fifo)
        self._thread.start()

    def halt(self) -> None:
        """Kill every process of the machine, and return when none is left. May be called twice."""
        self._halting.set()
        self._thread.join()

    @property
    def at_work(self) -> bool:
        """The agent may have asked the engine for a container: it has claimed a job and has no result of it."""
        state = self.disk / "var/lib/spotjob"
        return (state / "claim.json").exists() and not (state / "result.json").exists()

    def discard(self) -> None:
        """The volume is deleted with its instance."""
        shutil.rmtree(self.disk, ignore_errors=True)
        self._fifo.unlink(missing_ok=True)

    def _run(self) -> None:
        # Opened for both directions: there is always a writer, so it never reads as ended.
        fifo = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)
        try:
            self._bootstrap = self._spawn(["bash", str(self.disk / "user-data")], self.console)
            while not self._halting.is_set():
                self._listen(fifo)
                self._look()
        except Exception:
            log.exception("the machine %s broke", self._thread.name)
            self._down("it broke")
        finally:
            for process in (self._bootstrap, self._agent):
                _kill_group(process)
            os.close(fifo)

    def _spawn(
        self, command: list[str], output: Path, more: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with output.open("ab") as sink:
            return subprocess.Popen(
                command,
                env={**self._environment, **(more or {})},
                cwd=self.disk,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
            )

    # ---- systemd

    def _listen(self, fifo: int) -> None:
        """Hear what systemctl was asked for; a line is written in one piece."""
        wait = min(_LOOK_SECONDS, max(0.0, min(self._deadline, self._restart_at) - time.time()))
        if select.select([fifo], [], [], wait)[0]:
            for line in os.read(fifo, 65536).decode().splitlines():
                self._systemctl(line.split())

    def _systemctl(self, words: list[str]) -> None:
        verb = words[0] if words else ""
        starts = verb in ("start", "restart") or (verb == "enable" and "--now" in words)
        if verb == "poweroff":
            self._down("it powers itself off")
        if starts and DEADLINE_TIMER in words:
            self._deadline = _calendar(self._unit(DEADLINE_TIMER)["OnCalendar"])
        if starts and AGENT_UNIT in words and self._agent is None:
            self._start_agent()

    def _look(self) -> None:
        if time.time() >= self._deadline:
            self._down("its kill timer has fired")
        if time.time() >= self._restart_at:
            self._start_agent()
        elif self._agent is not None and self._agent.poll() is not None and self._restart_at == float("inf"):
            log.warning("the agent of %s died (%s)", self._thread.name, self._agent.returncode)
            self._restart_at = time.time() + float(self._unit(AGENT_UNIT)["RestartSec"])

    def _start_agent(self) -> None:
        _kill_group(self._agent)
        self._restart_at = float("inf")
        unit = self._unit(AGENT_UNIT)
        lines = Path(unit["EnvironmentFile"]).read_text().splitlines()
        program, *arguments = shlex.split(unit["ExecStart"])
        # The instance's Python is this one.
        command = [sys.executable if program == "/usr/bin/python3" else program, *arguments]
        self._agent = self._spawn(command, self._agent_log, dict(line.split("=", 1) for line in lines))

    def _unit(self, name: str) -> dict[str, str]:
        lines = (self.disk / "etc/systemd/system" / name).read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def _down(self, why: str) -> None:
        """Ask for the end of the machine, once."""
        self._deadline = float("inf")
        if self._power_off is not None:
            log.info("%s: %s", self._thread.name, why)
            power_off, self._power_off = self._power_off, None
            power_off()


def _calendar(text: str) -> float:
    """Epoch seconds of an OnCalendar= such as `2026-11-22 01:00:00 UTC`."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC).timestamp()


def _kill_group(process: subprocess.Popen[bytes] | None) -> None:
    """SIGKILL a process and all that it started."""
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

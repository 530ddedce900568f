"""Starts, finds and stops the processes of one local platform, also those whose parent was killed.

Two marks make that possible. Each child's pid and start time are recorded in `<state>/processes/NAME.json`, so that
a recycled pid is never taken for ours. And each child, with all its descendants, carries the state folder in its
environment, so that `sweep` finds the ones that nobody recorded. Signals go through pidfds: a process that ends
between the check and the signal is missed, and no other one is hit. Needs Linux (/proc and pidfd).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from spotjob.local.errors import LocalError

MARKER = "SPOTJOB_LOCAL_STATE"
"""Environment variable of every process of a platform; its value is the state folder."""

_SWEEP_ROUNDS = 5  # a process may fork while it is looked for


class UnsupportedSystem(LocalError):
    """The local platform needs Linux."""


@dataclass(frozen=True, slots=True)
class Child:
    """One recorded process."""

    name: str
    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat: clock ticks from boot to the process's start."""
    started_at: float
    """Seconds since the epoch."""
    log: str
    """Path of the file that has its output."""

    @property
    def alive(self) -> bool:
        return _start_ticks(self.pid) == self.start_ticks


class Processes:
    """The children of one platform; `state` is its folder."""

    def __init__(self, state: Path) -> None:
        if not sys.platform.startswith("linux"):
            raise UnsupportedSystem(
                f"the local platform needs Linux, not {sys.platform}: run it in a virtual machine or in WSL"
            )
        self.state = state.resolve()

    def start(self, name: str, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Child:
        """Start `command` in a session of its own, its output appended to `<state>/logs/NAME.log`.

        `env` is its whole environment, but for the mark; by default it is this process's own.
        Raises FileNotFoundError for an unknown program.
        """
        log = self.log_file(name)
        log.parent.mkdir(parents=True, exist_ok=True)
        pid = os.posix_spawnp(
            command[0],
            [os.fspath(word) for word in command],
            {**(os.environ if env is None else env), MARKER: str(self.state)},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
        )
        # A child that has died already is a zombie until we wait for it, so its start time can still be read.
        child = Child(name, pid, _stat(pid)[1], time.time(), str(log))
        _write_whole(self._record_file(name), json.dumps(asdict(child)))
        return child

    def find(self, name: str) -> Child | None:
        """The record of this child, dead or alive; None if it was never started, or was stopped."""
        try:
            return Child(**json.loads(self._record_file(name).read_text()))
        except FileNotFoundError:
            return None

    def alive(self, name: str) -> bool:
        child = self.find(name)
        return child is not None and child.alive

    def names(self) -> list[str]:
        """All recorded children."""
        return sorted(path.stem for path in self._records.glob("*.json"))

    def stop(self, names: Iterable[str], grace_seconds: float = 5.0) -> None:
        """SIGTERM all of them, wait, SIGKILL the rest, forget them. Those that are dead or unknown are fine."""
        children = [child for name in names if (child := self.find(name))]
        with contextlib.ExitStack() as handles:
            _end(_open_all(children, handles), grace_seconds)
        for child in children:
            self._record_file(child.name).unlink(missing_ok=True)

    def kill(self, name: str) -> None:
        """SIGKILL one child and wait for its end; its record stays, so that it shows as dead."""
        if child := self.find(name):
            with contextlib.ExitStack() as handles:
                _end(_open_all([child], handles), grace_seconds=0)

    def sweep(self, grace_seconds: float = 3.0) -> int:
        """End every process that carries this platform's mark; how many were found."""
        found = 0
        for _ in range(_SWEEP_ROUNDS):
            with contextlib.ExitStack() as handles:
                marked = self._marked(handles)
                if not marked:
                    break
                _end(marked, grace_seconds)
                found += len(marked)
        return found

    def last_lines(self, name: str, count: int = 15) -> str:
        """The end of a child's log, for an error message."""
        try:
            return "\n".join(self.log_file(name).read_text(errors="replace").splitlines()[-count:])
        except FileNotFoundError:
            return "(no log)"

    def log_file(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    @property
    def _records(self) -> Path:
        return self.state / "processes"

    def _record_file(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _marked(self, handles: contextlib.ExitStack) -> dict[int, int]:
        mark = f"{MARKER}={self.state}".encode()
        marked = {}
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            if pid == os.getpid() or not _carries(pid, mark):
                continue
            handle = _open(pid, handles)
            # Looked at again through the open handle: the pid may have changed hands in between.
            if handle is not None and _carries(pid, mark):
                marked[pid] = handle
        return marked


def _open_all(children: Iterable[Child], handles: contextlib.ExitStack) -> dict[int, int]:
    """pid -> pidfd of those that live."""
    opened = {}
    for child in children:
        handle = _open(child.pid, handles)
        if handle is not None and child.alive:
            opened[child.pid] = handle
    return opened


def _open(pid: int, handles: contextlib.ExitStack) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    handles.callback(os.close, handle)
    return handle


def _end(handles: Mapping[int, int], grace_seconds: float) -> None:
    """Stop these processes (pid -> pidfd): ask, wait, kill, reap."""
    if grace_seconds:
        _signal(handles.values(), signal.SIGTERM)
    left = _wait(handles.values(), grace_seconds)
    _signal(left, signal.SIGKILL)
    _wait(left, 10.0)
    for pid in handles:
        _reap(pid)


def _signal(handles: Iterable[int], number: signal.Signals) -> None:
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, number)


def _wait(handles: Iterable[int], seconds: float) -> set[int]:
    """Wait until these pidfds are readable, which they are from the process's end on; those still alive."""
    left = set(handles)
    poller = select.poll()
    for handle in left:
        poller.register(handle, select.POLLIN)
    deadline = time.monotonic() + seconds
    while left:
        ended = [handle for handle, _ in poller.poll(max(0.0, deadline - time.monotonic()) * 1000)]
        if not ended:
            break
        for handle in ended:
            poller.unregister(handle)
        left -= set(ended)
    return left


def _reap(pid: int) -> None:
    """Clear away the zombie if it is our own child."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _start_ticks(pid: int) -> int | None:
    """When this process started; None if it has ended (a zombie has)."""
    try:
        state, ticks = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None
    if state in "ZX":
        _reap(pid)
        return None
    return ticks


def _stat(pid: int) -> tuple[str, int]:
    """State letter and start ticks: fields 3 and 22 of /proc/PID/stat; the command in field 2 may hold anything."""
    fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _carries(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        # Gone, or another user's: then it is not ours.
        return False


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)

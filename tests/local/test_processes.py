from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from spotjob.local import probes
from spotjob.local.processes import MARKER, Processes

SLEEP = ("sleep", "300")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(300)",
)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.stop(made.names(), grace_seconds=0)
    made.sweep(grace_seconds=0)


def test_a_started_child_lives_in_a_session_of_its_own(processes: Processes) -> None:
    child = processes.start("a", SLEEP)
    assert processes.alive("a")
    assert os.getsid(child.pid) == child.pid


def test_a_child_gets_the_environment_and_writes_its_log(processes: Processes) -> None:
    processes.start(
        "a", ("sh", "-c", 'echo "$GIVEN $SPOTJOB_LOCAL_STATE"; echo oops >&2'), {**os.environ, "GIVEN": "it's here"}
    )
    probes.wait_until(lambda: not processes.alive("a"), 60, "the end of a")
    assert processes.last_lines("a") == f"it's here {processes.state}\noops"


def test_an_unknown_program_is_an_error(processes: Processes) -> None:
    with pytest.raises(FileNotFoundError):
        processes.start("a", ("no-such-program-anywhere",))


def test_a_child_that_died_is_not_alive_and_still_known(processes: Processes) -> None:
    processes.start("a", ("true",))
    probes.wait_until(lambda: not processes.alive("a"), 60, "the end of a")
    assert processes.find("a") is not None
    assert processes.names() == ["a"]


def test_stop_ends_all_children_and_forgets_them(processes: Processes) -> None:
    children = [processes.start(name, SLEEP) for name in ("a", "b")]
    processes.stop(["a", "b", "never-started"])
    assert not any(child.alive for child in children)
    assert processes.names() == []


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(processes: Processes) -> None:
    child = processes.start("a", STUBBORN)
    probes.wait_until(lambda: processes.last_lines("a") != "", 60, "the signal handler")
    processes.stop(["a"], grace_seconds=0.2)
    assert not child.alive


def test_kill_leaves_the_record_so_that_the_child_shows_as_dead(processes: Processes) -> None:
    child = processes.start("a", SLEEP)
    processes.kill("a")
    assert not child.alive
    assert processes.find("a") == child


def test_a_recycled_pid_is_neither_alive_nor_stopped(processes: Processes) -> None:
    child = processes.start("a", SLEEP)
    record = processes.state / "processes" / "a.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "start_ticks": child.start_ticks - 1}))

    assert not processes.alive("a")
    processes.stop(["a"])
    assert child.alive


def test_the_sweep_finds_a_grandchild_whose_parent_was_killed(processes: Processes) -> None:
    parent = processes.start("a", ("sh", "-c", "setsid sleep 301 & echo $!; wait"))
    probes.wait_until(lambda: processes.last_lines("a") != "", 60, "the grandchild")
    grandchild = int(processes.last_lines("a"))
    # While it becomes `sleep` it shows no environment, so no mark either.
    probes.wait_until(lambda: _is_sleep(grandchild), 60, "the grandchild's program")
    os.kill(parent.pid, signal.SIGKILL)

    assert processes.sweep() >= 1
    probes.wait_until(lambda: not _is_running(grandchild), 30, "the end of the grandchild")
    assert processes.sweep() == 0


def test_the_sweep_leaves_other_platforms_alone(processes: Processes, tmp_path: Path) -> None:
    mark = f"{processes.state}-2"
    other = subprocess.Popen(SLEEP, env={**os.environ, MARKER: mark})
    try:
        assert processes.sweep() == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_the_sweep_does_not_end_the_process_that_sweeps(processes: Processes) -> None:
    code = "import sys; from pathlib import Path; from spotjob.local.processes import Processes; "
    code += "print(Processes(Path(sys.argv[1])).sweep())"
    environment = {**os.environ, MARKER: str(processes.state), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, str(processes.state)], env=environment, capture_output=True)
    assert done.stdout == b"0\n"


def _is_sleep(pid: int) -> bool:
    folder = Path(f"/proc/{pid}")
    return (folder / "comm").read_text() == "sleep\n" and MARKER.encode() in (folder / "environ").read_bytes()


def _is_running(pid: int) -> bool:
    """A zombie has ended; it may go between two looks, since the orphan's new parent clears it away."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False

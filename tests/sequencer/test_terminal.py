"""What a person sees: the live table of a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from datetime import timedelta

import pytest
from rich.console import Console

from spotjob.core.sequence.runs import ContainerEnd, Run, StepState, new_run
from spotjob.sequencer.table import MOST_ROWS, table
from tests.builders import NOW
from tests.sequencer.account import FIXTURE, Account
from tests.sequencer.outside import a_sequence


def a_run(*names: str) -> Run:
    return new_run(a_sequence(*names), "run-1", "", NOW)


def drawn(run: Run, last_line: str = "", minutes: int = 2) -> str:
    console = Console(width=120, record=True, file=open(os.devnull, "w"), force_terminal=False)  # noqa: SIM115
    console.print(table(run, NOW + timedelta(minutes=minutes), last_line))
    console.file.close()
    return console.export_text()


def test_a_row_has_state_elapsed_time_exit_codes_and_the_last_line() -> None:
    run = a_run("extract", "load")
    ended = {"state": StepState.FAILED, "started_at": NOW, "ended_at": NOW + timedelta(seconds=75)}
    codes = (ContainerEnd(name="main", exit_code=3), ContainerEnd(name="sidecar"))
    failed = run.steps[0].model_copy(update={**ended, "containers": codes, "reason": "Broken", "message": "no [row] 7"})
    text = drawn(run.with_step(0, failed))
    assert re.search(r"1 .* extract .* Failed .* 0:01:15 .* 3 - .* Broken: no \[row\] 7", text), text
    assert re.search(r"2 .* load .* Pending", text), text


def test_the_running_step_shows_what_its_container_logged_last() -> None:
    run = a_run("extract")
    running = run.steps[0].model_copy(update={"state": StepState.RUNNING, "started_at": NOW, "status": "RUNNING"})
    text = drawn(run.with_step(0, running), "[bold]row 7[/bold]")
    assert re.search(r"extract .* Running RUNNING .* 0:02:00 .* \[bold\]row 7\[/bold\]", text), text


def test_of_a_long_sequence_the_rows_around_the_current_step_are_shown() -> None:
    run = a_run(*(f"step-{place}" for place in range(200)))
    steps = tuple(
        s.model_copy(update={"state": StepState.SUCCEEDED}) if n < 100 else s for n, s in enumerate(run.steps)
    )
    text = drawn(run.model_copy(update={"steps": steps}))
    assert len(re.findall("step-", text)) == MOST_ROWS
    assert "step-100" in text


def on_a_terminal(account: Account, *arguments: str, **environment: str) -> tuple[int, str]:
    """What comes out of the process at a terminal of 120 columns."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "spotjob.sequencer.cli", *arguments],
        env=account.environment(TERM="xterm-256color", COLUMNS="120", LINES="40", **environment),
        cwd=account.folder,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    text = b""
    try:
        while chunk := _read(ours):
            text += chunk
        return process.wait(120), text.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the other end is closed
        return b""


@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_shows_a_table_without_colours_when_they_are_not_wanted(
    account: Account, environment: dict[str, str], coloured: bool
) -> None:
    account.rule(exitCode=3, seconds=0.5, log=["row 7 is bad"])
    code, text = on_a_terminal(account, account.write(FIXTURE), **environment)
    assert code == 1
    assert "chicken_butter" in text
    assert "Failed" in text
    assert "chicken_butter: row 7 is bad" in text
    assert "current status" not in text
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]m", text)) is coloured
    assert "INFO --" not in text


def test_log_lines_are_shown_on_a_terminal_when_they_are_wanted(account: Account) -> None:
    code, text = on_a_terminal(account, account.write(FIXTURE), "--log-format", "text")
    assert code == 0
    assert "current status: STOPPED" in text
    assert "\x1b[" not in text

"""The live table of a terminal: one row per step."""

from __future__ import annotations

from datetime import datetime, timedelta

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from spotjob.core.sequence.runs import Run, StepRun, StepState

COLOURS = {
    StepState.PENDING: "dim",
    StepState.WAITING: "yellow",
    StepState.REQUESTING: "cyan",
    StepState.RUNNING: "cyan",
    StepState.STOPPING: "yellow",
    StepState.SUCCEEDED: "green",
    StepState.FAILED: "bold red",
    StepState.STOPPED: "yellow",
    StepState.SKIPPED: "dim",
}
MOST_ROWS = 25
"""Of a long sequence, those around the step whose turn it is."""


def table(run: Run, now: datetime, last_line: str = "") -> Table:
    """How the run stands. `last_line`: what the running step's container logged last."""
    drawn = Table(title=f"run {escape(run.id)}: {run.state}", title_justify="left", expand=True)
    for name, justify in (("#", "right"), ("step", "left"), ("state", "left"), ("elapsed", "right"), ("exit", "left")):
        drawn.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    drawn.add_column("last line", ratio=1, no_wrap=True, overflow="ellipsis")
    for place in _shown(run):
        drawn.add_row(*_row(place, run.steps[place], now, last_line if place == run.current else ""))
    return drawn


def _shown(run: Run) -> range:
    current = len(run.steps) if run.current is None else run.current
    first = max(0, min(current - MOST_ROWS // 2, len(run.steps) - MOST_ROWS))
    return range(first, min(first + MOST_ROWS, len(run.steps)))


def _row(place: int, step: StepRun, now: datetime, last_line: str) -> tuple[Text, ...]:
    state = f"{step.state} {step.status}".strip() if step.state is StepState.RUNNING else str(step.state)
    codes = " ".join("-" if each.exit_code is None else str(each.exit_code) for each in step.containers)
    said = last_line or (f"{step.reason}: {step.message}" if step.reason else step.message)
    return (
        Text(str(place + 1)),
        Text(step.name),
        Text(state, COLOURS[step.state]),
        Text(elapsed(step, now)),
        Text(codes),
        Text(said.splitlines()[-1] if said else ""),
    )


def elapsed(step: StepRun, now: datetime) -> str:
    """Such as 0:01:30; empty for a step that has not begun."""
    if step.started_at is None:
        return ""
    return str(timedelta(seconds=int(((step.ended_at or now) - step.started_at).total_seconds())))

"""The variables that the first Sequencer read, with their old meaning, and where records are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

LONGEST_POLL_SECONDS = 3600.0


class BadUsage(Exception):
    """What was asked for cannot be done, and nothing was. The text says what to change. Exit code 2."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What the environment says."""

    yaml_path: str
    """SEQUENCER_YAML_S3_PATH: the file when no argument names one. Empty: none."""
    poll: timedelta
    """SEQUENCER_SLEEP_BETWEEN_CHECKS: between two looks at a running step; 5 s."""
    debug: bool
    """SEQUENCER_LOG_DEBUG, set to anything, even to nothing."""
    state: str
    """SEQUENCER_STATE: see the option --state."""
    events_queue: str
    """SEQUENCER_TASK_EVENTS_QUEUE: the SQS queue in which ends of tasks lie that ECS has forgotten. Empty: none."""
    create_table: bool
    """SEQUENCER_STATE_CREATE_TABLE=true: create the DynamoDB table of the records when it is missing."""


def read_environment(environ: Mapping[str, str]) -> Environment:
    """Raises BadUsage."""
    home = environ.get("XDG_STATE_HOME") or str(Path(environ.get("HOME") or "/") / ".local" / "state")
    return Environment(
        yaml_path=environ.get("SEQUENCER_YAML_S3_PATH", ""),
        poll=_poll(environ.get("SEQUENCER_SLEEP_BETWEEN_CHECKS", "5")),
        debug="SEQUENCER_LOG_DEBUG" in environ,
        state=environ.get("SEQUENCER_STATE") or str(Path(home) / "sequencer"),
        events_queue=environ.get("SEQUENCER_TASK_EVENTS_QUEUE", ""),
        create_table=environ.get("SEQUENCER_STATE_CREATE_TABLE", "").lower() == "true",
    )


def _poll(text: str) -> timedelta:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= LONGEST_POLL_SECONDS:
        raise BadUsage(f"SEQUENCER_SLEEP_BETWEEN_CHECKS: {text!r} is no number of seconds above 0, at most 3600")
    return timedelta(seconds=seconds)

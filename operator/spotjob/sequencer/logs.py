"""How log lines look: in the shape of Ruby's Logger, which the first Sequencer wrote, or as JSON."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import IO, Literal

from rich.console import Console

LEVELS = {"WARNING": "WARN", "CRITICAL": "FATAL"}
"""Ruby's words, where they are others."""
LOGGER = "spotjob"
"""What SEQUENCER_LOG_DEBUG makes talkative. The SDK is not: its own words hold signatures."""


class OldShape(logging.Formatter):
    """`I, [2021-10-15T13:31:24.123456 #123]  INFO -- : text`, in local time."""

    def format(self, record: logging.LogRecord) -> str:
        level = LEVELS.get(record.levelname, record.levelname)
        at = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%Y-%m-%dT%H:%M:%S.%f")
        head = f"{level[0]}, [{at} #{os.getpid()}] {level:>5} -- : "
        return "\n".join(head + line for line in _text(record).split("\n"))


class Json(logging.Formatter):
    """One JSON document per line."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat()
        return json.dumps({"time": at, "level": record.levelname, "message": _text(record)})


def _text(record: logging.LogRecord) -> str:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + logging.Formatter().formatException(record.exc_info)
    return text


class _Lines(logging.StreamHandler[IO[str]]):
    """Lines on a stream. When nobody reads it any more, the run goes on without words."""

    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())  # what is left is flushed at the exit


def set_up(shape: Literal["text", "json"], debug: bool, stream: IO[str]) -> logging.Handler:
    """Everything that is logged goes to the stream from now on."""
    handler = _Lines(stream)
    handler.setFormatter(Json() if shape == "json" else OldShape())
    logging.getLogger().handlers[:] = [handler]
    logging.getLogger().setLevel(logging.WARNING)
    logging.getLogger(LOGGER).setLevel(logging.DEBUG if debug else logging.INFO)
    return handler


class _AboveTheTable(logging.Handler):
    """Prints through the console, which draws its table again below. Colours by level, where there are any."""

    COLOURS = {logging.WARNING: "yellow", logging.ERROR: "bold red"}

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = self.COLOURS.get(record.levelno)
        self._console.print(_text(record), style=style, markup=False, highlight=False, soft_wrap=True)


def above_the_table(console: Console) -> None:
    """Everything that is logged goes to the terminal from now on."""
    logging.getLogger().handlers[:] = [_AboveTheTable(console)]

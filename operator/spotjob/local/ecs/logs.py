"""What containers with the log driver awslogs have written, as CloudWatch Logs' GetLogEvents shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from spotjob.local.ecs.errors import EcsError, invalid
from spotjob.local.ecs.records import Container, Task

_MOST_EVENTS = 10_000
_MOST_LINES = 10_000
"""Kept of one stream: the last ones."""


@dataclass(frozen=True, slots=True)
class Line:
    """One event."""

    at: datetime
    text: str


class Logs:
    """Streams of lines by group. A group is there once a container was to write to it."""

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, list[Line]]] = {}

    def write(self, task: Task, container: Container, lines: Sequence[str], now: datetime) -> None:
        """Add lines to the container's stream, which is there from now on."""
        place = place_of(task, container)
        if place is not None:
            group, stream = place
            kept = self._groups.setdefault(group, {}).setdefault(stream, [])
            kept += [Line(now, text) for text in lines]
            del kept[:-_MOST_LINES]

    def replace(self, task: Task, container: Container, lines: Sequence[str], now: datetime) -> None:
        """The stream has exactly these lines; those that were there keep their time."""
        place = place_of(task, container)
        if place is not None:
            group, stream = place
            known = self._groups.setdefault(group, {}).get(stream, [])
            self._groups[group][stream] = (known + [Line(now, text) for text in lines[len(known) :]])[-_MOST_LINES:]

    def events(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """GetLogEvents; None for a group that is not ours."""
        streams = self._groups.get(request.get("logGroupName", ""))
        if streams is None:
            return None
        if request.get("logStreamName") not in streams:
            raise EcsError("ResourceNotFoundException", "The specified log stream does not exist.")
        return _page(streams[request["logStreamName"]], request)


def place_of(task: Task, container: Container) -> tuple[str, str] | None:
    """Group and stream, `prefix/container/task id`, of a container that logs with awslogs; None for the others."""
    configuration = container.definition.get("logConfiguration", {})
    options = configuration.get("options", {})
    if configuration.get("logDriver") != "awslogs" or "awslogs-group" not in options:
        return None
    return options["awslogs-group"], f"{options.get('awslogs-stream-prefix', 'ecs')}/{container.name}/{task.id}"


def _page(lines: Sequence[Line], request: Mapping[str, Any]) -> dict[str, Any]:
    """Up to `limit` events: the newest ones, or the oldest with startFromHead, or from where a token says."""
    limit = request.get("limit", _MOST_EVENTS)
    if not 1 <= limit <= _MOST_EVENTS:
        raise invalid(f"limit must be between 1 and {_MOST_EVENTS}")
    first, last = _bounds(len(lines), limit, request)
    return {
        "events": [_event(line) for line in lines[first:last]],
        "nextForwardToken": f"f/{last}",
        "nextBackwardToken": f"b/{first}",
    }


def _bounds(count: int, limit: int, request: Mapping[str, Any]) -> tuple[int, int]:
    token = re.fullmatch(r"([fb])/(\d+)", request.get("nextToken", ""))
    if "nextToken" in request and token is None:
        raise invalid("The specified nextToken is invalid.")
    if token and token[1] == "b":
        return max(0, int(token[2]) - limit), int(token[2])
    if token or request.get("startFromHead"):
        first = int(token[2]) if token else 0
        return first, max(first, min(count, first + limit))
    return max(0, count - limit), count


def _event(line: Line) -> dict[str, Any]:
    milliseconds = round(line.at.timestamp() * 1000)
    return {"timestamp": milliseconds, "message": line.text, "ingestionTime": milliseconds}

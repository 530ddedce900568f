"""What came of one life: a job's, or a run's of a sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from tests.crash.oracle import Finding
from tests.crash.points import Kind, Point


class Story(Protocol):
    """A scenario, as far as it is told to people."""

    @property
    def key(self) -> str: ...

    @property
    def title(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Result:
    """One life."""

    scenario: Story
    point: Point | None
    fired: bool
    """The point was reached. Without one, or without reaching it, nobody was killed."""
    seen: list[Kind]
    findings: list[Finding]
    seconds: float

"""What is wrong with a file, and where in it. All of it is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from spotjob.core.sequence.model_faults import Path
from spotjob.core.sequence.spelling import shown


class Place(NamedTuple):
    """A position in the text, both from 1. A column counts characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong. The message never holds the value of a variable."""

    line: int
    column: int
    where: str
    """Such as steps[2].extract.parameters.launch_typ; empty for the file as a whole."""
    message: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.where}: {self.message}" if self.where else self._of_the_file()

    def _of_the_file(self) -> str:
        return f"{self.line}:{self.column}: {self.message}"


class InvalidDocument(Exception):
    """The file cannot be run. `problems` are all of them, by position."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(problems))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Findings:
    """The problems so far."""

    problems: list[Problem] = field(default_factory=list)
    _told: set[tuple[Place, str]] = field(default_factory=set)

    def add(self, at: Place, path: Path, message: str) -> None:
        """What an alias repeats is told once."""
        if (at, message) in self._told:
            return
        self._told.add((at, message))
        self.problems.append(Problem(at.line, at.column, where(path), message))

    def raise_any(self) -> None:
        if self.problems:
            raise InvalidDocument(self.problems)


def where(path: Path) -> str:
    """A path as people write it. The list at the root is that of the steps."""
    if path and isinstance(path[0], int):
        path = ("steps", *path)
    parts = (f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path)
    return "".join(parts).removeprefix(".")

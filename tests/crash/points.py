"""Where a process can be killed: a write, numbered within its job's life, and the moment before, in or after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

OPERATOR, API = "operator", "api"


class Moment(StrEnum):
    """When the process dies, seen from its server."""

    BEFORE = "before"
    """The server never hears of the call."""
    CALLED = "called"
    """The server has done it; the reply never arrives."""
    REPLIED = "replied"
    """The reply has arrived; nothing else is written any more."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """One kind of write by one process: `operator`, `status Booting (bind)`."""

    process: str
    what: str

    def __str__(self) -> str:
        return f"{self.process} {self.what}"

    @property
    def asks(self) -> bool:
        """It changes nothing at its server."""
        return self.what.startswith(ASKING)


@dataclass(frozen=True, slots=True, order=True)
class Write:
    """The n-th write of its kind, from 1, in the part of a job's life that a scenario is about."""

    kind: Kind
    ordinal: int

    def __str__(self) -> str:
        return f"{self.kind} #{self.ordinal}"


@dataclass(frozen=True, slots=True)
class Point:
    """One crash to try."""

    scenario: str
    write: Write
    moment: Moment

    def __str__(self) -> str:
        return f"{self.scenario}: {self.write}, {self.moment}"


CONTEXT_FREE = ("PutItem", "DeleteMessageBatch", "PUT leases", "POST leases", "event")
"""Writes whose like is written all the time, or for every change: which one of them fails makes no difference."""
ASKING = ("Describe", "Get", "List", "Query", "Scan", "BatchGet", "ReceiveMessage", "Head")
"""What the names of AWS actions that change nothing begin with; receiving hides a message and hands it out again."""


def numbered(kinds: Iterable[Kind], most: int, known: Collection[Kind] = ()) -> list[Write]:
    """Kinds as they were seen one after another, as the writes to try: `most` of each kind in one life.

    `known` are tried in other scenarios already.
    """
    seen: Counter[Kind] = Counter()
    writes = []
    for kind in kinds:
        seen[kind] += 1
        context_free = kind.what.startswith(CONTEXT_FREE)
        once = context_free or kind.asks
        if seen[kind] <= (1 if context_free else most) and not (once and kind in known):
            writes.append(Write(kind, seen[kind]))
    return writes


def points(scenario: str, writes: Iterable[Write]) -> list[Point]:
    """Three for each write. One for each question: its server is the same before and after."""
    return [Point(scenario, write, moment) for write in writes for moment in moments(write.kind)]


def moments(kind: Kind) -> list[Moment]:
    return [Moment.CALLED] if kind.asks else list(Moment)

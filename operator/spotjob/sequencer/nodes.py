"""A YAML file as a tree in which every key and value knows its position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spotjob.core.sequence.model_faults import Path
from spotjob.sequencer.problems import Place
from spotjob.sequencer.scalars import Value


@dataclass(frozen=True, slots=True)
class Scalar:
    """A value without parts."""

    at: Place
    value: Value
    text: str
    """As it is written, without its quotes."""
    plain: bool = False
    """Not in quotes, and no block of text."""
    known: bool = True
    """False: its value is known only when the run has come to it, or what is wrong with it was told already."""


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    at: Place
    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping, and its value. `at` is the position of the key."""

    at: Place
    key: str
    value: Node


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping, in the order of the file."""

    at: Place
    entries: tuple[Entry, ...] = ()

    def get(self, key: str) -> Entry | None:
        return next((entry for entry in self.entries if entry.key == key), None)


Node = Scalar | Items | Entries


def data(node: Node) -> Any:
    """As JSON data. A key without a value counts as absent, as it did in the Ruby SDK."""
    match node:
        case Scalar():
            return node.value
        case Items():
            return [data(item) for item in node.items]
        case Entries():
            return {e.key: data(e.value) for e in node.entries if not is_null(e.value)}


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.value is None


def scalars(node: Node, path: Path = ()) -> Iterator[tuple[Path, Scalar]]:
    """Every value without parts below a node."""
    match node:
        case Scalar():
            yield path, node
        case Items():
            for place, item in enumerate(node.items):
                yield from scalars(item, (*path, place))
        case Entries():
            for entry in node.entries:
                yield from scalars(entry.value, (*path, entry.key))


def locate(at: Place, node: Node, path: Path) -> tuple[Place, Node]:
    """Where a path leads below a node that stands at `at`: as far as it exists, keys before values."""
    for part in path:
        if isinstance(node, Entries) and (entry := node.get(str(part))):
            at, node = entry.at, entry.value
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
            at = node.at
        else:
            break
    return at, node

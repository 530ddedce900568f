"""A sequence from its YAML file: the old tool's list of steps, or a mapping with `steps`, checked as a whole.

Nothing has run when this is through: whatever is wrong anywhere in the file is told at once, with line and column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from spotjob.core.sequence.model_faults import Path, invalid
from spotjob.core.sequence.spelling import unknown
from spotjob.core.sequence.steps import MOST_STEPS, Sequence, Step, When
from spotjob.sequencer.nodes import Entries, Items, Node, Scalar, data, is_null, locate
from spotjob.sequencer.problems import Findings, InvalidDocument, Place, Problem
from spotjob.sequencer.reading import read_tree
from spotjob.sequencer.spot_job import ReadFile
from spotjob.sequencer.step import StepReader
from spotjob.sequencer.substitution import Substitution

__all__ = ["Document", "InvalidDocument", "Problem", "read_document"]

KEYS = ("steps", "timeout_seconds", "on_failure")
A_SEQUENCE = "a sequence is a list of steps, or a mapping with a list `steps`"


@dataclass(frozen=True, slots=True)
class Document:
    """A file that can be run."""

    sequence: Sequence
    digest: str
    """sha256 of the text, in hex."""
    results_used: frozenset[str]
    """Names of the steps whose result a later step refers to."""


def read_document(
    text: str,
    names: Mapping[str, str],
    *,
    given: Collection[str] = (),
    read_file: ReadFile | None = None,
) -> Document:
    """The sequence in `text`, with the variables `names` put in. Raises InvalidDocument with all problems.

    `given` are those names that may be offered for a misspelt one: the ones of --set, never the environment's.
    `read_file` gives the text of a file by its path relative to the sequence (raises OSError, ValueError); without
    it `job:` cannot be used.
    """
    found = Findings()
    root = read_tree(text, found)
    if root is None:
        found.raise_any()
    else:
        root = Substitution(names, given, found).into(root)
    reader = StepReader(found, read_file)
    sequence = _sequence(root, reader)
    found.raise_any()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Document(sequence, digest, frozenset(reader.results_used))


def _sequence(root: Node | None, reader: StepReader) -> Sequence:
    found = reader.found
    match root:
        case Items():
            return Sequence(steps=_steps(root, (), When.SUCCESS, reader))
        case Entries():
            return _mapping(root, reader)
        case Scalar() if not is_null(root):
            found.add(root.at, (), f"{A_SEQUENCE}; this is neither")
        case _:
            found.add(Place(1, 1), (), f"the file is empty; {A_SEQUENCE}, and [] is one without steps")
    return Sequence()


def _mapping(root: Entries, reader: StepReader) -> Sequence:
    """`steps`, and what concerns all of them."""
    found = reader.found
    if root.get("steps") is None:
        found.add(root.at, (), f"{A_SEQUENCE}; put `- ` before the name of each step")
        return Sequence()
    for entry in root.entries:
        if entry.key not in KEYS:
            found.add(entry.at, (entry.key,), unknown(entry.key, KEYS))
    steps = _list(root, "steps", When.SUCCESS, reader) + _list(root, "on_failure", When.FAILURE, reader)
    timeout = data(root).get("timeout_seconds")
    options = {} if timeout is None else {"timeout_seconds": timeout}
    for path, message in invalid(Sequence, options):
        at, _ = locate(root.at, root, path)
        found.add(at, path, message)
    return Sequence() if found.problems else Sequence(steps=steps, timeout_seconds=timeout)


def _list(root: Entries, key: str, when: When, reader: StepReader) -> tuple[Step, ...]:
    entry = root.get(key)
    if entry is None:
        return ()
    if not isinstance(entry.value, Items):
        reader.found.add(entry.at, (key,), "must be a list of steps")
        return ()
    return _steps(entry.value, (key,), when, reader)


def _steps(items: Items, path: Path, when: When, reader: StepReader) -> tuple[Step, ...]:
    room = MOST_STEPS - len(reader.earlier)
    if len(items.items) > room:
        reader.found.add(items.items[room].at, (*path, room), f"a sequence has at most {MOST_STEPS} steps")
    read = (reader.read(node, (*path, place), when) for place, node in enumerate(items.items))
    return tuple(step for step in read if step is not None)

"""`${steps.extract.result.rows}` in a file: whether the step that a reference names comes before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from spotjob.core.sequence.references import PLACEHOLDER, WELL_FORMED
from spotjob.core.sequence.spelling import nearest, shown
from spotjob.sequencer.nodes import Entries, Items, Node, Scalar


def references(scalar: Scalar) -> list[str]:
    """What stands between `${` and `}`, for each, once the variables are put in."""
    text = scalar.value if isinstance(scalar.value, str) else ""
    return [found["inner"] for found in PLACEHOLDER.finditer(text) if found["inner"] is not None]


def marked(entries: Entries) -> Entries:
    """The mapping, with every value that holds a reference as one that is not known yet."""
    return replace(entries, entries=tuple(replace(e, value=_marked(e.value)) for e in entries.entries))


def _marked(node: Node) -> Node:
    match node:
        case Scalar():
            return replace(node, known=False) if references(node) else node
        case Items():
            return replace(node, items=tuple(map(_marked, node.items)))
        case Entries():
            return marked(node)


def result_of(reference: str) -> str | None:
    """The step whose result is meant; None when it is its exit code, or nothing."""
    found = WELL_FORMED.fullmatch(reference)
    return found["name"] if found and found["what"] != "exit_code" else None


def wrong(reference: str, earlier: Sequence[str]) -> str:
    """What is wrong with a reference in the step that follows `earlier`; empty when nothing is."""
    found = WELL_FORMED.fullmatch(reference)
    if found is None:
        return f"${{{shown(reference)}}} has to be written as ${{steps.NAME.result.KEY}} or ${{steps.NAME.exit_code}}"
    if found["name"] in earlier:
        return ""
    near = nearest(found["name"], earlier)
    choices = f", did you mean {near}?" if near else f"; before it: {', '.join(earlier[-10:]) or 'none'}"
    return f"no step before this one is named {shown(found['name'])}{choices}"

"""From text to nodes.

Built from PyYAML's events and not from its own nodes: so that tags that were written are told from those that were
guessed, depth is bounded, and what aliases multiply is counted before it is made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from spotjob.core.sequence.model_faults import Path
from spotjob.core.sequence.spelling import shown
from spotjob.sequencer.nodes import Entries, Entry, Items, Node, Scalar
from spotjob.sequencer.problems import Findings, Place
from spotjob.sequencer.scalars import Value, resolve

MOST_BYTES = 1 << 20
MOST_DEPTH = 64
MOST_REPEATED = 1 << 20
"""Characters and nodes that aliases may add."""
MERGE = "<<"

TAG = "tag:yaml.org,2002:"
SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    **{f"{TAG}str": (str,), f"{TAG}null": (type(None),), f"{TAG}bool": (bool,)},
    **{f"{TAG}int": (int,), f"{TAG}float": (float, int)},
}


def read_tree(text: str, found: Findings) -> Node | None:
    """The one document in a text; None when there is none, or it breaks off. What is wrong with it goes to `found`."""
    if not _readable(text, found):
        return None
    builder = _Builder(found)
    loader = yaml.SafeLoader(text)
    try:
        while loader.check_event() and builder.take(loader.get_event()):  # type: ignore[no-untyped-call]
            pass
    except yaml.MarkedYAMLError as error:
        found.add(_place(error.problem_mark or error.context_mark), builder.path(), _not_yaml(error, text))
    except (ValueError, OverflowError):  # PyYAML reads escapes such as \UFFFFFFFF without asking whether they exist
        found.add(_place(loader.get_mark()), builder.path(), "not YAML: no such character or number exists")
    finally:
        loader.dispose()
    return builder.root


def _readable(text: str, found: Findings) -> bool:
    if len(text.encode(errors="surrogatepass")) > MOST_BYTES:
        found.add(Place(1, 1), (), "the file is larger than 1 MiB")
        return False
    for odd in yaml.reader.Reader.NON_PRINTABLE.finditer(text):
        found.add(place_of(text, odd.start()), (), f"the character U+{ord(odd[0]):04X} is not allowed in YAML")
    return not found.problems


def place_of(text: str, index: int) -> Place:
    """The position of a character. Lines end where YAML says so."""
    before = text[:index].replace("\r\n", "\n")
    for end in "\r\x85\u2028\u2029":
        before = before.replace(end, "\n")
    return Place(before.count("\n") + 1, len(before) - before.rfind("\n"))


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _not_yaml(error: yaml.MarkedYAMLError, text: str) -> str:
    said = f"not YAML: {error.problem}" + (f" {error.context}" if error.context else "")
    mark = error.problem_mark
    if mark is not None and mark.index is not None and text[max(mark.index - 1, 0) : mark.index + 1] == "${":
        return "not YAML: between brackets a ${...} has to stand in quotes"
    return said


@dataclass(slots=True)
class _Open:
    """A list or mapping that has begun."""

    at: Place
    anchor: str | None
    is_map: bool
    parts: list[Node] = field(default_factory=list)
    """Of a mapping: keys and values in turn."""
    weight: int = 1

    def key(self) -> str | int:
        if not self.is_map:
            return len(self.parts)
        last = self.parts[-1 - (len(self.parts) + 1) % 2] if self.parts else None
        return last.text if isinstance(last, Scalar) else ""


class _Builder:
    """Makes the tree from events, without recursion."""

    def __init__(self, found: Findings) -> None:
        self.found = found
        self.root: Node | None = None
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int] | None] = {}
        """By name, the node and its weight; None while it is not complete."""
        self.repeated = 0
        self.documents = 0

    def path(self) -> Path:
        return tuple(frame.key() for frame in self.open)

    def take(self, event: Any) -> bool:
        """False: the rest is not read."""
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                return self.documents < 2 or self._stop(event, "a second document begins; one file is one sequence")
            case yaml.ScalarEvent():
                self._deliver(self._scalar(event), 1 + len(event.value), event.anchor)
            case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                return self._begin(event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                frame = self.open.pop()
                self._deliver(self._closed(frame), frame.weight, frame.anchor)
            case yaml.AliasEvent():
                return self._alias(event)
        return True

    def _stop(self, event: Any, message: str) -> bool:
        self.found.add(_place(event.start_mark), self.path(), message)
        return False

    def _begin(self, event: Any) -> bool:
        is_map = isinstance(event, yaml.MappingStartEvent)
        if len(self.open) >= MOST_DEPTH:
            return self._stop(event, f"more than {MOST_DEPTH} levels deep")
        if event.tag not in (None, "!", f"{TAG}{'map' if is_map else 'seq'}"):
            self.found.add(_place(event.start_mark), self.path(), f"the tag {shown(event.tag)} is not taken")
        if event.anchor:
            self.anchors[event.anchor] = None
        self.open.append(_Open(_place(event.start_mark), event.anchor, is_map))
        return True

    def _deliver(self, node: Node, weight: int, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (node, weight)
        if not self.open:
            self.root = node
            return
        self.open[-1].parts.append(node)
        self.open[-1].weight += weight

    def _alias(self, event: Any) -> bool:
        kept = self.anchors.get(event.anchor)
        if kept is None:
            why = "stands inside itself" if event.anchor in self.anchors else "is not known"
            self.found.add(_place(event.start_mark), self.path(), f"the alias *{shown(event.anchor)} {why}")
            kept = (Scalar(_place(event.start_mark), "", "", known=False), 1)
        node, weight = kept
        self.repeated += weight
        if self.repeated > MOST_REPEATED:
            return self._stop(event, "the aliases of the file repeat more than 1 MiB")
        self._deliver(node, weight, None)
        return True

    def _scalar(self, event: Any) -> Scalar:
        at, text = _place(event.start_mark), event.value
        if any("\ud800" <= character <= "\udfff" for character in text):
            self.found.add(at, self.path(), "half a character: a \\u escape between D800 and DFFF")
            return Scalar(at, "", "", known=False)
        plain = not event.style
        if event.tag in (None, "!"):
            return Scalar(at, resolve(text) if plain and event.tag is None else text, text, plain)
        value: Value = text if event.tag == f"{TAG}str" else resolve(text)
        if isinstance(value, SCALAR_TAGS.get(event.tag, ())):
            return Scalar(at, value, text)
        self.found.add(at, self.path(), f"the tag {shown(event.tag)} is not taken here")
        return Scalar(at, "", "", known=False)

    # ---- mappings ----

    def _closed(self, frame: _Open) -> Node:
        if not frame.is_map:
            return Items(frame.at, tuple(frame.parts))
        path = self.path()
        entries: dict[str, Entry] = {}
        for key, value in zip(frame.parts[::2], frame.parts[1::2], strict=True):
            if not isinstance(key, Scalar):
                self.found.add(key.at, path, "a key has to be text")
            elif key.text in entries:
                first = entries[key.text].at.line
                self.found.add(key.at, (*path, key.text), f"{shown(key.text)} is there already, in line {first}")
            else:
                entries[key.text] = Entry(key.at, key.text, value)
        if MERGE in entries:
            merge = entries.pop(MERGE)
            entries = {**self._merged(merge, path), **entries}
        return Entries(frame.at, tuple(entries.values()))

    def _merged(self, merge: Entry, path: Path) -> dict[str, Entry]:
        """`<<: *defaults`: the keys of other mappings; the first of several wins."""
        sources = merge.value.items if isinstance(merge.value, Items) else (merge.value,)
        merged: dict[str, Entry] = {}
        for source in sources:
            if not isinstance(source, Entries):
                self.found.add(merge.at, (*path, MERGE), "<< takes a mapping, or a list of mappings")
                continue
            merged = {**{entry.key: entry for entry in source.entries}, **merged}
        return merged

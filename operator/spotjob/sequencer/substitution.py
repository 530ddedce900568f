"""`${NAME}` in the values of a file: variables of the environment and of --set, put in before anything is checked.

What is put in is data. It never becomes structure, nor a reference to a result, and no message shows it.

| written | becomes |
|---|---|
| `${NAME}`, alone and not in quotes | the value, read as a YAML scalar: `count: ${COUNT}` is a number |
| `${NAME}` in quotes or in a longer text | the value as text |
| `${steps.extract.result.rows}` | stays: core/sequence/references.py puts it in when the run has come there |
| `$${` | a plain `${` |
| `$NAME`, `${NAME:-x}` and whatever else a shell reads | itself |

A plain `${` leaves this module as `$${`: parameters are in the language of core/sequence/references.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from spotjob.core.sequence.model_faults import Path
from spotjob.core.sequence.spelling import nearest, shown
from spotjob.sequencer.nodes import Entries, Items, Node, Scalar
from spotjob.sequencer.problems import Findings
from spotjob.sequencer.scalars import Value, resolve

NAMED = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
BRACE = re.compile(rf"\$\$\{{|{NAMED.pattern}|(\$\{{steps\.[^{{}}]*\}})|(\$\{{steps\.)|\$\{{")
"""A `${` of any kind: literal, a variable, a result, the beginning of one without its end, or a shell's."""
MOST_PUT_IN = 4 << 20
"""Characters, in the whole file."""


@dataclass(slots=True)
class Substitution:
    """Puts `names` into nodes. Only those of `given` (by --set) are ever offered: nobody reads the environment here."""

    names: Mapping[str, str]
    given: Collection[str]
    found: Findings
    put_in: int = 0

    def into(self, node: Node, path: Path = ()) -> Node:
        match node:
            case Scalar():
                return self._scalar(node, path)
            case Items():
                return replace(node, items=tuple(self.into(item, (*path, n)) for n, item in enumerate(node.items)))
            case Entries():
                entries = (replace(e, value=self.into(e.value, (*path, e.key))) for e in node.entries)
                return replace(node, entries=tuple(entries))

    def _scalar(self, scalar: Scalar, path: Path) -> Scalar:
        if not isinstance(scalar.value, str) or "${" not in scalar.value:
            return scalar
        wrong = self._wrong(scalar.value)
        for message in wrong:
            self.found.add(scalar.at, path, message)
        if wrong:
            return replace(scalar, known=False)
        return replace(scalar, value=self._value(scalar.value, scalar.plain))

    def _wrong(self, text: str) -> list[str]:
        """Why the variables of a text cannot be put in."""
        braces = list(BRACE.finditer(text))
        used = [brace[1] for brace in braces if brace[1]]
        wrong = [f"${{{shown(name)}}} is not set{self._perhaps(name)}" for name in used if name not in self.names]
        wrong += [f"${{{name}}} is not UTF-8" for name in used if not _whole(self.names.get(name, ""))]
        if any(brace[3] for brace in braces):
            wrong.append("a ${steps. has to end with }, and holds no other ${")
        self.put_in += sum(len(self.names.get(name, "")) for name in used)
        if self.put_in > MOST_PUT_IN:
            wrong.append("variables put more than 4 MiB into the file")
        return wrong

    def _value(self, text: str, plain: bool) -> Value:
        alone = NAMED.fullmatch(text)
        if plain and alone and self.names[alone[1]]:
            value = resolve(self.names[alone[1]])
            return as_data(value) if isinstance(value, str) else value
        return BRACE.sub(self._put_in, text)

    def _put_in(self, found: re.Match[str]) -> str:
        if found[1]:
            return as_data(self.names[found[1]])
        return found[0] if found[2] else "$${"

    def _perhaps(self, name: str) -> str:
        near = nearest(name, self.given)
        return f", did you mean ${{{near}}}?" if near else ""


def _whole(value: str) -> bool:
    """Bytes of the environment that are no UTF-8 are halves of characters in Python."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def as_data(value: str) -> str:
    """A text without references: what looks like one stands for itself."""
    return value.replace("${", "$${")

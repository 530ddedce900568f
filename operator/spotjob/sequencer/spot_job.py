"""The parameters of a spot_job step: the spec of a SpotJob, in the file itself or in a manifest beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spotjob.core.sequence.spot_spec import spec_faults
from spotjob.core.wire import API_VERSION
from spotjob.sequencer.nodes import Entries, Node, data, locate
from spotjob.sequencer.problems import Findings, Place
from spotjob.sequencer.reading import read_tree
from spotjob.sequencer.substitution import as_data

ReadFile = Callable[[str], str]
"""The text of a file, by its path relative to the sequence. Raises OSError, ValueError."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The spec of a file, and what is wrong with it, with positions of that file in the messages."""

    spec: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_manifest(path: str, read_file: ReadFile) -> Manifest:
    """A SpotJob manifest as kubectl takes it: nothing is substituted in it, its container may have use for `${`."""
    try:
        text = read_file(path)
    except OSError as error:
        return Manifest(problems=(f"cannot be read: {error.strerror or error}",))
    except UnicodeError:
        return Manifest(problems=("is not UTF-8",))
    except ValueError:  # a NUL
        return Manifest(problems=("is no path of a file",))
    found = Findings()
    root = read_tree(text, found)
    spec = {} if found.problems else _spec(root, found)
    problems = sorted(found.problems)
    return Manifest(spec, tuple(f"line {p.line}, column {p.column}: {_said(p.where, p.message)}" for p in problems))


def _said(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _spec(root: Node | None, found: Findings) -> dict[str, Any]:
    """The spec of a manifest that is one."""
    manifest = data(root) if isinstance(root, Entries) else {}
    if root is None or manifest.get("apiVersion") != API_VERSION or manifest.get("kind") != "SpotJob":
        found.add(Place(1, 1), (), f"is not a SpotJob of {API_VERSION}")
        return {}
    spec = manifest.get("spec")
    if not isinstance(spec, dict):
        found.add(Place(1, 1), ("spec",), "is missing, or no mapping")
        return {}
    for path, message in spec_faults(spec):
        at, _ = locate(root.at, root, ("spec", *path))
        found.add(at, ("spec", *path), message)
    literal: dict[str, Any] = _literal(spec)
    return literal


def _literal(value: Any) -> Any:
    """Parameters in which every `${` stands for itself."""
    if isinstance(value, str):
        return as_data(value)
    if isinstance(value, dict):
        return {key: _literal(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_literal(each) for each in value]
    return value

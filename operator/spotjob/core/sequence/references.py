"""`${steps.extract.result.rows}` in the parameters of a step: what an earlier step said, put in. Pure.

    ${steps.NAME.result}          the whole JSON object that the step logged last
    ${steps.NAME.result.a.0.b}    a value within it; numbers are places in a list, from 0
    ${steps.NAME.exit_code}       the exit code of its only container
    $${                           a literal ${

A string that is one reference and nothing else becomes the value itself, of any JSON type; within a longer string the
value is put in as text. What was put in is not looked at again, so no result can refer to anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from spotjob.core.sequence.runs import Run, StepRun

Reference = tuple[str, ...]
"""(name of the step, `result`, keys...) or (name of the step, `exit_code`)."""

PLACEHOLDER = re.compile(r"\$\$\{|\$\{(?P<inner>[^}]*)\}")
WELL_FORMED = re.compile(r"steps\.(?P<name>.+?)\.(?P<what>exit_code|result(?P<keys>(?:\.[^.]+)*))")


class Unresolved(Exception):
    """A reference that nothing answers; the text names it, and what there is."""


def resolve(parameters: Mapping[str, Any], run: Run, place: int) -> dict[str, Any]:
    """The parameters with every reference to a step before `place` replaced. Raises Unresolved."""
    return {key: _resolved(value, run, place) for key, value in parameters.items()}


def references(parameters: Any) -> frozenset[Reference]:
    """Every reference in a text, list or mapping. Raises Unresolved for what looks like one and is none."""
    return frozenset(
        _parsed(match) for text in _texts(parameters) for match in PLACEHOLDER.finditer(text) if _refers(match)
    )


def is_reference(text: str) -> bool:
    """The text is one reference and nothing else, so that it may become a value of any type."""
    match = PLACEHOLDER.fullmatch(text)
    return match is not None and _refers(match)


def has_reference(text: str) -> bool:
    """What the text will be is not known before the steps before it have run."""
    return any(_refers(match) for match in PLACEHOLDER.finditer(text))


def _refers(match: re.Match[str]) -> bool:
    return match["inner"] is not None


def _parsed(match: re.Match[str]) -> Reference:
    parts = WELL_FORMED.fullmatch(match["inner"])
    if parts is None:
        known = "${steps.NAME.result.KEY} and ${steps.NAME.exit_code}"
        raise Unresolved(f"{match.group()} is not known: there are {known}, and $${{ stands for ${{")
    if parts["what"] == "exit_code":
        return parts["name"], "exit_code"
    return parts["name"], "result", *parts["keys"].split(".")[1:]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)


# ---- values ---------------------------------------------------------------------------------------------------------


def _resolved(value: Any, run: Run, place: int) -> Any:
    if isinstance(value, str):
        return _filled(value, run, place)
    if isinstance(value, Mapping):
        return {key: _resolved(each, run, place) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_resolved(each, run, place) for each in value]
    return value


def _filled(text: str, run: Run, place: int) -> Any:
    whole = PLACEHOLDER.fullmatch(text)
    if whole is not None and _refers(whole):
        return _answer(whole, run, place)
    return PLACEHOLDER.sub(lambda match: _as_text(_answer(match, run, place)) if _refers(match) else "${", text)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _answer(match: re.Match[str], run: Run, place: int) -> Any:
    name, what, *keys = _parsed(match)
    at = _nearest(match.group(), name, run, place)
    return _exit_code(match.group(), at) if what == "exit_code" else _within(match.group(), at, keys)


def _nearest(text: str, name: str, run: Run, place: int) -> StepRun:
    """Names may repeat: the nearest step before this one is meant."""
    before = [at for at in run.steps[:place] if at.name == name]
    if before:
        return before[-1]
    there = ", ".join(dict.fromkeys(at.name for at in run.steps[:place])) or "none"
    raise Unresolved(f"{text}: no step {name} comes before this one; those that do: {there}"[:1024])


def _exit_code(text: str, at: StepRun) -> int:
    if len(at.containers) != 1:
        names = ", ".join(container.name for container in at.containers) or "none"
        raise Unresolved(f"{text}: step {at.name} ({at.state}) has not one container but {names}"[:1024])
    if (code := at.containers[0].exit_code) is None:
        raise Unresolved(f"{text}: container {at.containers[0].name} of step {at.name} has no exit code")
    return code


def _within(text: str, at: StepRun, keys: list[str]) -> Any:
    """The value at the end of `keys` in the step's result."""
    if at.result is None:
        raise Unresolved(f"{text}: step {at.name} ({at.state}) has said no JSON object as its result")
    value: Any = at.result
    for depth, key in enumerate(keys):
        here = ".".join(["result", *keys[:depth]])
        if isinstance(value, list) and key in map(str, range(len(value))):
            value = value[int(key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise Unresolved(f"{text}: {here} of step {at.name} has no {key}; {_held(value)}"[:1024])
    return value


def _held(value: Any) -> str:
    """What there is instead. Values stay out of it: a result may hold what is nobody's business."""
    if isinstance(value, dict):
        return f"it holds {', '.join(value)}" if value else "it is empty"
    if isinstance(value, list):
        return f"it is a list of {len(value)}"
    return "it is a single value"

"""The steps of a JobSequence, checked before the first of them begins. Pure.

The API server knows nothing about `parameters`: those of a spot_job are held against the schema of a SpotJob here,
those of an ecs_task by a check that comes in, since RunTask's model is AWS's.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from spotjob.core.crd import Json, structural
from spotjob.core.sequence.references import Unresolved, is_reference, references
from spotjob.core.sequence.resources import JobSequenceSpec
from spotjob.core.sequence.steps import Sequence, Step
from spotjob.core.spec import SpotJobSpec

Path = tuple[str | int, ...]
Problem = tuple[Path, str]
"""(where, what); the text shows no value, which may be a secret."""
Check = Callable[[Mapping[str, Any]], Iterable[Problem]]
"""Of the parameters of one ecs_task."""


def problems(spec: JobSequenceSpec, of_ecs_task: Check) -> list[str]:
    """Everything that is wrong with the steps, by the path of each fault."""
    first = len(spec.steps)
    found = []
    for place, step in enumerate(steps := (*spec.steps, *spec.on_failure)):
        where: Path = ("steps", place) if place < first else ("onFailure", place - first)
        before = frozenset(each.name for each in steps[:place])
        for path, message in (*_of_step(step, of_ecs_task), *_of_references(step, before)):
            found.append(f"{_text((*where, 'parameters', *path))}: {message}")
    return found


def results_used(sequence: Sequence) -> frozenset[str]:
    """Names of the steps whose result another one is given."""
    return frozenset(name for step in sequence.steps for name, *_ in _references(step))


def _of_step(step: Step, of_ecs_task: Check) -> Iterable[Problem]:
    return of_ecs_task(step.parameters) if step.type == "ecs_task" else of_spot_job(step.parameters)


def _of_references(step: Step, before: frozenset[str]) -> Iterator[Problem]:
    try:
        names = {name for name, *_ in references(step.parameters)}
    except Unresolved as error:
        yield (), str(error)
        return
    for name in sorted(names - before):
        yield (), f"refers to step {name}, and no step of that name comes before this one"


def _references(step: Step) -> frozenset[tuple[str, ...]]:
    try:
        return references(step.parameters)
    except Unresolved:  # the step itself will say so
        return frozenset()


def of_spot_job(parameters: Mapping[str, Any]) -> list[Problem]:
    """What a SpotJob with this spec would be refused for, as far as its schema says. References are let through."""
    return [*_unknown(parameters, _schema(), ()), *_invalid(parameters)]


@cache
def _schema() -> Json:
    return structural(SpotJobSpec)


def _unknown(value: Any, schema: Json, path: Path) -> Iterator[Problem]:
    """Keys that the schema does not have, with the nearest one that it has."""
    if isinstance(value, Mapping) and "properties" in schema:
        for key, inner in value.items():
            known = schema["properties"].get(key)
            if known is None:
                yield (*path, str(key)), f"unknown field{_nearest(str(key), schema['properties'])}"
            else:
                yield from _unknown(inner, known, (*path, key))
    if isinstance(value, list | tuple) and "items" in schema:
        for place, inner in enumerate(value):
            yield from _unknown(inner, schema["items"], (*path, place))


def _nearest(key: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(key, known, n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _invalid(parameters: Mapping[str, Any]) -> list[Problem]:
    try:
        SpotJobSpec.model_validate(parameters)
    except ValidationError as error:
        return [
            (each["loc"], each["msg"])
            for each in error.errors(include_url=False, include_context=False)
            if not (isinstance(each["input"], str) and is_reference(each["input"]))
        ]
    return []


def _text(path: Path) -> str:
    """steps[2].parameters.image."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")

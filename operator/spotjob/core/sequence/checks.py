"""The steps of a JobSequence, checked before the first of them begins. Pure.

The API server knows nothing about `parameters`: those of a spot_job are held against all that it holds a SpotJob
against, those of an ecs_task by a check that comes in, since RunTask's model is AWS's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from spotjob.core.sequence.model_faults import Fault, Path
from spotjob.core.sequence.references import Unresolved, has_reference, references
from spotjob.core.sequence.resources import JobSequenceSpec
from spotjob.core.sequence.spot_spec import spec_faults
from spotjob.core.sequence.steps import Sequence, Step

Check = Callable[[Mapping[str, Any]], Iterable[Fault]]
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


def _of_step(step: Step, of_ecs_task: Check) -> Iterable[Fault]:
    return of_ecs_task(step.parameters) if step.type == "ecs_task" else of_spot_job(step.parameters)


def _of_references(step: Step, before: frozenset[str]) -> Iterator[Fault]:
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


def of_spot_job(parameters: Mapping[str, Any]) -> list[Fault]:
    """What a SpotJob with this spec would be refused for. What a result will be is not judged."""
    try:
        return [fault for fault in spec_faults(_without_nulls(parameters)) if not _given_later(parameters, fault[0])]
    except RecursionError:
        return [((), "is nested too deeply")]


def _without_nulls(value: Any) -> Any:
    """As the API server takes it: a key without a value is as one that is absent."""
    if isinstance(value, Mapping):
        return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _given_later(value: Any, path: Path) -> bool:
    """The value at this path, or as near to it as there is one, holds a reference."""
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            break
    return isinstance(value, str) and has_reference(value)


def _text(path: Path) -> str:
    """steps[2].parameters.image."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")

"""The parameters of an ecs_task, checked against botocore's own model of RunTask, and translated for it.

The file has the names of the Ruby SDK, snake_case at every level; botocore's are camelCase. As that SDK did, a whole
number is also taken from text or a float, and a boolean from the text true or false; nothing else is converted. A
member that is null is as one that is absent. Messages never show a value: environment variables may be secrets.

Sources: the ECS API reference, RunTask; the shapes of botocore's model; aws-sdk-ruby's ParamConverter.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from botocore import xform_name
from botocore.session import get_session

from spotjob.core.sequence.model_faults import Fault
from spotjob.core.sequence.references import is_reference

MOST_TASKS = 10
"""RunTask's limit for `count`, which the model does not state."""
FIXED = ("cluster", "count", "started_by")
"""They are needed before any step has run."""
TOKEN = "client_token"  # noqa: S105
STARTED_BY = re.compile(r"[A-Za-z0-9/_-]{1,128}")
BOOLEANS = {"true": True, "false": False}
NUMBER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class ParameterProblem:
    """What is wrong with the parameters, and where."""

    path: tuple[str | int, ...]
    """Keys and, in lists, places from 0, down to the key or value that is wrong; for a missing key, its mapping."""
    message: str


def parameter_faults(parameters: Mapping[str, Any]) -> list[Fault]:
    """Everything that RunTask would refuse, as far as its model tells, and what the Sequencer sets itself."""
    own: list[Fault] = [((TOKEN,), "is set by the Sequencer, a new one for each try")] if TOKEN in parameters else []
    asked = {key: value for key, value in parameters.items() if key != TOKEN}
    return own + [(problem.path, problem.message) for problem in problems(asked)]


def problems(parameters: Mapping[str, Any]) -> list[ParameterProblem]:
    """Whatever RunTask would not take, in the order of the file. References to earlier steps are let through."""
    return [*_of_structure(run_task(), parameters, ()), *_beyond_the_model(parameters)]


def translate(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The request as botocore takes it. What does not fit the model stays as it is, for botocore to refuse."""
    request: dict[str, Any] = _translated(run_task(), parameters)
    return request


@cache
def run_task() -> Any:
    """The shape of RunTask's request."""
    return get_session().get_service_model("ecs").operation_model("RunTask").input_shape


def members_of(shape: Any) -> dict[str, tuple[str, Any]]:
    """By snake_case name: the name in the API, and the shape."""
    return {xform_name(name): (name, member) for name, member in shape.members.items()}


# ---- translation ----------------------------------------------------------------------------------------------------


def _translated(shape: Any, value: Any) -> Any:
    match shape.type_name:
        case "structure" if isinstance(value, Mapping):
            members = members_of(shape)
            known = ((key, *members.get(key, (key, None)), each) for key, each in value.items() if each is not None)
            return {name: _translated(member, each) if member else each for _, name, member, each in known}
        case "list" if isinstance(value, list | tuple):
            return [_translated(shape.member, each) for each in value]
        case "integer" | "long":
            return _whole_number(value)
        case "boolean" if isinstance(value, str):
            return BOOLEANS.get(value, value)
        case "string" if isinstance(value, bool | int | float):  # what an earlier step said; a file has it in quotes
            return json.dumps(value)
        case _:
            return value


def _whole_number(value: Any) -> Any:
    if isinstance(value, float) and abs(value) < 10**18:
        return int(value)
    if isinstance(value, str) and NUMBER.fullmatch(value):
        return int(value)
    return value


# ---- checks ---------------------------------------------------------------------------------------------------------

Path = tuple[str | int, ...]


def _check(shape: Any, value: Any, path: Path) -> Iterator[ParameterProblem]:
    if isinstance(value, str) and is_reference(value):
        return iter(())
    match shape.type_name:
        case "structure":
            return _of_structure(shape, value, path)
        case "list":
            return _of_list(shape, value, path)
        case "string":
            return _of_text(shape, value, path)
        case "integer" | "long":
            return _of_number(shape, value, path)
        case "boolean" if not isinstance(_translated(shape, value), bool):
            return iter([ParameterProblem(path, f"must be true or false, not {_kind(value)}")])
        case _:
            return iter(())


def _of_structure(shape: Any, value: Any, path: Path) -> Iterator[ParameterProblem]:
    if not isinstance(value, Mapping):
        yield ParameterProblem(path, f"must be a mapping, not {_kind(value)}")
        return
    members = members_of(shape)
    for key, each in value.items():
        if key not in members:
            yield ParameterProblem((*path, key), _unknown(key, members))
        elif each is not None:
            yield from _check(members[key][1], each, (*path, key))
    if shape.is_tagged_union and len(value) != 1:
        yield ParameterProblem(path, f"must have exactly one of {', '.join(members)}")
    for name in shape.required_members:
        if value.get(xform_name(name)) is None:
            yield ParameterProblem(path, f"{xform_name(name)} is missing")


def _of_list(shape: Any, value: Any, path: Path) -> Iterator[ParameterProblem]:
    if not isinstance(value, list | tuple):
        yield ParameterProblem(path, f"must be a list, not {_kind(value)}")
        return
    yield from _out_of_bounds(shape, len(value), "entries", path)
    for place, each in enumerate(value):
        yield from _check(shape.member, each, (*path, place))


def _of_text(shape: Any, value: Any, path: Path) -> Iterator[ParameterProblem]:
    if not isinstance(value, str):
        hint = ": put it in quotes" if isinstance(value, bool | int | float) else ""
        yield ParameterProblem(path, f"must be text, not {_kind(value)}{hint}")
        return
    if "${" in value:  # what it will be is not known yet
        return
    yield from _out_of_bounds(shape, len(value), "characters", path)
    if shape.enum and value not in shape.enum:
        yield ParameterProblem(path, f"must be one of {', '.join(shape.enum)}{_nearest(value, shape.enum)}")


def _of_number(shape: Any, value: Any, path: Path) -> Iterator[ParameterProblem]:
    number = _whole_number(value)
    if isinstance(number, bool) or not isinstance(number, int):
        yield ParameterProblem(path, f"must be a whole number, not {_kind(value)}")
        return
    yield from _out_of_bounds(shape, number, "", path)


def _out_of_bounds(shape: Any, size: int, unit: str, path: Path) -> Iterator[ParameterProblem]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield ParameterProblem(path, f"must have at least {low} {unit}" if unit else f"must be at least {low}")
    if high is not None and size > high:
        yield ParameterProblem(path, f"must have at most {high} {unit}" if unit else f"must be at most {high}")


def _unknown(key: Any, members: Mapping[str, tuple[str, Any]]) -> str:
    """`taskDefinition` is the API's name and not that of the file; `task_definitoin` is a slip."""
    own = next((snake for snake, (name, _) in members.items() if str(key).lower() in (name.lower(), snake)), None)
    if own is not None:
        return f"{key} is written {own} here"
    hint = _nearest(str(key), list(members)) or f"; known here: {', '.join(sorted(members))}"
    return f"unknown key {key}{hint}"


def _nearest(word: str, known: list[str]) -> str:
    lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return f"; did you mean {lower[near[0]]}?" if near else ""


def _kind(value: Any) -> str:
    """What a value is, in words and without the value."""
    match value:
        case None:
            return "empty"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case Mapping():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case _:
            return f"a {type(value).__name__}"


# ---- what the model does not say ------------------------------------------------------------------------------------


def _beyond_the_model(parameters: Mapping[str, Any]) -> Iterator[ParameterProblem]:
    for key in FIXED:
        if "${" in str(parameters.get(key, "")):
            yield ParameterProblem((key,), f"{key} cannot come from an earlier step")
    count = _whole_number(parameters.get("count"))
    if isinstance(count, int) and not 1 <= count <= MOST_TASKS:
        yield ParameterProblem(("count",), f"must be from 1 to {MOST_TASKS}")
    started_by = parameters.get("started_by")
    if isinstance(started_by, str) and "${" not in started_by and not STARTED_BY.fullmatch(started_by):
        yield ParameterProblem(("started_by",), "must be 1 to 128 letters, digits, hyphens, slashes or underscores")
    if parameters.get("launch_type") and parameters.get("capacity_provider_strategy"):
        yield ParameterProblem(("launch_type",), "cannot stand beside capacity_provider_strategy")

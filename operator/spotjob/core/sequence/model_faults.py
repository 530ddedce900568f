"""Data against a pydantic model: every error by its path, in the words of people who write YAML. Pure.

The models read leniently (core/wire.py), as an operator has to; a person's file is read strictly: no unknown keys,
no text for a number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from spotjob.core.sequence.references import is_reference
from spotjob.core.sequence.spelling import unknown

Path = tuple[str | int, ...]
"""Keys, and places in lists from 0."""

Fault = tuple[Path, str]
"""A path below the data, and a message. It shows no value, which may be a secret."""

Rules = Mapping[str, Callable[[Any], bool]]
"""By a rule's message, whether data keep it."""

Told = Mapping[str, Any]
"""What pydantic gives with an error: the bounds, the expected values."""

MESSAGES: dict[str, Callable[[Told], str]] = {
    "missing": lambda _: "is missing",
    "bool_type": lambda _: "must be true or false",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "string_type": lambda _: "must be text; a number, true, false, yes and no are text in quotes only",
    "tuple_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "greater_than_equal": lambda told: f"must be at least {told['ge']}",
    "less_than_equal": lambda told: f"must be at most {told['le']}",
    "string_too_short": lambda told: f"must have at least {told['min_length']} character(s)",
    "string_too_long": lambda told: f"must have at most {told['max_length']} characters",
    "too_short": lambda told: f"must have at least {told['min_length']} item(s)",
    "too_long": lambda told: f"must have at most {told['max_length']} items",
    "string_pattern_mismatch": lambda told: f"must match {told['pattern']}",
    "literal_error": lambda told: f"must be {told['expected']}",
    "enum": lambda told: f"must be {told['expected']}",
    "datetime_parsing": lambda _: "must be a time (RFC 3339) such as 2030-01-31T12:00:00Z",
    "datetime_from_date_parsing": lambda _: "must be a time (RFC 3339) such as 2030-01-31T12:00:00Z",
    "datetime_type": lambda _: "must be a time (RFC 3339) such as 2030-01-31T12:00:00Z",
}
"""For each kind of error that the models can make. Pydantic's own texts may quote what they are about."""


def invalid(model: type[BaseModel], data: Mapping[str, Any]) -> list[Fault]:
    """The values in JSON data that the model does not take. No message holds a value.

    Strict JSON mode: a list serves as a tuple and text as a time or an enum, but nothing else is converted.
    """
    try:
        model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        return [(one["loc"], _message(one)) for one in error.errors(include_url=False, include_input=False)]
    return []


def _message(error: ErrorDetails) -> str:
    say = MESSAGES.get(error["type"])
    return say(error.get("ctx", {})) if say else "is not allowed here"


def against_rules(model: type[BaseModel], data: Mapping[str, Any], holds: Rules) -> list[Fault]:
    """The rules over several fields, in the schema of a wire type, that JSON data breaks."""
    schema = _schema(model)
    return list(_broken_rules(schema, schema.get("$defs", {}), data, (), holds))


def against_schema(model: type[BaseModel], data: Mapping[str, Any]) -> list[Fault]:
    """What only the schema of a wire type tells: unknown keys, quantities, and what may not be there twice."""
    schema = _schema(model)
    return list(_against(schema, schema.get("$defs", {}), data, ()))


@cache
def _schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """It takes longer to make than everything else here takes."""
    return model.model_json_schema(by_alias=True)


def _against(schema: Mapping[str, Any], definitions: Mapping[str, Any], data: Any, path: Path) -> Iterator[Fault]:
    schema = _meant(schema, definitions)
    if schema.get("x-kubernetes-int-or-string") and not _is_quantity(data, schema["pattern"]):
        yield path, "must be a quantity above zero, such as 2, 500m or 4Gi"
    if isinstance(data, Mapping) and "properties" in schema:
        known = schema["properties"]
        yield from (((*path, key), unknown(key, known)) for key in data if key not in known)
    if isinstance(data, list) and "x-kubernetes-list-map-keys" in schema:
        yield from _repeated(schema["x-kubernetes-list-map-keys"], data, path)
    for part, inner, value in _parts(schema, data):
        yield from _against(inner, definitions, value, (*path, part))


def _repeated(keys: Iterable[str], data: Iterable[Any], path: Path) -> Iterator[Fault]:
    """Items of a list that is a map by these keys, and that has them already."""
    known = []
    for place, item in enumerate(data):
        name = [item.get(key) for key in keys] if isinstance(item, Mapping) else None
        if name is not None and name in known:
            yield (*path, place), f"has the same {' and '.join(keys)} as an earlier one"
        known.append(name)


def _is_quantity(data: Any, pattern: str) -> bool:
    return type(data) in (int, str) and re.search(pattern, str(data)) is not None


def _parts(schema: Mapping[str, Any], data: Any) -> Iterator[tuple[str | int, Mapping[str, Any], Any]]:
    """(key or place, its schema, its value) of what is known inside a mapping or list."""
    if isinstance(data, Mapping):
        known = schema.get("properties", {})
        yield from ((key, known[key], value) for key, value in data.items() if key in known)
    elif isinstance(data, list) and "items" in schema:
        yield from ((place, schema["items"], item) for place, item in enumerate(data))


def _broken_rules(
    schema: Mapping[str, Any], definitions: Mapping[str, Any], data: Any, path: Path, holds: Rules
) -> Iterator[Fault]:
    schema = _meant(schema, definitions)
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" not in rule["rule"] and not _holds(holds[rule["message"]], data):
            yield (*path, *rule.get("fieldPath", "").split(".")[1:]), rule["message"]
    for part, inner, value in _parts(schema, data):
        yield from _broken_rules(inner, definitions, value, (*path, part), holds)


def _holds(rule: Callable[[Any], bool], data: Any) -> bool:
    """Whether data keep a rule, as far as it can be told: results come later, and wrong types are told of elsewhere."""
    values = data.values() if isinstance(data, Mapping) else [data]
    if any(isinstance(value, str) and is_reference(value) for value in values):
        return True
    try:
        return rule(data)
    except (TypeError, AttributeError):
        return True


def _meant(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Through references, and `T | None`, to the schema with the properties."""
    while True:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].rpartition("/")[2]]
        elif "anyOf" in schema:
            schema = next((one for one in schema["anyOf"] if one.get("type") != "null"), {})
        else:
            return schema

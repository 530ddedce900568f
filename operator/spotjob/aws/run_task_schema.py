"""The parameters of an ecs_task as JSON Schema, for editors. The rules are those of run_task_model.problems."""

from __future__ import annotations

from typing import Any

from spotjob.aws.run_task_model import MOST_TASKS, members_of, run_task

Json = dict[str, Any]

SET_BY_THE_SEQUENCER = ("client_token",)
LATER = r"\$\{"
"""In a value: it is known only when variables, or results of earlier steps, are put in."""


def run_task_schema() -> Json:
    """JSON Schema (draft 7) of a RunTask request in snake_case."""
    schema = _structure(run_task())
    for key in SET_BY_THE_SEQUENCER:
        del schema["properties"][key]
    schema["properties"]["count"] |= {"minimum": 1, "maximum": MOST_TASKS}
    return schema


def _structure(shape: Any) -> Json:
    members = members_of(shape)
    schema: Json = {"type": "object", "additionalProperties": False}
    schema["properties"] = {key: _value(member) for key, (_, member) in members.items()}
    required = sorted(key for key, (name, _) in members.items() if name in shape.required_members)
    return schema | ({"required": required} if required else {})


def _value(shape: Any) -> Json:
    match shape.type_name:
        case "structure":
            return _or_text(_structure(shape), r"^\$\{steps\.")
        case "list":
            bounds = _bounds(shape, "minItems", "maxItems")
            return _or_text({"type": "array", "items": _value(shape.member), **bounds}, r"^\$\{steps\.")
        case "integer" | "long":
            return {"type": ["integer", "string"], "pattern": rf"^[+-]?[0-9]+$|{LATER}"} | _bounds(
                shape, "minimum", "maximum"
            )
        case "boolean":
            return _or_text({"type": "boolean"}, rf"^(true|false)$|{LATER}")
        case _ if shape.enum:
            return _or_text({"enum": list(shape.enum)}, LATER)
        case _:
            return {"type": "string", **_bounds(shape, "minLength", "maxLength")}


def _bounds(shape: Any, low: str, high: str) -> Json:
    known = {low: shape.metadata.get("min"), high: shape.metadata.get("max")}
    return {key: value for key, value in known.items() if value is not None}


def _or_text(schema: Json, pattern: str) -> Json:
    return {"anyOf": [schema, {"type": "string", "pattern": pattern}]}

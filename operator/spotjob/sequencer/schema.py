"""The grammar of a sequence as JSON Schema, for editors: completion, and most of the mistakes while they are made.

    python -m spotjob.sequencer.schema > docs/sequencer.schema.json

It is a little narrower than what is read: keys without a value, and a `type` that is a variable, are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from spotjob.aws.run_task_schema import LATER, run_task_schema
from spotjob.core.crd import structural
from spotjob.core.sequence.spot_spec import SHORTEST_TTL_SECONDS
from spotjob.core.sequence.steps import MOST_STEPS, Sequence, Step
from spotjob.core.spec import SpotJobSpec
from spotjob.core.wire import wire_name
from spotjob.sequencer.step import ECS_ONLY, JOB, KEYS

Json = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
KEPT_BESIDE = ("description", "default")
"""Keywords that say nothing about what is valid."""


def schema() -> Json:
    """JSON Schema (draft 7) of a whole file."""
    steps = {"$ref": "#/definitions/steps"}
    timeout = _for_people(structural(Sequence)["properties"]["timeoutSeconds"])
    whole = {
        "type": "object",
        "additionalProperties": False,
        "required": ["steps"],
        "properties": {"steps": steps, "timeout_seconds": timeout, "on_failure": steps},
    }
    return {
        "$schema": DRAFT,
        "title": "Sequence",
        "description": "Ordered steps of ECS tasks and SpotJobs, for the command sequencer.",
        "anyOf": [steps, whole],
        "definitions": {
            "steps": {"type": "array", "maxItems": MOST_STEPS, "items": _named_step()},
            "step": _step(),
            "ecs_task": _ecs_task(),
            "spot_job": _spot_job(),
        },
    }


def _named_step() -> Json:
    inner = {"$ref": "#/definitions/step"}
    return {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": inner}


def _step() -> Json:
    """The error of an editor is about the type that was meant."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": ["ecs_task", "spot_job"]}},
        "if": {"properties": {"type": {"const": "spot_job"}}},
        "then": {"$ref": "#/definitions/spot_job"},
        "else": {"$ref": "#/definitions/ecs_task"},
    }


def _ecs_task() -> Json:
    properties = {"type": {"const": "ecs_task"}, "parameters": run_task_schema(), **_options(KEYS)}
    return {"properties": properties, "required": ["parameters"], "additionalProperties": False}


def _spot_job() -> Json:
    properties = {
        "type": {"const": "spot_job"},
        "parameters": _spec(),
        JOB: {"type": "string", "description": "Path of a SpotJob manifest, relative to this file."},
        **_options(key for key in KEYS if key not in ECS_ONLY),
    }
    either = [{"required": ["parameters"]}, {"required": [JOB]}]
    return {"properties": properties, "oneOf": either, "additionalProperties": False}


def _options(keys: Iterable[str]) -> Json:
    """What a step has beside its type and parameters."""
    properties = structural(Step)["properties"]
    return {key: _for_people(properties[wire_name(key)]) for key in keys if key not in ("type", "parameters")}


def _spec() -> Json:
    spec = _for_people(structural(SpotJobSpec))["anyOf"][0]
    spec["properties"]["ttlSecondsAfterFinished"]["anyOf"][0]["minimum"] = SHORTEST_TTL_SECONDS
    made: Json = spec
    return made


def _for_people(schema: Json) -> Json:
    """A structural schema, without what is for Kubernetes alone; each value may be a variable."""
    beside = {key: schema[key] for key in KEPT_BESIDE if key in schema}
    made = {k: v for k, v in schema.items() if k not in (*KEPT_BESIDE, "format") and not k.startswith("x-kubernetes-")}
    if "properties" in made:
        made["properties"] = {key: _for_people(value) for key, value in made["properties"].items()}
        made["additionalProperties"] = False
    if "items" in made:
        made["items"] = _for_people(made["items"])
    if "type" not in made:  # a quantity
        made["type"] = ["integer", "string"]
    return {"anyOf": [made, {"type": "string", "pattern": LATER}], **beside}


if __name__ == "__main__":
    print(json.dumps(schema(), indent=1))

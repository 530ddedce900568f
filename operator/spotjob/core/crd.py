"""From the pydantic models to CustomResourceDefinitions.

Pydantic writes JSON Schema; a CRD takes a narrower thing, a *structural schema*: no references, no unions, every
value with one type. What the API server would refuse or silently drop is translated here, and what has no
translation is a TypeError, so that a model that cannot be a CRD is found by `make crds` and not by a user.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import BaseModel

from spotjob.core.resources import SpotJob, SpotJobClass, SpotJobClassSpec, SpotJobStatus
from spotjob.core.sequence.resources import (
    SCHEDULED_NAME_LIMIT,
    JobSequence,
    JobSequenceSpec,
    JobSequenceStatus,
)
from spotjob.core.spec import SpotJobSpec
from spotjob.core.wire import GROUP, VERSION, cel, rules

Json = dict[str, Any]

NAME_LIMIT = 63
"""Longest metadata.name: it is used as a host name and as a tag value."""

_KEPT = {
    *("type", "required", "enum", "format", "pattern", "multipleOf", "minimum", "maximum", "uniqueItems"),
    *("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"),
}
"""Keywords that mean the same on both sides and hold no schema."""


def documents() -> dict[str, Json]:
    """Every CustomResourceDefinition, by the name of its file in crds/."""
    kinds = (_spotjob(), _spotjobclass(), _jobsequence())
    return {f"{GROUP}_{kind['spec']['names']['plural']}.yaml": kind for kind in kinds}


def structural(model: type[BaseModel], defaults: bool = True) -> Json:
    """The structural schema of a model. With `defaults=False` (status) nothing is filled in by the API server."""
    schema = model.model_json_schema(by_alias=True)
    return _Converter(schema.get("$defs", {}), defaults).convert(schema)


class _Converter:
    """Turns one JSON Schema into a structural one; `definitions` are what its references mean."""

    def __init__(self, definitions: Mapping[str, Json], defaults: bool) -> None:
        self.definitions = definitions
        self.defaults = defaults

    def convert(self, schema: Json) -> Json:
        schema = self._without_null(self._inlined(schema))
        made: Json = {}
        if "description" in schema:
            made["description"] = " ".join(schema["description"].split())
        made |= {k: deepcopy(v) for k, v in schema.items() if k in _KEPT or k.startswith("x-kubernetes-")}
        if "const" in schema:
            made["enum"] = [schema["const"]]
        if self.defaults and not _empty(schema.get("default")):
            made["default"] = _pruned(schema["default"])
        if made.get("type") == "integer":
            made["format"] = "int64"
        return made | _open_bounds(schema) | self._children(schema)

    def _inlined(self, schema: Json) -> Json:
        """What stands beside a reference wins over what it refers to: a field's own description, its default."""
        if "$ref" not in schema:
            return schema
        target = self.definitions[schema["$ref"].rpartition("/")[2]]
        return self._inlined({**target, **{k: v for k, v in schema.items() if k != "$ref"}})

    def _without_null(self, schema: Json) -> Json:
        """`T | None` is T: in Kubernetes an optional field is absent, not null."""
        if "anyOf" not in schema:
            return schema
        choices = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
        if len(choices) != 1:
            raise TypeError(f"a structural schema cannot express this union: {schema}")
        return self._inlined({**choices[0], **{k: v for k, v in schema.items() if k != "anyOf"}})

    def _children(self, schema: Json) -> Json:
        """The schemas inside an object, a map or a list.

        `additionalProperties: false` is a CRD's normal case; of `true`, a dict of anything, it would keep nothing.
        """
        made: Json = {}
        if "properties" in schema:
            made["properties"] = {name: self.convert(child) for name, child in schema["properties"].items()}
        elif schema.get("additionalProperties") is True:
            made["x-kubernetes-preserve-unknown-fields"] = True
        elif isinstance(schema.get("additionalProperties"), dict):
            made["additionalProperties"] = self.convert(schema["additionalProperties"])
        if "items" in schema:
            made["items"] = self.convert(schema["items"])
        return made


def _open_bounds(schema: Json) -> Json:
    """Open bounds are a number in JSON Schema, and a number and a flag in the OpenAPI 3.0 of Kubernetes."""
    made: Json = {}
    for keyword, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if keyword in schema:
            made |= {bound: schema[keyword], keyword: True}
    return made


def _empty(default: Any) -> bool:
    """Whether filling this default in would say nothing."""
    return default is None or _pruned(default) in ({}, [])


def _pruned(default: Any) -> Any:
    """A default without the parts that are absent on the wire."""
    if isinstance(default, dict):
        return {k: _pruned(v) for k, v in default.items() if not _empty(v)}
    return default


def _spotjob() -> Json:
    """The namespaced kind SpotJob, with a status subresource."""
    return _definition(
        SpotJob,
        names=_names("SpotJob", "spotjobs", "sj"),
        scope="Namespaced",
        properties={
            "spec": structural(SpotJobSpec),
            "status": structural(SpotJobStatus, defaults=False),
        },
        version={
            "subresources": {"status": {}},
            "selectableFields": [
                {"jsonPath": path} for path in (".status.phase", ".status.instanceID", ".spec.image", ".spec.startAt")
            ],
            "additionalPrinterColumns": [
                _column("Phase", ".status.phase"),
                _column("Reason", ".status.reason"),
                _column("Attempt", ".status.attempt", kind="integer"),
                _column("Instance", ".status.instanceID"),
                _column("Type", ".status.attempts[-1:].instanceType", wide=True),
                _column("Zone", ".status.attempts[-1:].availabilityZone", wide=True),
                _column("Capacity", ".status.capacityType", wide=True),
                _column("Exit", ".status.exitCode", kind="integer", wide=True),
                _column("Start", ".spec.startAt"),
                _column("Age", ".metadata.creationTimestamp", kind="date"),
                _column("Message", ".status.message", wide=True),
            ],
        },
    )


def _spotjobclass() -> Json:
    """The cluster scoped kind SpotJobClass."""
    return _definition(
        SpotJobClass,
        names=_names("SpotJobClass", "spotjobclasses", "sjc"),
        scope="Cluster",
        properties={"spec": structural(SpotJobClassSpec)},
        version={
            "additionalPrinterColumns": [
                _column("Region", ".spec.region"),
                _column("Default", r".metadata.annotations.spotjob\.dev/is-default-class"),
                _column("Max", ".spec.maxConcurrent", kind="integer"),
                _column("AMI", ".spec.amiAlias", wide=True),
                _column("API", ".spec.apiURL", wide=True),
                _column("Age", ".metadata.creationTimestamp", kind="date"),
            ],
        },
    )


def _jobsequence() -> Json:
    """The namespaced kind JobSequence. No defaults are filled in: a list of 200 steps stays as it was written."""
    return _definition(
        JobSequence,
        names=_names("JobSequence", "jobsequences", "js"),
        scope="Namespaced",
        properties={
            "spec": structural(JobSequenceSpec, defaults=False),
            "status": structural(JobSequenceStatus, defaults=False),
        },
        version={
            "subresources": {"status": {}},
            "selectableFields": [{"jsonPath": ".status.phase"}],
            "additionalPrinterColumns": [
                _column("Steps", ".status.progress"),
                _column("Step", ".status.step"),
                _column("Status", ".status.phase"),
                _column("Schedule", ".spec.schedule", wide=True),
                _column("Last Schedule", ".status.lastScheduleTime", kind="date", wide=True),
                _column("Age", ".metadata.creationTimestamp", kind="date"),
                _column("Message", ".status.message", wide=True),
            ],
        },
        validations=rules(
            cel(
                f"!has(self.spec.schedule) || size(self.metadata.name) <= {SCHEDULED_NAME_LIMIT}",
                f"metadata.name must be no more than {SCHEDULED_NAME_LIMIT} characters with a schedule",
            )
        ),
    )


def _definition(
    model: type[BaseModel], names: Json, scope: str, properties: Json, version: Json, validations: Json | None = None
) -> Json:
    """The frame that every kind shares. `validations` are rules about the whole object."""
    schema = {
        "type": "object",
        "description": " ".join((model.__doc__ or "").split()),
        "required": ["spec"],
        "properties": {"metadata": _metadata(), **properties},
        **(validations or {}),
    }
    served = {"name": VERSION, "served": True, "storage": True, **version, "schema": {"openAPIV3Schema": schema}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {"group": GROUP, "scope": scope, "names": names, "versions": [served]},
    }


def _metadata() -> Json:
    """Only the name may be restricted here; the API server knows the rest."""
    return {"type": "object", "properties": {"name": {"type": "string", "maxLength": NAME_LIMIT}}}


def _names(kind: str, plural: str, short: str) -> Json:
    """Category `spot` and not `all`: `kubectl delete all` must not end running jobs."""
    return {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
        "shortNames": [short],
        "categories": ["spot"],
    }


def _column(name: str, path: str, kind: str = "string", wide: bool = False) -> Json:
    column: Json = {"name": name, "type": kind, "jsonPath": path}
    return column | ({"priority": 1} if wide else {})

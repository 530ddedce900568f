"""What all wire types share: the spelling of names, schema extensions, and bounded values.

Reading is lenient (a field that this version does not know is ignored, so an older operator tolerates a newer
object); the API server is strict, since unknown fields are refused with fieldValidation=Strict.
Lengths and counts are bounded everywhere: CEL rules have a cost budget that is computed from the bounds.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

GROUP = "spotjob.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_ACRONYMS = {"id": "ID", "url": "URL"}


def wire_name(name: str) -> str:
    """The Kubernetes spelling of a Python name: `instance_id` is `instanceID`, `api_url` is `apiURL`."""
    first, *rest = name.split("_")
    return first + "".join(_ACRONYMS.get(word, word.title()) for word in rest)


def cel(rule: str, message: str, field_path: str = "", reason: str = "FieldValueInvalid") -> dict[str, str]:
    """One CEL validation rule. `field_path` names the field that the error shows, such as `.env`."""
    made = {"rule": rule, "message": message, "reason": reason}
    return {**made, "fieldPath": field_path} if field_path else made


def rules(*all_rules: dict[str, str]) -> dict[str, Any]:
    """Schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": list(all_rules)}


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extension of a list whose items are told apart by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def atomic() -> dict[str, Any]:
    """Schema extension of a list that is replaced as a whole."""
    return {"x-kubernetes-list-type": "atomic"}


class Wire(BaseModel):
    """Base of everything that travels: camelCase on the wire, frozen here."""

    model_config = ConfigDict(
        alias_generator=wire_name,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    def wire(self) -> dict[str, Any]:
        """As JSON data, without what is absent."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


# ---- values -------------------------------------------------------------------------------------------------------

Seconds = Annotated[int, Field(ge=1, le=31_536_000)]
ObjectName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
"""The name of a Kubernetes object: it becomes part of a URL, so nothing else gets in."""
ShortText = Annotated[str, Field(max_length=1024)]
Quantity = Annotated[
    str,
    BeforeValidator(str),
    WithJsonSchema(
        {
            "x-kubernetes-int-or-string": True,
            "minimum": 1,
            "maxLength": 32,
            "pattern": r"^(0*[1-9][0-9]*(\.[0-9]+)?|0+\.0*[1-9][0-9]*)(m|k|Ki|M|Mi|G|Gi|T|Ti)?$",
        }
    ),
]
"""A Kubernetes quantity above zero, such as 2, 500m or 4Gi; YAML may give a whole number.

A pattern and not CEL's quantity(): kube-apiserver 1.36.3 does not come back from `quantity('1e999999999')`.
"""
NO_NUL = r"^[^\x00]*$"
"""Linux ends arguments and environment values at a NUL."""


class Metadata(Wire):
    """The part of ObjectMeta that is used here."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    finalizers: tuple[str, ...] = ()
    annotations: dict[str, str] = {}
    labels: dict[str, str] = {}

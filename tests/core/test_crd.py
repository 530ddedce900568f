"""The converter from pydantic models to structural schemas."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from spotjob.core.crd import documents, structural
from spotjob.core.wire import Quantity, Wire


class Inner(Wire):
    """An inner object."""

    size: Annotated[int, Field(gt=0)] = 1
    note: str | None = None


class Outer(Wire):
    """An outer
    object."""

    word: Literal["only"]
    inner: Inner = Inner()
    """The field's own words."""
    other: Inner | None = None
    when: datetime | None = None
    names: tuple[str, ...] = ()
    labels: dict[str, Annotated[str, Field(max_length=3)]] = {}
    amount: Quantity | None = None


def prop(name: str, defaults: bool = True) -> dict[str, Any]:
    schema: dict[str, Any] = structural(Outer, defaults)["properties"][name]
    return schema


def every_schema(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A schema and all schemas inside it."""
    yield schema
    inside = [*schema.get("properties", {}).values()]
    inside += [schema[keyword] for keyword in ("items", "additionalProperties") if keyword in schema]
    for child in inside:
        yield from every_schema(child)


def is_bounded(schema: dict[str, Any]) -> bool:
    if "additionalProperties" in schema:
        return "maxProperties" in schema
    if schema.get("type") == "array":
        return "maxItems" in schema
    return schema.get("type") != "string" or bool({"maxLength", "enum", "format"} & schema.keys())


def test_a_reference_is_replaced_by_what_it_means_and_the_fields_own_words_win() -> None:
    assert prop("inner") == {
        "type": "object",
        "description": "The field's own words.",
        "default": {"size": 1},
        "properties": {
            "size": {"type": "integer", "format": "int64", "minimum": 0, "exclusiveMinimum": True, "default": 1},
            "note": {"type": "string"},
        },
    }


def test_an_optional_object_keeps_its_own_description_and_gets_no_default() -> None:
    assert prop("other")["description"] == "An inner object."
    assert "default" not in prop("other")


def test_an_optional_value_is_just_its_type() -> None:
    assert prop("when") == {"type": "string", "format": "date-time"}


def test_a_constant_is_an_enumeration_of_one() -> None:
    assert prop("word") == {"type": "string", "enum": ["only"]}


def test_an_empty_default_is_left_out() -> None:
    assert prop("names") == {"type": "array", "items": {"type": "string"}}


def test_a_map_keeps_the_bounds_of_its_values() -> None:
    assert prop("labels") == {"type": "object", "additionalProperties": {"type": "string", "maxLength": 3}}


def test_a_quantity_may_be_a_number_or_a_text() -> None:
    assert prop("amount")["x-kubernetes-int-or-string"] is True
    assert "type" not in prop("amount")


def test_status_gets_no_defaults() -> None:
    assert not [schema for schema in every_schema(structural(Outer, defaults=False)) if "default" in schema]


def test_a_description_is_one_line() -> None:
    assert structural(Outer)["description"] == "An outer object."


def test_a_real_union_is_refused() -> None:
    class Union(Wire):
        either: int | str

    with pytest.raises(TypeError, match="union"):
        structural(Union)


def test_each_kind_has_a_file_named_as_controller_gen_would() -> None:
    kinds = ("spotjobs", "spotjobclasses", "jobsequences")
    assert set(documents()) == {f"spotjob.dev_{kind}.yaml" for kind in kinds}


@pytest.mark.parametrize("document", documents().values(), ids=list(documents()))
def test_every_text_list_and_map_of_a_spec_is_bounded(document: dict[str, Any]) -> None:
    schema = document["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert [part for part in every_schema(schema) if not is_bounded(part)] == []

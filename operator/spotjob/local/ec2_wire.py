"""The wire of EC2's query protocol, driven by botocore's own model: form parameters in, XML out.

moto's parser and serializer do the same, and cost 2.5 ms per instance and time quadratic in the overrides of
a fleet, since they walk the model. These walk the data. What the model does not know is an error either way,
so a field that the simulator makes up does not go unseen.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any
from xml.sax.saxutils import escape

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape

from spotjob.local.ec2 import ApiError

CONTENT_TYPE = "text/xml;charset=UTF-8"
_PROLOG = '<?xml version="1.0" encoding="UTF-8"?>\n'
_request_numbers = itertools.count(1)

Node = dict[str, Any]
"""Parameters as a tree: `Filter.1.Name` is node["Filter"]["1"]["Name"]."""


@cache
def _service() -> ServiceModel:
    return ServiceModel(Loader().load_service_model("ec2", "service-2"), "ec2")


@cache
def _operation(action: str) -> OperationModel:
    if action not in _service().operation_names:
        raise ApiError("InvalidAction", f"The action {action} is not valid for this web service.")
    return _service().operation_model(action)


def load() -> None:
    """Read the model now (half a second) and not with the first request."""
    _service()


# ---- in


def parse(form: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The action and its parameters, as boto3 took them. Raises ApiError."""
    action = form.get("Action", "")
    shape = _operation(action).input_shape
    parameters = {name: value for name, value in form.items() if name not in ("Action", "Version")}
    try:
        return action, {} if shape is None else _structure(shape, _tree(parameters))
    except (ValueError, TypeError, AttributeError) as error:
        raise ApiError("MalformedQueryString", f"The query does not fit {action}: {error}") from error


def _tree(form: Mapping[str, str]) -> Node:
    root: Node = {}
    for name, value in form.items():
        *path, leaf = name.split(".")
        node = root
        for step in path:
            node = node.setdefault(step, {})
        node[leaf] = value
    return root


def _read(shape: Shape, node: Any) -> Any:
    if isinstance(shape, StructureShape):
        return _structure(shape, node)
    if isinstance(shape, ListShape):
        return [_read(shape.member, node[i]) for i in sorted(node, key=int)] if node else []
    match shape.type_name:
        case "integer" | "long":
            return int(node)
        case "double" | "float":
            return float(node)
        case "boolean":
            return node.lower() == "true"
        case _:
            return node


def _structure(shape: StructureShape, node: Node) -> dict[str, Any]:
    members = _members_by_query_name(shape)
    parsed = {}
    for name, value in node.items():
        if name not in members:
            raise ApiError("UnknownParameter", f"The parameter {name} is not recognized")
        member, member_shape = members[name]
        parsed[member] = _read(member_shape, value)
    return parsed


_by_query_name: dict[str, dict[str, tuple[str, Shape]]] = {}


def _members_by_query_name(shape: StructureShape) -> dict[str, tuple[str, Shape]]:
    """A structure's members by their name in a request: queryName, or locationName with a capital letter."""
    if shape.name not in _by_query_name:
        _by_query_name[shape.name] = {
            _query_name(member_shape, member): (member, member_shape) for member, member_shape in shape.members.items()
        }
    return _by_query_name[shape.name]


def _query_name(shape: Shape, member: str) -> str:
    if "queryName" in shape.serialization:
        return str(shape.serialization["queryName"])
    name = str(shape.serialization.get("name", member))
    return name[:1].upper() + name[1:]


# ---- out


def serialize(action: str, answer: Mapping[str, Any]) -> bytes:
    """The answer as XML. Raises KeyError for a member that EC2's model does not have."""
    shape = _operation(action).output_shape
    if action == "GetConsoleOutput" and "Output" in answer:
        answer = dict(answer) | {"Output": base64.b64encode(answer["Output"].encode()).decode()}
    members = "" if shape is None else "".join(_written_members(shape, answer))
    namespace = _service().metadata["xmlNamespace"]
    body = f"<requestId>{_request_id()}</requestId>{members}"
    return f'{_PROLOG}<{action}Response xmlns="{namespace}">{body}</{action}Response>'.encode()


def _written_members(shape: StructureShape, value: Mapping[str, Any]) -> Iterator[str]:
    for name, member_value in value.items():
        member = shape.members[name]
        tag = member.serialization.get("name", name)
        yield f"<{tag}>{_written(member, member_value)}</{tag}>"


def _written(shape: Shape, value: Any) -> str:
    if isinstance(shape, StructureShape):
        return "".join(_written_members(shape, value))
    if isinstance(shape, ListShape):
        tag = shape.member.serialization.get("name", "item")
        return "".join(f"<{tag}>{_written(shape.member, one)}</{tag}>" for one in value)
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return escape(str(value))


def serialize_error(error: ApiError) -> bytes:
    """EC2's error document."""
    what = f"<Error><Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message></Error>"
    return f"{_PROLOG}<Response><Errors>{what}</Errors><RequestID>{_request_id()}</RequestID></Response>".encode()


def _request_id() -> str:
    return f"00000000-0000-4000-8000-{next(_request_numbers):012d}"

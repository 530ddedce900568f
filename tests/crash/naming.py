"""Gives each request that changes something a name; None for those that only ask.

A name must be the same each time a job lives through the same thing, so it has no ids, numbers or times in it. What a
write of the product is called here is derived from the request alone: a write that is new gets its name by itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from spotjob.core.sequence.resources import SEQUENCE_FINALIZER
from spotjob.core.sequence.runs import StepState
from tests.crash.points import ASKING
from tests.crash.run_naming import turn

QUESTIONS = ("tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews")
"""Created in order to be answered; nothing of them is kept."""
WORDS = {"Booting": "Booting (bind)", "PullingImage": "PullingImage (claim)"}

_RESOURCE = re.compile(r"^/(?:api/[^/]+|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+(?=/))?/(?P<resource>[^/]+)(?P<rest>.*)$")


class Names:
    """Names the writes of Kubernetes objects; remembers the attempts, since a patch is told by what it adds."""

    def __init__(self) -> None:
        self._attempts: dict[str, list[Mapping[str, Any]]] = {}

    def of(self, method: str, path: str, body: bytes) -> str | None:
        """The name of one request to the API server."""
        found = _RESOURCE.match(path)
        if method == "GET" or found is None or found["resource"] in QUESTIONS:
            return None
        resource, rest = found["resource"], found["rest"]
        if resource == "events":
            return f"event {_json(body).get('reason')}"
        if resource == "jobsequences":
            return _sequence(method, rest, _json(body))
        if resource != "spotjobs":
            return f"{method} {resource}"
        if method == "PATCH":
            name, _, sub = rest.removeprefix("/").partition("/")
            return self._status(name, _json(body).get("status") or {}) if sub == "status" else _patch(_json(body))
        return {"POST": "create spotjob", "DELETE": "delete spotjob"}.get(method, f"{method} spotjob")

    def learn(self, body: bytes) -> None:
        """The answer to a write."""
        answer = _json(body)
        if isinstance(answer, dict) and answer.get("kind") == "SpotJob":
            self._attempts[answer["metadata"]["name"]] = (answer.get("status") or {}).get("attempts") or []

    def _status(self, name: str, patch: Mapping[str, Any]) -> str:
        told = [WORDS.get(patch[key], patch[key]) for key in ("phase", "reason") if patch.get(key)]
        if "TerminatedOK" in told or "TerminatedNOK" in told:
            return f"status {told[0]}"
        return f"status {' '.join(told) or self._added(name, patch)}"

    def _added(self, name: str, patch: Mapping[str, Any]) -> str:
        """What a patch without a phase or reason says: the fields that the newest attempt did not have."""
        attempts = patch.get("attempts") or []
        before = self._attempts.get(name) or [{}]
        added = set(attempts[-1]) - set(before[-1]) if attempts else set()
        return "+" + ",".join(sorted(added or {key for key in patch if key != "observedGeneration"}))


def _patch(body: Any) -> str:
    """A patch of the object itself."""
    if isinstance(body, list):
        return " ".join(_step(step) for step in body if step.get("op") != "test")
    annotations = (body.get("metadata") or {}).get("annotations") or {}
    return " ".join(["patch spotjob", *(name.rpartition("/")[2] for name in sorted(annotations))])


def _step(step: Mapping[str, Any]) -> str:
    """One step of a JSON patch."""
    where = str(step.get("path")).removeprefix("/metadata/")
    if where == "finalizers":
        return f"finalizer {'on' if step.get('value') else 'off'}"
    return f"{step.get('op')} {where.replace('~1', '/')}"


def _sequence(method: str, rest: str, body: Any) -> str:
    """A request about a JobSequence: its status is the record of a run."""
    if method != "PATCH":
        return f"{method} sequence"
    if not rest.endswith("/status"):
        return f"sequence finalizer {'on' if SEQUENCE_FINALIZER in body['metadata']['finalizers'] else 'off'}"
    status = body["status"]
    for step in (status.get("run") or {}).get("steps") or []:
        if not StepState(step["state"]).over:
            return f"sequence status {turn(step['name'], step.get('tries', 0), step['state'])}"
    return f"sequence status {status.get('phase') or '+' + ','.join(sorted(status))}"


def aws(headers: Mapping[str, str], body: bytes) -> str | None:
    """The name of one request to AWS: JSON services name the action in a header, EC2 in its form."""
    action = headers.get("X-Amz-Target", "").rpartition(".")[2]
    if not action:
        action = parse_qs(body.decode()).get("Action", [""])[0]
    if not action or action.startswith(ASKING):
        return None
    return " ".join(filter(None, (action, _item_status(_json(body)))))


def item_id(body: bytes) -> str:
    """Whose item a PutItem writes; empty for any other call."""
    item = _json(body).get("Item") or {}
    return str((item.get("id") or {}).get("S", ""))


def _item_status(request: Any) -> str:
    item = request.get("Item") or {}
    return str((item.get("jobStatus") or {}).get("S", ""))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return {}

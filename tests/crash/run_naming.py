"""Gives each AWS call of a run, the reading ones too, and each write of its record a name.

Calls of ECS are told apart by where the run stands, which the record that was written before them says.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping

from spotjob.core.sequence.runs import Run

RECORD = "record"


class RunNames:
    """Names what one process of a run does; remembers the newest record."""

    def __init__(self) -> None:
        self._stands = ""

    def call(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str:
        """See proxy.Name: the name of one request to AWS."""
        action = headers.get("X-Amz-Target", "").rpartition(".")[2]
        if action == "PutItem":
            packed = json.loads(body)["Item"]["record"]["B"]
            return self.write(zlib.decompress(base64.b64decode(packed)))
        if "AmazonEC2ContainerService" in headers.get("X-Amz-Target", ""):
            return f"{action}, {self._stands}"
        return action

    def write(self, record: bytes) -> str:
        """The name of one write of the record."""
        self._stands = standing(Run.model_validate_json(record))
        return f"{RECORD}: {self._stands}"


def standing(run: Run) -> str:
    """`check, try 2, Running`: the step whose turn it is, or how the run ended."""
    if run.current is None:
        return str(run.state)
    step = run.steps[run.current]
    return turn(step.name, step.tries, step.state)


def turn(name: str, tries: int, state: str) -> str:
    return ", ".join((name, *([f"try {tries}"] if tries > 1 else []), state))

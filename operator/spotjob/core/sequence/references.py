"""`${steps.extract.result.rows}` in the parameters of a step: what an earlier step said, put in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from spotjob.core.sequence.runs import Run


class Unresolved(Exception):
    """A reference that nothing answers; the text names it, and what there is."""


def resolve(parameters: Mapping[str, Any], run: Run, place: int) -> dict[str, Any]:
    """The parameters with every reference to a step before `place` replaced. Raises Unresolved."""
    raise NotImplementedError

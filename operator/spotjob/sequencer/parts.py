"""Which steps a person means by --from and --until."""

from __future__ import annotations

from spotjob.core.sequence.steps import Sequence
from spotjob.sequencer.environment import BadUsage


def place_of(sequence: Sequence, wanted: str, option: str) -> int:
    """The place, from 0, of a step that is given by its name or its place from 1. Raises BadUsage."""
    named = [place for place, step in enumerate(sequence.steps) if step.name == wanted]
    if len(named) == 1:
        return named[0]
    if len(named) > 1:
        places = ", ".join(str(place + 1) for place in named)
        raise BadUsage(f"{option} {wanted}: several steps have this name; give one of the places {places}")
    if wanted.isdecimal() and 1 <= int(wanted) <= len(sequence.steps):
        return int(wanted) - 1
    raise BadUsage(f"{option} {wanted}: there is no such step; there are {_all(sequence)}")


def _all(sequence: Sequence) -> str:
    return ", ".join(f"{place} {step.name}" for place, step in enumerate(sequence.steps, 1)) or "no steps"

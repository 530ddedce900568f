"""Removes the containers of simulated instances that nobody is left to stop.

Each of them has the label `spotjob.state=<state folder>`. A container can still appear after its instance's agent was
killed, since the Docker daemon finishes what it was asked for; so, if any was there, we look again a little later.
"""

from __future__ import annotations

import time
from pathlib import Path

from spotjob.local.docker import Docker

LABEL = "spotjob.state"

_LOOKS = 10
_SECOND_LOOK_SECONDS = 2.0


def remove_all(state: Path, engine: Docker | None) -> int:
    """Remove every container of this platform; how many there were. Without a Docker engine there are none."""
    if engine is None:
        return 0
    removed, empty_looks = 0, 0
    for _ in range(_LOOKS):
        found = engine.containers(f"{LABEL}={state}")
        for container in found:
            engine.end(container, grace_seconds=0)
        removed += len(found)
        empty_looks = 0 if found else empty_looks + 1
        if empty_looks == 2 or not removed:
            break
        if not found:
            time.sleep(_SECOND_LOOK_SECONDS)
    return removed

"""Gets the control plane's programs that the machine lacks: downloads the envtest archive, then builds from source."""

from __future__ import annotations

from pathlib import Path

from spotjob.local import binaries
from spotjob.local.progress import Progress


class NoBinaries(Exception):
    """Programs of the control plane are missing and cannot be had; the text names every way out."""


def obtain(progress: Progress) -> dict[str, Path]:
    """All programs of the control plane by name."""
    found = binaries.find()
    if left := binaries.missing(found):
        raise NoBinaries(f"missing: {', '.join(left)}")
    return found

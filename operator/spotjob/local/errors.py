"""The one kind of error that the local platform's commands show as plain text instead of a traceback."""

from __future__ import annotations


class LocalError(Exception):
    """Something on this machine is not as it must be; the text says what, and what to do next."""

"""A change, applied to a job's previous status, gives its next status."""

from __future__ import annotations

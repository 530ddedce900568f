"""The parameters of a spot_job step, held against all that the API server will hold its SpotJob against. Pure.

The rules over several fields, which the schema states in CEL (core/spec.py), are said once more in Python: so that a
step that the API server would refuse is told before the first one runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spotjob.core.sequence.model_faults import Fault, against_rules, against_schema, invalid
from spotjob.core.spec import STARTUP_DEADLINE_SECONDS, SpotJobSpec

Spec = dict[str, Any]

SHORTEST_TTL_SECONDS = 3600
"""A job that is deleted sooner may be gone before its verdict was read."""


def _fallback(spec: Spec) -> Spec:
    made: Spec = _mapping(_mapping(spec, "capacity"), "fallback")
    return made


def _mapping(spec: Spec, key: str) -> Spec:
    value = spec.get(key)
    return value if isinstance(value, dict) else {}


def _startup_fits(spec: Spec) -> bool:
    seconds = spec.get("startupDeadlineSeconds", STARTUP_DEADLINE_SECONDS)
    return bool(seconds == STARTUP_DEADLINE_SECONDS or seconds <= spec.get("activeDeadlineSeconds", seconds))


def _at_most(smaller: Any, larger: Any) -> bool:
    """Whether one limit is within another; those that are absent are."""
    return smaller is None or larger is None or bool(smaller <= larger)


HOLDS: dict[str, Callable[[Any], bool]] = {
    "exactly one of secretKeyRef and configMapKeyRef is needed": lambda source: (
        ("secretKeyRef" in source) != ("configMapKeyRef" in source)
    ),
    "at most one of value and valueFrom may be set": lambda env: not ("value" in env and "valueFrom" in env),
    "names that begin with SPOTJOB_ are reserved": lambda env: not str(env.get("name")).startswith("SPOTJOB_"),
    "at least one of afterInterruptions and afterWaitingSeconds is needed": lambda fallback: bool(
        {"afterInterruptions", "afterWaitingSeconds"} & fallback.keys()
    ),
    "fallback is only possible with type spot": lambda capacity: (
        capacity.get("type", "spot") == "spot" or "fallback" not in capacity
    ),
    "must be Interrupted with signal SIGKILL: a killed container never exits with 0": lambda interruption: (
        interruption.get("signal") != "SIGKILL" or interruption.get("exitZero") != "Succeeded"
    ),
    "must not hold a code that exitCodes holds too": lambda retry: (
        not {*retry.get("exitCodes", ())} & {*retry.get("never", ())}
    ),
    "must not be more than activeDeadlineSeconds, which ends the job first": lambda spec: _at_most(
        spec.get("attemptDeadlineSeconds"), spec.get("activeDeadlineSeconds")
    ),
    "must not be more than activeDeadlineSeconds, which ends the job first;"
    f" only the default ({STARTUP_DEADLINE_SECONDS}) may be": _startup_fits,
    "must not be more than interruptionLimit, which ends the job first": lambda spec: _at_most(
        _fallback(spec).get("afterInterruptions"), spec.get("interruptionLimit")
    ),
    "must be less than capacityTimeoutSeconds, which ends the job first": lambda spec: (
        "capacityTimeoutSeconds" not in spec
        or _fallback(spec).get("afterWaitingSeconds", 0) < spec["capacityTimeoutSeconds"]
    ),
    "must be at least 1 when retryOn.exitCodes is set, or nothing is ever retried": lambda spec: (
        bool(spec.get("backoffLimit")) or not _mapping(spec, "retryOn").get("exitCodes")
    ),
    "must be a time between the years 2000 and 9000": lambda time: (
        not str(time)[:4].isdigit() or "2000" <= str(time)[:4] < "9000"
    ),
}
"""By the message of the rule, whether the part of the spec that it concerns keeps it. May raise TypeError."""


def spec_faults(spec: Spec) -> list[Fault]:
    """All that is known to make the API server refuse a SpotJob, and what a step cannot do with."""
    found = [*against_schema(SpotJobSpec, spec), *invalid(SpotJobSpec, spec), *against_rules(SpotJobSpec, spec, HOLDS)]
    ttl = spec.get("ttlSecondsAfterFinished")
    if type(ttl) is int and 0 <= ttl < SHORTEST_TTL_SECONDS:
        why = f"must be at least {SHORTEST_TTL_SECONDS}, or the job may be gone before its verdict was read"
        found.append((("ttlSecondsAfterFinished",), why))
    return found

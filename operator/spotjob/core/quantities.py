"""Kubernetes quantities (`2`, `500m`, `4Gi`, `1.5G`, `1e3`) as exact numbers.

The grammar is that of apimachinery's `resource.Quantity`: a signed decimal number, then one suffix: binary
(Ki to Ei), decimal (n, u, m, k, M, G, T, P, E) or an exponent. `1E` is one exa, `1E3` is a thousand.
"""

from __future__ import annotations

import re
from decimal import Decimal

_BINARY = {f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", start=1)}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_SUFFIXES = _BINARY | {suffix: Decimal(1).scaleb(exponent) for suffix, exponent in _DECIMAL.items()}
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3}|)",
)


def parse_quantity(text: str) -> Decimal:
    """The quantity in its base unit: vCPUs for cpu, bytes for memory. Raises ValueError for anything else."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a quantity such as 2, 500m or 4Gi")
    number, suffix = Decimal(match["number"]), match["suffix"]
    return number * _SUFFIXES[suffix] if suffix in _SUFFIXES else number * Decimal(f"1{suffix}")

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotjob.core.quantities import parse_quantity


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", "2"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("2.", "2"),
        ("+2", "2"),
        ("-1", "-1"),
        ("500m", "0.5"),
        ("100n", "0.0000001"),
        ("7u", "0.000007"),
        ("3k", "3000"),
        ("1.5G", "1500000000"),
        ("4Gi", "4294967296"),
        ("1Ki", "1024"),
        ("1.5Mi", "1572864"),
        ("1Ei", "1152921504606846976"),
        ("1E", "1000000000000000000"),
        ("1e3", "1000"),
        ("1E3", "1000"),
        ("1e-3", "0.001"),
    ],
)
def test_a_quantity_is_read_exactly(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize(
    "text", ["", " 2", "2 ", "Gi", "2gi", "2GiB", "2K", "1,5", "two", "1e", "1e3Gi", "NaN", "٣", "."]
)
def test_what_is_no_quantity_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        parse_quantity(text)


@given(st.integers(min_value=1, max_value=10**12))
def test_milli_units_are_thousandths(number: int) -> None:
    assert parse_quantity(f"{number}m") * 1000 == parse_quantity(str(number))

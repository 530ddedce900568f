"""What a plain scalar means: as Ruby's Psych reads it, since the files were written for that.

Psych (lib/psych/scalar_scanner.rb) reads YAML 1.1 with rules of its own: `yEs` is true, `1,000` a number, `08` text.
What its safe loading refuses stays text here: dates and symbols; so do `.inf` and `.nan`, which no parameter takes.
"""

from __future__ import annotations

import re

Value = str | int | float | bool | None

WORDS: dict[str, bool | None] = {
    **{"~": None, "null": None},
    **{"yes": True, "true": True, "on": True},
    **{"no": False, "false": False, "off": False},
}
INTEGER = re.compile(r"[-+]?(?:0b[01_,]+|0x[0-9a-fA-F_,]+|0[0-7_,]+|0|[1-9][0-9_,]*)")
FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_,]*)?\.[0-9]*(?:[eE][+-][0-9]+)?")
SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9]){1,2}(\.[0-9_]*)?")

LONGEST_NUMBER = 64
"""Characters; what is longer is text. Python refuses to read numbers of thousands of digits."""


def resolve(text: str) -> Value:
    """The value of a plain scalar."""
    if not text or text.lower() in WORDS:
        return WORDS[text.lower() or "~"]
    if len(text) > LONGEST_NUMBER:
        return text
    if found := SEXAGESIMAL.fullmatch(text):
        return _sexagesimal(text, fraction=bool(found[1]))
    if FLOAT.fullmatch(text):
        return _float(text)
    if INTEGER.fullmatch(text):
        return _integer(text)
    return text


def _integer(text: str) -> Value:
    digits = re.sub("[,_]", "", text)
    unsigned = digits.lstrip("+-")
    base = {"0b": 2, "0x": 16}.get(unsigned[:2], 8 if unsigned[0] == "0" and len(unsigned) > 1 else 10)
    try:
        return int(digits, base)
    except ValueError:  # 0x_
        return text


def _float(text: str) -> Value:
    try:
        value = float(re.sub("[,_]", "", text))
    except ValueError:  # a lone point
        return text
    return text if value in (float("inf"), float("-inf")) else value


def _sexagesimal(text: str, fraction: bool) -> Value:
    """Hours, minutes and, if they are there, seconds: in seconds."""
    parts = (float(part.replace("_", "")) for part in text.split(":"))
    seconds = sum(part * factor for part, factor in zip(parts, (3600, 60, 1), strict=False))
    return seconds if fraction else int(seconds)

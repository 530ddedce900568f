"""A key in a message, and what somebody may have meant by it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

LONGEST_KEY = 64
"""Characters of a key that are shown."""


def shown(key: str) -> str:
    """A key in a message: on one line, and not too long."""
    text = key if key.isprintable() else repr(key)[1:-1]
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}..."


def unknown(word: str, choices: Iterable[str], what: str = "key") -> str:
    """The message for a word that is none of `choices`: the nearest of them, else all."""
    known = list(choices)
    if near := nearest(word, known):
        return f"unknown {what} {shown(word)}, did you mean {near}?"
    return f"unknown {what} {shown(word)}; known: {', '.join(sorted(known)) or 'none'}"


def nearest(word: str, choices: Iterable[str]) -> str:
    """The nearest of `choices`, whatever the case of its letters; empty when none is near."""
    by_lower = {choice.lower(): choice for choice in choices}
    found = get_close_matches(word.lower()[:LONGEST_KEY], by_lower, n=1)
    return by_lower[found[0]] if found else ""

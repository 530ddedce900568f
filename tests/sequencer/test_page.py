"""docs/sequencer.md names what there is."""

from __future__ import annotations

import re
from pathlib import Path

from spotjob.sequencer.step import JOB, KEYS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "sequencer.md").read_text()


def test_every_fault_of_the_old_tool_has_a_test_that_is_there() -> None:
    named = re.findall(r"^\| (S\d+) \|.*`(\S+)::(\w+)` \|$", PAGE, re.MULTILINE)
    assert [fault for fault, _, _ in named] == [f"S{number}" for number in range(1, 16)]
    assert [test for _, file, test in named if f"def {test}(" not in (TESTS / file).read_text()] == []


def test_every_key_of_a_step_is_in_the_table() -> None:
    assert [key for key in (*KEYS, JOB) if not re.search(rf"^\| `{key}` \|", PAGE, re.MULTILINE)] == []


def test_every_option_and_variable_of_the_command_line_is_there() -> None:
    sources = Path(__file__).parents[2] / "operator" / "spotjob" / "sequencer"
    program = (sources / "cli.py").read_text() + (sources / "environment.py").read_text()
    words = set(re.findall(r'"(--[a-z-]+)"|\b(SEQUENCER_[A-Z0-9_]+)\b', program))
    asked = {option or variable for option, variable in words} - {"--help", "SEQUENCER_ERROR"}
    assert len(asked) > 8
    assert sorted(word for word in asked if f"`{word}" not in PAGE) == []

"""Whatever text is given: it reads, or every problem has a position within it."""

from __future__ import annotations

import re
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from spotjob.core.sequence.spot_spec import HOLDS
from spotjob.core.sequence.steps import MOST_STEPS
from spotjob.core.spec import SpotJobSpec
from spotjob.sequencer.document import InvalidDocument, read_document

NAMES = {"A": "5", "B": "x: [y"}

WORDS = st.sampled_from(
    [
        *(
            "- ",
            "-",
            ": ",
            "? ",
            "\n",
            "\n  ",
            "\n    ",
            " ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "'",
            '"',
            "|\n",
            ">\n",
            "# ",
            "\t",
        ),
        *(
            "&a ",
            "*a",
            "<<: ",
            "!!str ",
            "!x ",
            "%YAML 1.1\n",
            "---\n",
            "...\n",
            "\r",
            "\r\n",
            "\x85",
            "\u2028",
            "\\",
            "\x00",
        ),
        *(
            "type",
            "ecs_task",
            "spot_job",
            "parameters",
            "task_definition",
            "count",
            "image",
            "env",
            "steps",
            "on_failure",
        ),
        *("timeout_seconds", "retries", "5", "1e9", "yes", "~", "${A}", "${B}", "${C}", "$${", "${steps.a.result.b}"),
        *("😀", "é", '"\\ud800"', '"\\UFFFFFFFF"', "0x_", "9" * 5000, "%YAML 1." + "9" * 5000 + "\n"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["${A}", "${steps.a.result}"]),
)
KEYS = st.sampled_from(
    [
        *("a", "type", "parameters", "job", "retries", "active", "task_definition", "count", "overrides", "image"),
        *("env", "name", "value", "resources", "requests", "cpu", "capacity", "type", "fallback", "startAt", "retryOn"),
        *("afterInterruptions", "interruptionLimit", "activeDeadlineSeconds", "attemptDeadlineSeconds", "exitCodes"),
    ]
)
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6), max_leaves=25
)
STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.fixed_dictionaries(
                {
                    "type": st.sampled_from(["ecs_task", "spot_job"]),
                    "parameters": st.dictionaries(KEYS, TREES, max_size=6),
                }
            )
        }
    ),
    max_size=3,
)


def check(text: str) -> None:
    try:
        document = read_document(text, NAMES, given=NAMES, read_file=lambda path: path)
    except InvalidDocument as error:
        problems = error.problems
    else:
        assert len(document.sequence.steps) <= MOST_STEPS
        return
    lines = re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
    assert problems
    assert list(problems) == sorted(problems)
    for problem in problems:
        assert 1 <= problem.line <= len(lines), problem
        assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1, problem
        assert problem.message


@settings(deadline=None)  # the machine may be busy
@given(st.text())
def test_any_text(text: str) -> None:
    check(text)


@settings(deadline=None)  # the machine may be busy
@given(st.lists(WORDS, max_size=40).map("".join))
def test_anything_that_looks_like_yaml(text: str) -> None:
    check(text)


@settings(deadline=None)  # the machine may be busy
@given(STEPS | TREES)
def test_anything_that_is_yaml(tree: Any) -> None:
    check(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True))


def test_every_rule_of_a_spotjobs_schema_is_held_here_too() -> None:
    rules = list(_rules(SpotJobSpec.model_json_schema(by_alias=True)))
    messages = [rule["message"] for rule in rules if "oldSelf" not in rule["rule"]]
    assert sorted(messages) == sorted(HOLDS)


def _rules(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield from schema.get("x-kubernetes-validations", ())
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from _rules(part)

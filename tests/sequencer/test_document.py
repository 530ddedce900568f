"""Files that can be run, and what they are read as."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from spotjob.core.sequence.steps import Sequence, Step, When
from spotjob.sequencer.document import read_document
from spotjob.sequencer.nodes import data
from spotjob.sequencer.problems import Findings
from spotjob.sequencer.reading import read_tree
from tests.sequencer.account import README

EXAMPLES = Path(__file__).parents[2] / "examples" / "sequences"

ONE = """
- extract:
    type: ecs_task
    parameters:
      task_definition: "extract:1"
"""


def read(text: str, **names: str) -> Sequence:
    return read_document(text, names).sequence


def step(name: str = "extract", **changes: Any) -> Step:
    made: dict[str, Any] = {"name": name, "type": "ecs_task", "parameters": {"task_definition": "extract:1"}}
    return Step.model_validate(made | changes)


def an_ecs_step(parameters: str, before: str = "") -> str:
    """A file with one step, whose parameters are lines without indentation."""
    indented = "".join(f"      {line}\n" for line in parameters.strip().splitlines())
    return f"{before}- extract:\n    type: ecs_task\n    parameters:\n{indented}"


# ---- the old tool's files -------------------------------------------------------------------------------------------


def test_the_old_tools_fixture_reads_as_what_it_always_was() -> None:
    assert read((EXAMPLES / "old-tool.yml").read_text()).steps == (
        step(
            "chicken_butter",
            parameters={"cluster": "yourcluster", "task_definition": "test-task-def:1", "count": 1},
        ),
        step(
            "turkey_fingers",
            parameters={
                "cluster": "yourcluster2",
                "task_definition": "test-task-def:2",
                "count": 1,
                "launch_type": "FARGATE",
            },
        ),
    )


def test_the_old_readmes_example_with_its_two_steps_of_one_name_reads() -> None:
    first = {"cluster": "yourcluster", "task_definition": "test-task-def:1", "count": 1}
    second = {"cluster": "yourcluster2", "task_definition": "test-task-def:2", "count": 1}
    assert read(README).steps == (step("first_task", parameters=first), step("first_task", parameters=second))


def test_an_empty_list_is_a_sequence_without_steps() -> None:
    assert read("[]").steps == ()


def test_active_and_ignore_failure_reach_the_step_S8() -> None:
    (made,) = read(ONE + "    active: false\n    ignore_failure: true\n").steps
    assert (made.active, made.ignore_failure) == (False, True)


# ---- what is new ----------------------------------------------------------------------------------------------------


def test_every_option_of_a_step_reaches_it() -> None:
    options = """
    always: true
    timeout_seconds: 60
    retries: 3
    retry_delay_seconds: 5
    region: eu-west-1
    success_exit_codes: [0, 3]
    essential_only: true
"""
    expected = step(
        always=True,
        timeout_seconds=60,
        retries=3,
        retry_delay_seconds=5,
        region="eu-west-1",
        success_exit_codes=(0, 3),
        essential_only=True,
    )
    assert read(ONE.rstrip() + options).steps == (expected,)


def test_the_steps_of_on_failure_stand_last_and_wait_for_a_failure() -> None:
    text = (
        "timeout_seconds: 90\non_failure:\n- {tell: {type: ecs_task, parameters: {task_definition: a}}}\nsteps:" + ONE
    )
    sequence = read(text)
    assert [(made.name, made.when) for made in sequence.steps] == [("extract", When.SUCCESS), ("tell", When.FAILURE)]
    assert sequence.timeout_seconds == 90


def test_a_key_without_a_value_counts_as_absent() -> None:
    (made,) = read(an_ecs_step("task_definition: a\ncount:\n") + "    retries:\n").steps
    assert made == step(parameters={"task_definition": "a"})


def test_an_anchor_serves_several_steps_and_is_merged_beneath_their_own_keys() -> None:
    text = """
- one: &defaults
    type: ecs_task
    retries: 2
    parameters: &parameters {task_definition: a, cluster: c}
- two:
    <<: *defaults
    retries: 1
    parameters:
      <<: *parameters
      task_definition: b
- three: *defaults
"""
    parameters = {"task_definition": "a", "cluster": "c"}
    assert read(text).steps == (
        step("one", retries=2, parameters=parameters),
        step("two", retries=1, parameters=parameters | {"task_definition": "b"}),
        step("three", retries=2, parameters=parameters),
    )


def test_the_digest_is_that_of_the_text_alone() -> None:
    text = an_ecs_step("task_definition: ${DEFINITION}")
    digests = {read_document(text, {"DEFINITION": value}).digest for value in "ab"}
    assert digests == {hashlib.sha256(text.encode()).hexdigest()}


# ---- scalars --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *(("yes", True), ("On", True), ("tRUE", True), ("off", False), ("~", None), ("NULL", None), ("y", "y")),
        *(("5", 5), ("+5", 5), ("-5", -5), ("1_000", 1000), ("1,000", 1000), ("017", 15), ("08", "08"), ("0x1F", 31)),
        *(("0b101", 5), ("0o17", "0o17"), ("0x_", "0x_"), ("1:30", 5400), ("1:30:15", 5415), ("1:75", "1:75")),
        *(("1.5", 1.5), (".5", 0.5), ("1.", 1.0), ("1e3", "1e3"), ("1.0e+3", 1000.0), (".", "."), ("1:30.5", 5430.0)),
        *((".inf", ".inf"), ("9.9e+999", "9.9e+999"), ("9" * 65, "9" * 65), ("2024-01-31", "2024-01-31")),
        *(("2024-01-31T10:00:00Z", "2024-01-31T10:00:00Z"), (":symbol", ":symbol"), ('"5"', "5"), ("'yes'", "yes")),
        *(("!!str 5", "5"), ("!!int 5", 5), ("! 5", "5"), ("!!bool yes", True), ('""', "")),
    ],
)
def test_plain_scalars_mean_what_the_old_tool_read(written: str, value: Any) -> None:

    found = Findings()
    root = read_tree(f"- {written}", found)
    assert root is not None
    assert found.problems == []
    assert [(each, type(each)) for each in data(root)] == [(value, type(value))]

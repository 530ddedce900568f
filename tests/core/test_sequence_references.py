"""References to what earlier steps said: found, checked, and replaced."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.core.sequence.references import Unresolved, is_reference, references, resolve
from spotjob.core.sequence.runs import ContainerEnd, Run, StepRun, StepState
from tests.builders import NOW

RESULT = {"rows": 42, "file": "s3://b/k", "ok": True, "none": None, "parts": [{"id": "a"}, {"id": "b"}], "ü": {}}


def a_step(name: str = "extract", result: dict[str, Any] | None = None, **codes: int | None) -> StepRun:
    ends = tuple(ContainerEnd(name=container, exit_code=code) for container, code in codes.items())
    return StepRun(name=name, state=StepState.SUCCEEDED, result=result, containers=ends)


def a_run(*before: StepRun) -> Run:
    return Run(id="r", started_at=NOW, steps=(*before, StepRun(name="load"), a_step("later", RESULT)))


def resolved(text: Any, *before: StepRun) -> Any:
    return resolve({"key": text}, a_run(*before), len(before))["key"]


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ("rows", 42),
        ("file", "s3://b/k"),
        ("ok", True),
        ("none", None),
        ("parts", RESULT["parts"]),
        ("parts.1", {"id": "b"}),
        ("parts.1.id", "b"),
        ("ü", {}),
    ],
)
def test_a_string_that_is_one_reference_becomes_the_value_with_its_type(keys, value):
    made = resolved(f"${{steps.extract.result.{keys}}}", a_step(result=RESULT))
    assert (made, type(made)) == (value, type(value))


def test_the_whole_result_can_be_asked_for():
    assert resolved("${steps.extract.result}", a_step(result=RESULT)) == RESULT


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("--rows=${steps.extract.result.rows}", "--rows=42"),
        ("${steps.extract.result.file}/${steps.extract.result.rows}", "s3://b/k/42"),
        ("${steps.extract.result.ok} ", "true "),
        ("is ${steps.extract.result.none}", "is null"),
        ("${steps.extract.result.parts}!", '[{"id":"a"},{"id":"b"}]!'),
        ("x ${steps.extract.exit_code}", "x 3"),
    ],
)
def test_within_a_longer_string_the_value_is_put_in_as_text(text, made):
    assert resolved(text, a_step(result=RESULT, app=3)) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("$${HOME}", "${HOME}"),
        ("$${steps.extract.result.rows}", "${steps.extract.result.rows}"),
        ("a $${ and ${steps.extract.result.rows}", "a ${ and 42"),
        ("$$$ $(date) $HOME {} }", "$$$ $(date) $HOME {} }"),
    ],
)
def test_two_dollars_and_a_brace_are_a_literal_dollar_and_brace(text, made):
    assert resolved(text, a_step(result=RESULT)) == made
    assert references(text.replace("${steps.extract.result.rows}", "") if text.startswith("a") else text) == frozenset()


def test_what_was_put_in_is_not_looked_at_again():
    evil = {"text": "${steps.extract.result.secret} $${", "secret": "s"}
    assert resolved("${steps.extract.result.text}", a_step(result=evil)) == evil["text"]
    assert resolved("<${steps.extract.result.text}>", a_step(result=evil)) == f"<{evil['text']}>"


def test_lists_and_mappings_are_walked_and_keys_are_left_alone():
    value = {"${steps.x.result}": [["${steps.extract.result.rows}", 7, None, True], ("a", "$${")]}
    assert resolved(value, a_step(result=RESULT)) == {"${steps.x.result}": [[42, 7, None, True], ["a", "${"]]}


def test_the_exit_code_is_that_of_the_only_container():
    made = resolved("${steps.extract.exit_code}", a_step(app=3))
    assert (made, type(made)) == (3, int)


def test_of_steps_with_the_same_name_the_nearest_before_counts():
    text = "${steps.extract.result.rows}"
    first, second = a_step(result={"rows": 1}), a_step(result={"rows": 2})
    assert resolved(text, first, second) == 2
    assert resolve({"key": text}, a_run(first, second), 1)["key"] == 1


def test_a_name_may_hold_dots_and_spaces():
    assert resolved("${steps.night. v1.2 .result.rows}", a_step("night. v1.2 ", {"rows": 5})) == 5


@pytest.mark.parametrize(
    ("text", "before", "said"),
    [
        ("${steps.other.result.rows}", a_step(result=RESULT), r"no step other comes before .*: extract$"),
        ("${steps.later.result.rows}", a_step(result=RESULT), r"no step later comes before"),
        ("${steps.load.result.rows}", a_step(result=RESULT), r"no step load comes before"),
        (
            "${steps.extract.result.rowz}",
            a_step(result=RESULT),
            r"result of step extract has no rowz; it holds rows, f",
        ),
        ("${steps.extract.result.parts.2}", a_step(result=RESULT), r"result.parts of .* has no 2; it is a list of 2"),
        ("${steps.extract.result.parts.x}", a_step(result=RESULT), r"has no x; it is a list of 2"),
        ("${steps.extract.result.rows.x}", a_step(result=RESULT), r"result.rows .* has no x; it is a single value"),
        ("${steps.extract.result.ü.x}", a_step(result=RESULT), r"has no x; it is empty"),
        ("${steps.extract.result}", a_step(), r"step extract \(Succeeded\) has said no JSON object"),
        ("${steps.extract.exit_code}", a_step(), r"has not one container but none"),
        ("${steps.extract.exit_code}", a_step(app=0, proxy=0), r"has not one container but app, proxy"),
        ("${steps.extract.exit_code}", a_step(app=None), r"container app of step extract has no exit code"),
        (
            "${HOME}",
            a_step(),
            r"\$\{HOME\} is not known: there are \$\{steps.NAME.result.KEY\} .* \$\$\{ stands for \$\{",
        ),
        ("${}", a_step(), "is not known"),
        ("${steps.extract}", a_step(), "is not known"),
        ("${steps.extract.status}", a_step(), "is not known"),
        ("${steps.extract.exit_code.x}", a_step(), "is not known"),
        ("${steps.extract.result.}", a_step(result=RESULT), "is not known"),
        ("${steps.extract.result..rows}", a_step(result=RESULT), "is not known"),
    ],
)
def test_what_nothing_answers_is_named_with_what_there_is(text, before, said):
    for spoken in (text, f"x{text}"):
        with pytest.raises(Unresolved, match=said) as raised:
            resolved(spoken, before)
        assert str(raised.value).startswith(text)


def test_an_unresolved_reference_shows_no_values_and_fits_a_record():
    with pytest.raises(Unresolved) as raised:
        resolved(
            "${steps.extract.result.x}", a_step(result={"password": "hunter2", **{f"k{n}": n for n in range(999)}})
        )
    assert "hunter2" not in str(raised.value)
    assert len(str(raised.value)) <= 1024


def test_every_reference_is_listed_once_by_its_parts():
    parameters = {
        "a": ["${steps.extract.result.parts.0.id} ${steps.extract.exit_code}", {"b": "${steps.extract.result}"}],
        "c": ("${steps.extract.exit_code}", 3, None),
        "${steps.key.result}": "$${steps.escaped.result}",
    }
    assert references(parameters) == {
        ("extract", "result", "parts", "0", "id"),
        ("extract", "exit_code"),
        ("extract", "result"),
    }
    with pytest.raises(Unresolved, match="is not known"):
        references(["fine", "${HOME}"])


def test_only_a_text_that_is_one_reference_may_become_a_value_of_another_type():
    assert is_reference("${steps.extract.result.rows}")
    assert not is_reference("x${steps.extract.result.rows}")
    assert not is_reference("${steps.a.result}${steps.b.result}")
    assert not is_reference("$${")

"""Variables, results and manifests in the files of sequences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from spotjob.core.sequence.references import resolve
from spotjob.core.sequence.runs import Run, new_run
from spotjob.sequencer.document import InvalidDocument, Problem, read_document
from tests.builders import NOW
from tests.sequencer.test_document import an_ecs_step

SECRET = "hunter2-and-more"


def parameters(text: str, **names: str) -> dict[str, Any]:
    """Of the last step, as they are sent."""
    sequence = read_document(text, names).sequence
    place = len(sequence.steps) - 1
    return resolve(sequence.steps[place].parameters, new_run(sequence, "r", "", NOW), place)


def command(written: str, **names: str) -> Any:
    """What a container's command becomes."""
    text = "task_definition: t\noverrides:\n  container_overrides:\n  - name: a\n    command:\n    - " + written
    return parameters(an_ecs_step(text), **names)["overrides"]["container_overrides"][0]["command"][0]


def problems(text: str, given: tuple[str, ...] = (), **names: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocument) as raised:
        read_document(text, names, given=given)
    return raised.value.problems


# ---- variables ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("run ${A}", "run 5"),
        ("${A}${B}", "5b: [c]"),
        ('"${A}"', "5"),
        ("${B}", "b: [c]"),
        ("'${A} $A $${A} ${A:-x} ${#A} ${} ${'", "5 $A ${A} ${A:-x} ${#A} ${} ${"),
        ("$$${A}", "$${A}"),
        ("${C}", "${A} ${steps.a.result} $${"),
        ("say ${C}", "say ${A} ${steps.a.result} $${"),
        ("${EMPTY}", ""),
        ("|\n      #!/bin/sh\n      echo ${A}", "#!/bin/sh\necho 5\n"),
        ("$${steps.a.result.x}", "${steps.a.result.x}"),
    ],
)
def test_variables_are_put_into_values_as_text(written: str, value: str) -> None:
    assert command(written, A="5", B="b: [c]", C="${A} ${steps.a.result} $${", EMPTY="") == value


def test_a_variable_alone_and_without_quotes_is_read_as_a_scalar() -> None:
    made = parameters(
        an_ecs_step("task_definition: t\ncount: ${COUNT}\nenable_execute_command: ${ON}"), COUNT="3", ON="yes"
    )
    assert (made["count"], made["enable_execute_command"]) == (3, True)


@pytest.mark.parametrize("value", ["a\nb: c", "[a, b]", "{a: b}", "- a", "&a b", "!x y", "a # b", "---\n- b", '"q"'])
def test_what_is_put_in_never_becomes_structure(value: str) -> None:
    assert parameters(an_ecs_step("task_definition: ${X}\ngroup: g"), X=value) == {
        "task_definition": value,
        "group": "g",
    }


def test_keys_are_left_alone() -> None:
    (step,) = read_document("- '${A}': {type: ecs_task, parameters: {task_definition: t}}\n", {}).sequence.steps
    assert step.name == "${A}"


def test_options_of_a_step_may_be_variables_too() -> None:
    text = an_ecs_step("task_definition: t") + "    timeout_seconds: ${LIMIT}\n    active: ${RUN}\n"
    (step,) = read_document(text, {"LIMIT": "90", "RUN": "no"}).sequence.steps
    assert (step.timeout_seconds, step.active) == (90, False)


def test_an_unset_variable_is_told_where_it_stands() -> None:
    (problem,) = problems(an_ecs_step("task_definition: t\ncount: ${COUNT}"))
    assert (problem.line, problem.column, problem.message) == (5, 14, "${COUNT} is not set")


def test_only_what_was_set_on_the_command_line_is_offered_for_a_slip() -> None:
    text = an_ecs_step("task_definition: ${REVISON}")
    (offered,) = problems(text, given=("REVISION",), REVISION="1")
    (silent,) = problems(text, REVISION="1")
    assert offered.message == "${REVISON} is not set, did you mean ${REVISION}?"
    assert silent.message == "${REVISON} is not set"


def test_a_variable_that_is_no_text_is_told() -> None:
    (problem,) = problems(an_ecs_step("task_definition: ${X}"), X=b"a\xff".decode(errors="surrogateescape"))
    assert problem.message == "${X} is not UTF-8"


@pytest.mark.parametrize(
    "text",
    [
        an_ecs_step("task_definition: t\ncount: ${X}"),
        an_ecs_step("task_definition: t\nlaunch_type: ${X}"),
        an_ecs_step("task_definition: t\nstarted_by: '${X} !'"),
        an_ecs_step("task_definition: t\ntags: ${X}"),
        an_ecs_step("task_definition: t") + "    region: ${X}\n",
        an_ecs_step("task_definition: t") + "    retries: ${X}\n",
        "- a: {type: '${X}', parameters: {}}\n",
        "- '${X}'\n",
        "'${X}'\n",
        "- a: {type: spot_job, job: '${X}'}\n",
        "- a: {type: spot_job, parameters: {image: i, startAt: '${X}'}}\n",
        "- a: {type: spot_job, parameters: {image: i, architecture: '${X}'}}\n",
        "- a: {type: spot_job, parameters: {image: i, className: '${X}!'}}\n",
        "- a: {type: spot_job, parameters: {image: i, resources: {requests: {cpu: '${X}'}}}}\n",
        "- a: {type: ecs_task, parameters: {task_definition: '${steps.${X}.result.y}'}}\n",
    ],
)
def test_no_message_shows_what_a_variable_holds(text: str) -> None:
    told = problems(text, X=SECRET)
    assert told
    assert not [problem for problem in told if SECRET in str(problem) or SECRET[:7] in str(problem)]


def test_variables_cannot_blow_a_file_up() -> None:
    text = an_ecs_step("task_definition: t\ntags:\n" + "- {key: k, value: '${X}'}\n" * 50)
    assert any("more than 4 MiB" in problem.message for problem in problems(text, X="x" * 100_000))


# ---- results --------------------------------------------------------------------------------------------------------

TWO = """
- extract: {type: ecs_task, parameters: {task_definition: t}}
- load:
    type: ecs_task
    parameters:
      task_definition: t
      PARAMETER
"""


def test_a_result_of_an_earlier_step_stays_in_place_and_the_step_is_known() -> None:
    document = read_document(TWO.replace("PARAMETER", "group: rows-${steps.extract.result.rows}"), {})
    assert document.sequence.steps[1].parameters["group"] == "rows-${steps.extract.result.rows}"
    assert document.results_used == {"extract"}


def test_an_exit_code_needs_no_result() -> None:
    document = read_document(TWO.replace("PARAMETER", "group: ${steps.extract.exit_code}"), {})
    assert document.results_used == frozenset()


def test_a_result_may_stand_where_a_number_is_wanted() -> None:
    overrides = "overrides: {container_overrides: [{name: a, cpu: '${steps.extract.result.cpu}'}]}"
    document = read_document(TWO.replace("PARAMETER", overrides), {})
    assert document.results_used == {"extract"}


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("group: ${steps.extrct.result.rows}", "no step before this one is named extrct, did you mean extract?"),
        ("group: ${steps.load.result.rows}", "no step before this one is named load; before it: extract"),
        ("group: ${steps.extract.reslt.rows}", "has to be written as ${steps.NAME.result.KEY}"),
        ("count: ${steps.extract.result.rows}", "the Sequencer itself goes by this value"),
        ("cluster: a-${steps.extract.result.rows}", "the Sequencer itself goes by this value"),
    ],
)
def test_a_reference_that_cannot_be_answered_is_told(parameter: str, message: str) -> None:
    (problem,) = problems(TWO.replace("PARAMETER", parameter))
    assert (problem.line, problem.column) == (7, 14 if parameter.startswith(("group", "count")) else 16)
    assert message in problem.message


def test_results_are_for_parameters_only() -> None:
    (problem,) = problems(TWO.replace("PARAMETER", "").rstrip() + "\n    region: ${steps.extract.result.r}\n")
    assert "in `parameters` only" in problem.message


def test_a_step_of_on_failure_may_use_the_results_of_all_steps() -> None:
    text = (
        "on_failure:\n- tell: {type: ecs_task, parameters: {task_definition: t, group: '${steps.a.result.b}'}}\n"
        "steps:\n- a: {type: ecs_task, parameters: {task_definition: t}}\n"
    )
    assert read_document(text, {}).results_used == {"a"}


# ---- manifests ------------------------------------------------------------------------------------------------------

JOB = "- a: {type: spot_job, job: job.yaml}\n"
MANIFEST = """# kubectl apply -f job.yaml
apiVersion: spotjob.dev/v1alpha1
kind: SpotJob
metadata: {name: hello}
spec:
  image: busybox
  args: [echo, "${HOME} ${steps.x.result.y}"]
"""


def test_the_spec_of_a_manifest_becomes_the_parameters_as_it_stands() -> None:
    asked: list[str] = []

    def read_file(path: str) -> str:
        asked.append(path)
        return MANIFEST

    sequence = read_document(JOB, {}, read_file=read_file).sequence
    sent = resolve(sequence.steps[0].parameters, Run(id="r", started_at=NOW), 0)
    assert sent == {"image": "busybox", "args": ["echo", "${HOME} ${steps.x.result.y}"]}
    assert asked == ["job.yaml"]


def manifest_problem(text: str) -> str:
    with pytest.raises(InvalidDocument) as raised:
        read_document(JOB, {}, read_file=lambda _: text)
    (problem,) = raised.value.problems
    assert (problem.line, problem.column, problem.where) == (1, 23, "steps[0].a.job")
    return problem.message


def test_what_is_wrong_with_a_manifest_is_told_with_its_own_line() -> None:
    assert "line 7, column 3: spec.arg: unknown key arg" in manifest_problem(MANIFEST.replace("args", "arg"))
    assert "line 3, column 7: kind: not YAML" in manifest_problem(MANIFEST.replace("SpotJob", "]"))
    assert "is not a SpotJob of spotjob.dev/v1alpha1" in manifest_problem(MANIFEST.replace("SpotJob", "Job"))
    assert "spec: is missing" in manifest_problem(MANIFEST[: MANIFEST.index("spec:")])


def test_a_manifest_that_cannot_be_read_is_told() -> None:
    def missing(_: str) -> str:
        raise FileNotFoundError(2, "No such file or directory", "/a/b")

    with pytest.raises(InvalidDocument, match="cannot be read: No such file or directory"):
        read_document(JOB, {}, read_file=missing)
    with pytest.raises(InvalidDocument, match="this sequence is not a file"):
        read_document(JOB, {})


def test_a_path_that_is_none_is_told(tmp_path: Path) -> None:
    def read_file(path: str) -> str:
        return (tmp_path / path).read_text()

    with pytest.raises(InvalidDocument, match="is no path of a file"):
        read_document('- a: {type: spot_job, job: "a\\0b"}', {}, read_file=read_file)
    (tmp_path / "latin").write_bytes(b"\xe9")
    with pytest.raises(InvalidDocument, match="is not UTF-8"):
        read_document("- a: {type: spot_job, job: latin}", {}, read_file=read_file)

"""Files that cannot be run: what is told, and where."""

from __future__ import annotations

import re

import pytest

from spotjob.sequencer.document import InvalidDocument, Problem, read_document
from tests.sequencer.test_document import ONE, an_ecs_step

STEP = "- a: {type: ecs_task, parameters: {task_definition: t}}\n"
SPOT = "- a: {type: spot_job, parameters: {image: i}}\n"


def problems(text: str, **names: str) -> tuple[Problem, ...]:
    with pytest.raises(InvalidDocument) as raised:
        read_document(text, names, given=names)
    return raised.value.problems


def spot(parameters: str) -> str:
    return f"- a:\n    type: spot_job\n    parameters: {{image: i, {parameters}}}\n"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


LAUGHS = "- &a [" + ", ".join("ha" for _ in range(100)) + "]\n"
LAUGHS += "".join(f"- &{new} [{', '.join([f'*{old}'] * 100)}]\n" for old, new in ("ab", "bc", "cd", "de"))

BAD = {
    # the file as a whole
    "empty": ("", 1, 1, "", "the file is empty"),
    "only a comment": ("# nothing\n", 1, 1, "", "the file is empty"),
    "only a null": ("~", 1, 1, "", "the file is empty"),
    "a scalar": ("\nextract", 2, 1, "", "a list of steps, or a mapping with a list `steps`"),
    "a mapping without steps": ("a: {type: ecs_task}\n", 1, 1, "", "put `- ` before the name of each step"),
    "steps that is no list": ("steps: {a: b}\n", 1, 1, "steps", "must be a list of steps"),
    "an unknown key beside steps": ("steps: []\ntimeout: 5\n", 2, 1, "timeout", "did you mean timeout_seconds?"),
    "no time at all": ("steps: []\ntimeout_seconds: 0\n", 2, 1, "timeout_seconds", "must be at least 1"),
    "a second document": (STEP + "--- []\n", 2, 1, "", "a second document begins"),
    "more than a mebibyte": ("# " + "é" * (1 << 19), 1, 1, "", "larger than 1 MiB"),
    "a NUL": ("- a\n- b\x00", 2, 4, "", "U+0000 is not allowed"),
    "half a character": ("- '\ud800'", 1, 4, "", "U+D800 is not allowed"),
    # YAML
    "an open bracket": ("- a: [\n", 2, 1, "steps[0].a[0]", "not YAML: expected the node content"),
    "a colon too many": ("- a: b: c\n", 1, 7, "steps[0].a", "not YAML: mapping values are not allowed here"),
    "a tab": ("- a:\n\tb: c\n", 2, 1, "steps[0].a", "not YAML: found character '\\t'"),
    "a variable between brackets": ("- a: {b: ${X}}", 1, 11, "steps[0].a.b", "has to stand in quotes"),
    "no such character": ('- a: "\\UFFFFFFFF"', 1, 9, "steps[0].a", "no such character"),
    "an escaped half character": (
        STEP + '- b: {type: "\\ud800", parameters: {}}',
        2,
        13,
        "steps[1].b.type",
        "half a character",
    ),
    "an alias of nothing": ("- *a\n", 1, 3, "steps[0]", "the alias *a is not known"),
    "an alias within itself": (
        *(an_ecs_step("task_definition: t\noverrides: {container_overrides: &x [*x]}"), 5, 44),
        *("steps[0].extract.parameters.overrides.container_overrides[0]", "the alias *x stands inside itself"),
    ),
    "a billion laughs": (LAUGHS, 3, 139, "steps[2][33]", "the aliases of the file repeat more than 1 MiB"),
    "too deep": (nested(65), 1, 65, "steps" + "[0]" * 64, "more than 64 levels deep"),
    "a tag of one's own": (
        an_ecs_step("task_definition: t\noverrides: !ruby/object:Gem {}"),
        5,
        18,
        "steps[0].extract.parameters.overrides",
        "the tag !ruby/object:Gem is not taken",
    ),
    "a tag that does not fit": ("- a: !!int x\n", 1, 6, "steps[0].a", "int is not taken here"),
    "a binary": ("- a: !!binary eA==\n", 1, 6, "steps[0].a", "binary is not taken here"),
    "a key twice": (
        *("- a:\n    type: ecs_task\n    type: spot_job\n    parameters: {task_definition: t}\n", 3, 5),
        *("steps[0].a.type", "type is there already, in line 2"),
    ),
    "a list as a key": (
        an_ecs_step("task_definition: t\n? [a]\n: b"),
        5,
        9,
        "steps[0].extract.parameters",
        "a key has to be text",
    ),
    "a merge of nothing": (
        an_ecs_step("task_definition: t\n<<: 5"),
        5,
        7,
        "steps[0].extract.parameters.<<",
        "<< takes a mapping",
    ),
    # a step
    "a name alone": ("- extract\n", 1, 3, "steps[0]", "a step is a mapping of its name"),
    "a name without anything": ("- extract:\n", 1, 3, "steps[0].extract", "below its name a step has `type`"),
    "no type": ("- a: {parameters: {}}\n", 1, 3, "steps[0].a", "`type` is missing: ecs_task or spot_job"),
    "an unknown type": (STEP + "- b: {type: ecs, parameters: {}}\n", 2, 7, "steps[1].b.type", "must be 'ecs_task' or"),
    "no parameters": ("- a: {type: ecs_task}\n", 1, 3, "steps[0].a", "`parameters` is missing"),
    "parameters that are a list": (
        *("- a: {type: ecs_task, parameters: []}\n", 1, 23),
        *("steps[0].a.parameters", "must be a mapping"),
    ),
    "a second key, S14": (
        ONE + "  type: ecs_task\n",
        6,
        3,
        "steps[0].type",
        "type stands beside the step extract: indent",
    ),
    "a second step without its dash, S14": (
        *(STEP + "  b: {type: ecs_task}\n", 2, 3),
        *("steps[0].b", "b stands beside the step a: begin a step of its own"),
    ),
    "a slip in a key": (ONE + "    retrys: 5\n", 6, 5, "steps[0].extract.retrys", "did you mean retries?"),
    "a switch that is text": (ONE + "    active: 'yes'\n", 6, 5, "steps[0].extract.active", "must be true or false"),
    "a number that is text": (ONE + "    retries: '5'\n", 6, 5, "steps[0].extract.retries", "must be a whole number"),
    "too many retries": (ONE + "    retries: 101\n", 6, 5, "steps[0].extract.retries", "must be at most 100"),
    "an exit code out of range": (
        *(ONE + "    success_exit_codes:\n    - 0\n    - 256\n", 8, 7),
        *("steps[0].extract.success_exit_codes[1]", "must be at most 255"),
    ),
    "a region that is none": (ONE + "    region: Ireland\n", 6, 5, "steps[0].extract.region", "must match ^[a-z]{2}"),
    "a name that is too long": (
        ONE.replace("extract:\n", "x" * 129 + ":\n"),
        2,
        3,
        f"steps[0].{'x' * 64}...",
        "at most 128",
    ),
    "always after a failure": (
        *("steps: []\non_failure:\n- a: {type: ecs_task, always: true, parameters: {task_definition: t}}\n", 3, 23),
        *("on_failure[0].a.always", "has no meaning in on_failure"),
    ),
    "more than 500 steps": (STEP * 501, 501, 3, "steps[500]", "a sequence has at most 500 steps"),
    # ecs_task
    "a slip in a parameter, S11": (
        *(an_ecs_step("task_definition: t\nlaunch_typ: FARGATE"), 5, 7),
        *("steps[0].extract.parameters.launch_typ", "did you mean launch_type?"),
    ),
    "the API's own spelling": (
        *(an_ecs_step("taskDefinition: t\ntask_definition: t"), 4, 7),
        *("steps[0].extract.parameters.taskDefinition", "is written task_definition here"),
    ),
    "a number for text deep within, S11": (
        *(
            an_ecs_step(
                "task_definition: t\n"
                "overrides:\n  container_overrides:\n  - name: a\n    environment:\n    - {name: A, value: 5}"
            ),
            *(9, 23),
        ),
        *("steps[0].extract.parameters.overrides.container_overrides[0].environment[0].value", "must be text"),
    ),
    "nothing to run": (an_ecs_step("cluster: c"), 3, 5, "steps[0].extract.parameters", "task_definition is missing"),
    "a token of one's own": (
        *(an_ecs_step("task_definition: t\nclient_token: x"), 5, 7),
        *("steps[0].extract.parameters.client_token", "is set by the Sequencer"),
    ),
    "too many tasks": (
        *(an_ecs_step("task_definition: t\ncount: 11"), 5, 7),
        *("steps[0].extract.parameters.count", "must be from 1 to 10"),
    ),
    "a manifest for ECS": ("- a: {type: ecs_task, job: a.yaml}\n", 1, 23, "steps[0].a.job", "is of type spot_job only"),
    # spot_job
    "a slip in a spec": (spot("comand: [a]"), 3, 28, "steps[0].a.parameters.comand", "did you mean command?"),
    "a snake in a spec": (
        spot("backoff_limit: 1"),
        3,
        28,
        "steps[0].a.parameters.backoff_limit",
        "did you mean backoffLimit",
    ),
    "a slip deep in a spec": (
        *(spot("resources: {requests: {memry: 1Gi}}"), 3, 51),
        *("steps[0].a.parameters.resources.requests.memry", "did you mean memory?"),
    ),
    "no image": (
        "- a: {type: spot_job, parameters: {args: [x]}}\n",
        1,
        23,
        "steps[0].a.parameters.image",
        "is missing",
    ),
    "a quantity that is none": (
        *(spot("resources: {requests: {cpu: lots}}"), 3, 51),
        *("steps[0].a.parameters.resources.requests.cpu", "must be a quantity above zero"),
    ),
    "a time that is none": (spot("startAt: soon"), 3, 28, "steps[0].a.parameters.startAt", "must be a time"),
    "an object that goes too soon": (
        *(spot("ttlSecondsAfterFinished: 3599"), 3, 28),
        *("steps[0].a.parameters.ttlSecondsAfterFinished", "must be at least 3600"),
    ),
    "a rule over two fields": (
        *(spot("activeDeadlineSeconds: 60, attemptDeadlineSeconds: 61"), 3, 55),
        *("steps[0].a.parameters.attemptDeadlineSeconds", "must not be more than activeDeadlineSeconds"),
    ),
    "a rule deep within": (
        *(spot("env: [{name: SPOTJOB_X, value: x}]"), 3, 35),
        *("steps[0].a.parameters.env[0].name", "names that begin with SPOTJOB_ are reserved"),
    ),
    "a region for a SpotJob": (
        SPOT[:-2] + ", region: eu-west-1}\n",
        1,
        47,
        "steps[0].a.region",
        "is of type ecs_task only",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_told_with_line_and_column(case: str) -> None:
    """S11: nothing has run when this is told."""
    text, line, column, where, message = BAD[case]
    (problem,) = problems(text)
    assert (problem.line, problem.column, problem.where) == (line, column, where)
    assert message in problem.message


def test_all_problems_of_a_file_are_told_at_once_by_position_S11() -> None:
    text = """
- a: {type: ecs_tsk, parameters: *nothing}
- b: {type: ecs_task, parameters: {clustr: c}}
  c: d
- e: {type: spot_job, parameters: {}, retries: x}
"""
    told = [(problem.line, problem.column) for problem in problems(text)]
    assert told == [(2, 7), (2, 34), (3, 23), (3, 36), (4, 3), (5, 23), (5, 39)]


def test_a_problem_in_a_list_that_several_steps_share_is_told_once() -> None:
    text = "- a: &a {type: ecs_task, parameters: {task_definition: t, cpu: 1}}\n- b: *a\n"
    assert [(problem.line, problem.column, problem.where) for problem in problems(text)] == [
        (1, 59, "steps[0].a.parameters.cpu")
    ]


def test_a_problem_shows_as_editors_and_compilers_write_it() -> None:
    assert re.fullmatch(r"6:5: steps\[0\]\.extract\.retrys: unknown key .*", str(problems(ONE + "    retrys: 5\n")[0]))
    assert str(problems("")[0]).startswith("1:1: the file is empty")

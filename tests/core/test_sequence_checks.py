"""The steps of a JobSequence are checked whole before the first of them begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spotjob.core.sequence.checks import of_spot_job, problems, results_used
from spotjob.core.sequence.resources import JobSequenceSpec


def ecs(name: str, **parameters: Any) -> dict[str, Any]:
    return {"name": name, "type": "ecs_task", "parameters": parameters}


def a_spec(*steps: dict[str, Any], **more: Any) -> JobSequenceSpec:
    return JobSequenceSpec.model_validate({"steps": steps, **more})


def no_cluster(parameters: Mapping[str, Any]) -> list[tuple[tuple[str | int, ...], str]]:
    return [(("cluster", 0), "is bad")] if "cluster" in parameters else []


FAULTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a typo": ({"imagee": "b"}, "imagee", "did you mean image?"),
    "a name of Python's": ({"backoff_limit": 1}, "backoff_limit", "did you mean backoffLimit?"),
    "a typo deep inside": ({"env": [{"name": "A", "valeu": "1"}]}, "env[0].valeu", "did you mean value?"),
    "a text for a number": ({"backoffLimit": "x"}, "backoffLimit", "must be a whole number"),
    "a number out of bounds": ({"backoffLimit": -1}, "backoffLimit", "must be at least 0"),
    "two limits that do not fit": (
        {"activeDeadlineSeconds": 60, "attemptDeadlineSeconds": 61},
        "attemptDeadlineSeconds",
        "must not be more than activeDeadlineSeconds",
    ),
    "a job that may be gone before its verdict is read": (
        {"ttlSecondsAfterFinished": 5},
        "ttlSecondsAfterFinished",
        "at least 3600",
    ),
    "no list": ({"command": "sh"}, "command", "must be a list"),
}


@pytest.mark.parametrize(("spec", "field", "words"), FAULTS.values(), ids=list(FAULTS))
def test_a_fault_of_a_spot_job_is_named_by_its_path(spec: dict[str, Any], field: str, words: str):
    step = {"name": "a", "type": "spot_job", "parameters": {"image": "a:1", **spec}}
    (told,) = problems(a_spec(ecs("first"), step), no_cluster)
    assert told.startswith(f"steps[1].parameters.{field}: ")
    assert words in told


def test_an_absent_image_is_a_fault_and_a_whole_spec_is_none():
    assert [path for path, _ in of_spot_job({})] == [("image",)]
    assert of_spot_job({"image": "a:1", "resources": {"requests": {"cpu": 2, "nvidia.com/gpu": 1}}}) == []


def test_a_value_that_is_given_later_is_let_through_and_only_that():
    later = "${steps.first.result.x}"
    given = {
        "image": later,
        "backoffLimit": later,
        "startAt": f"{later}T00:00:00Z",
        "args": [later, f"--rows={later}"],
        "resources": {"requests": {"cpu": later, "memory": f"{later}Gi"}},
        "env": [{"name": "A", "value": later}],
    }
    assert of_spot_job(given) == []
    assert [path for path, _ in of_spot_job({**given, "env": later, "startAt": "$${steps.first.result.x}"})] == [
        ("startAt",)
    ]


def test_a_key_without_a_value_is_as_one_that_is_absent():
    sources = {"secretKeyRef": {"name": "s", "key": "k"}, "configMapKeyRef": None}
    given = {
        "image": "a:1",
        "resources": {"requests": {"cpu": None}},
        "env": [{"name": "A", "value": "x", "valueFrom": None}, {"name": "B", "value": None, "valueFrom": sources}],
        "capacity": {"type": "on-demand", "fallback": None},
    }
    assert of_spot_job(given) == []


def test_what_is_there_twice_and_what_has_no_end_are_faults():
    twice = {"image": "a:1", "env": [{"name": "A"}, {"name": "B"}, {"name": "A", "value": "x"}]}
    assert of_spot_job(twice) == [(("env", 2), "has the same name as an earlier one")]
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"x": deep}
    assert of_spot_job({"image": "a:1", "env": deep}) == [((), "is nested too deeply")]


def test_no_value_stands_in_a_fault():
    told = of_spot_job({"image": "a:1", "env": [{"name": "A", "value": {"hunter2": 1}}], "args": "hunter2"})
    assert told
    assert "hunter2" not in str([message for _, message in told])


def test_every_fault_of_every_step_is_told_with_those_on_failure_by_their_own_place():
    spec = a_spec(ecs("a", cluster="x"), ecs("b"), ecs("c", cluster="x"), onFailure=[ecs("d", cluster="x")])
    assert problems(spec, no_cluster) == [
        "steps[0].parameters.cluster[0]: is bad",
        "steps[2].parameters.cluster[0]: is bad",
        "onFailure[0].parameters.cluster[0]: is bad",
    ]


def test_a_reference_must_be_one_and_to_a_step_before():
    spec = a_spec(ecs("a", x="${HOME}"), ecs("b", x="${steps.c.result}"), ecs("c", x="${steps.a.result.rows}"))
    first, second = problems(spec, no_cluster)
    assert first.startswith("steps[0].parameters: ${HOME} is not known")
    assert second == "steps[1].parameters: refers to step c, and no step of that name comes before this one"


def test_the_steps_whose_results_are_used_are_those_that_are_referred_to():
    sequence = a_spec(ecs("a"), ecs("b"), ecs("c", x=["${steps.a.result.rows} rows"])).sequence()
    assert results_used(sequence) == {"a"}

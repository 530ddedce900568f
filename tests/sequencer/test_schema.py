"""docs/sequencer.schema.json: what editors check a sequence with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from spotjob.sequencer.document import InvalidDocument, read_document
from spotjob.sequencer.schema import schema

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples" / "sequences").glob("*.yml"))
VALIDATOR = jsonschema.Draft7Validator(schema())


def ecs(**parameters: Any) -> dict[str, Any]:
    return {"type": "ecs_task", "parameters": {"task_definition": "t"} | parameters}


def spot(**parameters: Any) -> dict[str, Any]:
    return {"type": "spot_job", "parameters": {"image": "i"} | parameters}


def test_the_committed_schema_is_what_the_models_say() -> None:
    """Otherwise: python -m spotjob.sequencer.schema > docs/sequencer.schema.json"""
    assert json.loads((ROOT / "docs" / "sequencer.schema.json").read_text()) == schema()


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(schema())


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_valid_for_editors_and_read(path: Path) -> None:
    text = path.read_text()
    assert list(VALIDATOR.iter_errors(yaml.safe_load(text))) == []
    assert read_document(text, {"DAY": "2026-11-22"}).sequence.steps


GOOD: dict[str, Any] = {
    "no step": [],
    "a step of ECS": [{"a": ecs(count=10, cluster="c")}],
    "every option": [
        {"a": ecs() | {"retries": 1, "always": True, "region": "eu-west-1", "success_exit_codes": [0, 3]}}
    ],
    "variables": [{"a": ecs(count="${COUNT}", launch_type="${TYPE}") | {"timeout_seconds": "${LIMIT}"}}],
    "a result as a list": [{"x": ecs()}, {"a": ecs(overrides={"container_overrides": "${steps.x.result.all}"})}],
    "a number as text": [{"a": ecs(count="3")}],
    "a SpotJob": [{"a": spot(resources={"requests": {"cpu": 2, "memory": "4Gi", "nvidia.com/gpu": 1}})}],
    "a manifest": [{"a": {"type": "spot_job", "job": "job.yaml"}}],
    "a mapping": {"steps": [{"a": ecs()}], "timeout_seconds": 60, "on_failure": [{"b": spot()}]},
}

BAD: dict[str, Any] = {
    "a scalar": "a",
    "a mapping without steps": {"a": ecs()},
    "an unknown key of the mapping": {"steps": [], "timeout": 5},
    "two keys": [{"a": ecs(), "b": ecs()}],
    "no type": [{"a": {"parameters": {"task_definition": "t"}}}],
    "an unknown type": [{"a": ecs() | {"type": "ecs"}}],
    "an unknown option": [{"a": ecs() | {"retrys": 1}}],
    "an unknown parameter": [{"a": ecs(launch_typ="EC2")}],
    "a token": [{"a": ecs(client_token="t")}],
    "a value that is none": [{"a": ecs(launch_type="FAR")}],
    "too many tasks": [{"a": ecs(count=11)}],
    "nothing to run": [{"a": {"type": "ecs_task", "parameters": {}}}],
    "a manifest for ECS": [{"a": ecs() | {"job": "job.yaml"}}],
    "both": [{"a": spot() | {"job": "job.yaml"}}],
    "a region for a SpotJob": [{"a": spot() | {"region": "eu-west-1"}}],
    "an unknown field": [{"a": spot(comand=["x"])}],
    "no image": [{"a": {"type": "spot_job", "parameters": {}}}],
    "too short a life": [{"a": spot(ttlSecondsAfterFinished=60)}],
    "a quantity that is none": [{"a": spot(resources={"requests": {"cpu": "lots"}})}],
}


def reads(document: Any) -> bool:
    try:
        read_document(
            yaml.safe_dump(document, sort_keys=False).replace("'${", "${").replace("}'", "}"),
            {"COUNT": "3", "TYPE": "EC2", "LIMIT": "60"},
            read_file=lambda _: "{apiVersion: spotjob.dev/v1alpha1, kind: SpotJob, spec: {image: i}}",
        )
    except InvalidDocument:
        return False
    return True


@pytest.mark.parametrize("case", GOOD)
def test_what_reads_is_valid(case: str) -> None:
    assert reads(GOOD[case])
    assert list(VALIDATOR.iter_errors(GOOD[case])) == []


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_read_is_not_valid(case: str) -> None:
    assert not reads(BAD[case])
    assert not VALIDATOR.is_valid(BAD[case])

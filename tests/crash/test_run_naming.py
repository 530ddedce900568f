"""Each call of a run has a name that says where the run stands, and the same one each time."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

from spotjob.aws.sequence_runs import item_of
from spotjob.core.sequence.runs import Run, StepRun, StepState
from tests.crash.run_naming import RunNames, standing

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DYNAMODB, ECS = "DynamoDB_20120810", "AmazonEC2ContainerServiceV20141113"


def a_run(state: StepState = StepState.RUNNING, tries: int = 1) -> Run:
    steps = (StepRun(name="load", state=StepState.SUCCEEDED), StepRun(name="check", state=state, tries=tries))
    return Run(id="r", started_at=NOW, steps=steps)


def put(run: Run) -> bytes:
    """The body of PutItem, as botocore sends it."""
    item = item_of(run, 1, "writer", NOW)
    packed = base64.b64encode(item["record"]["B"]).decode()
    return json.dumps({"TableName": "t", "Item": {**item, "record": {"B": packed}}}).encode()


def test_a_write_of_the_record_is_named_by_what_it_says_wherever_it_goes():
    names, run = RunNames(), a_run()
    named = names.call("POST", "/", {"X-Amz-Target": f"{DYNAMODB}.PutItem"}, put(run))
    assert named == names.write(run.model_dump_json(by_alias=True).encode()) == "record: check, Running"


def test_a_call_of_ecs_is_told_apart_by_the_record_before_it():
    names = RunNames()
    names.write(a_run(StepState.REQUESTING, tries=2).model_dump_json(by_alias=True).encode())
    assert names.call("POST", "/", {"X-Amz-Target": f"{ECS}.RunTask"}, b"{}") == "RunTask, check, try 2, Requesting"


def test_other_calls_are_called_what_they_are():
    assert RunNames().call("POST", "/", {"X-Amz-Target": f"{DYNAMODB}.GetItem"}, b"{}") == "GetItem"


def test_a_run_that_is_over_stands_at_its_end():
    over = a_run(StepState.SUCCEEDED)
    assert standing(over.model_copy(update={"state": "Succeeded"})) == "Succeeded"

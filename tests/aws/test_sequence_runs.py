"""The table SequenceRuns, over HTTP against moto behind its lock."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from spotjob.aws.calls import Threads
from spotjob.aws.sequence_runs import SequenceRuns, open_runs
from spotjob.clock import RealClock
from spotjob.core.sequence.ports import RecordChanged, RecordUnreachable
from spotjob.core.sequence.runs import ContainerEnd, Run, StepRun, StepState
from spotjob.local.ec2 import Fault, Simulator

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture
def name() -> str:
    return f"SequenceRuns-{uuid.uuid4()}"


@pytest.fixture
async def runs(dynamodb: Threads, simulator: Simulator, name: str) -> SequenceRuns:
    """A table that was just created, as one process sees it."""
    made = SequenceRuns(name, dynamodb, RealClock())
    await made.prepare(create=True)
    return made


def a_run(run_id: str = "run-1", message: str = "", steps: int = 1) -> Run:
    step = StepRun(name="one", state=StepState.RUNNING, tasks=("arn:1",), result={"Rows": None}, started_at=NOW)
    return Run(id=run_id, digest="digest", started_at=NOW, message=message, steps=(step,) * steps)


async def test_a_run_comes_back_as_it_was_written(runs: SequenceRuns) -> None:
    version = await runs.save(a_run(), 0)
    assert await runs.load("run-1") == (a_run(), version)
    assert await runs.load("run-2") is None


async def test_versions_grow_and_only_the_newest_is_written_over(runs: SequenceRuns) -> None:
    first = await runs.save(a_run(), 0)
    second = await runs.save(a_run(message="2"), first)
    with pytest.raises(RecordChanged):
        await runs.save(a_run(message="late"), first)
    assert await runs.load("run-1") == (a_run(message="2"), second)


async def test_a_new_run_is_never_written_over_one_that_is_there(runs: SequenceRuns) -> None:
    await runs.save(a_run(), 0)
    with pytest.raises(RecordChanged):
        await runs.save(a_run(message="2"), 0)


async def test_a_write_whose_answer_was_lost_is_known_for_our_own(runs: SequenceRuns, simulator: Simulator) -> None:
    version = await runs.save(a_run(), 0)
    simulator.faults.order(Fault("PutItem", when="after", lost=True))
    assert await runs.save(a_run(message="2"), version) == version + 1
    assert simulator.calls["PutItem"] == 3


async def test_of_two_processes_that_write_the_same_one_is_told_so(
    runs: SequenceRuns, dynamodb: Threads, name: str
) -> None:
    other = SequenceRuns(name, dynamodb, RealClock())
    version = await runs.save(a_run(), 0)
    await other.save(a_run(message="2"), version)
    with pytest.raises(RecordChanged):
        await runs.save(a_run(message="2"), version)


async def test_what_dynamodb_refuses_is_no_word_about_the_record(runs: SequenceRuns, simulator: Simulator) -> None:
    simulator.faults.order(Fault("PutItem", code="AccessDeniedException", status=400))
    with pytest.raises(RecordUnreachable, match="AccessDenied"):
        await runs.save(a_run(), 0)


async def test_a_run_of_500_steps_with_ten_tasks_each_fits_into_an_item(runs: SequenceRuns) -> None:
    arns = [f"arn:aws:ecs:us-east-1:123456789012:task/cluster/{uuid.uuid4().hex}" for _ in range(5000)]
    steps = tuple(
        StepRun(
            name=f"step-{place}",
            state=StepState.SUCCEEDED,
            tasks=tuple(arns[place * 10 : place * 10 + 10]),
            containers=tuple(
                ContainerEnd(task=arn, name="main", arn=f"{arn}/{uuid.uuid4()}", exit_code=0)
                for arn in arns[place * 10 : place * 10 + 10]
            ),
        )
        for place in range(500)
    )
    run = a_run().model_copy(update={"steps": steps})
    await runs.save(run, 0)
    assert await runs.load("run-1") == (run, 1)


async def test_a_record_of_a_newer_version_is_not_taken_up(runs: SequenceRuns, dynamodb: Threads, name: str) -> None:
    await runs.save(a_run(), 0)
    newer = {"Key": {"id": {"S": "run-1"}}, "UpdateExpression": "SET #f = :two", "TableName": name}
    names, values = {"#f": "format"}, {":two": {"N": "2"}}
    await dynamodb.run(
        lambda client: client.update_item(**newer, ExpressionAttributeNames=names, ExpressionAttributeValues=values)
    )
    with pytest.raises(RecordUnreachable, match="written by a newer sequencer"):
        await runs.load("run-1")


async def test_a_missing_table_is_created_only_when_that_is_wanted(session: object, name: str) -> None:
    with pytest.raises(RecordUnreachable, match="SEQUENCER_STATE_CREATE_TABLE"):
        await open_runs(name, False, RealClock())
    (await open_runs(name, True, RealClock())).close()
    (await open_runs(name, False, RealClock())).close()
    (await open_runs(name, True, RealClock())).close()


async def test_a_table_with_another_key_is_refused(dynamodb: Threads, simulator: Simulator, name: str) -> None:
    await dynamodb.run(
        lambda client: client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "run", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "run", "AttributeType": "S"}],
        )
    )
    with pytest.raises(RecordUnreachable, match="another key"):
        await SequenceRuns(name, dynamodb, RealClock()).prepare(create=True)

"""The table Jobs, over HTTP against moto behind its lock."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from spotjob.aws.calls import Threads
from spotjob.aws.clients import Session
from spotjob.aws.dynamodb import JobsTable, TableError, TableRefused, open_table, table_request
from spotjob.core.mirror import closed
from spotjob.local.ec2 import Fault, Simulator

REGION = "us-east-1"
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture
def name() -> str:
    return f"Jobs-{uuid.uuid4()}"


@pytest.fixture
async def table(dynamodb: Threads, simulator: Simulator, name: str) -> JobsTable:
    """A table that was just created."""
    made = JobsTable(name, dynamodb)
    await made.prepare(create=True)
    return made


def an_item(item_id: str = "uid-1", version: int = 1, status: str = "Running", **more: Any) -> Mapping[str, Any]:
    return {
        "id": item_id,
        "imageName": "busybox:1",
        "dateToRun": "2026-11-22T10:00:00.000Z",
        "environmentVariablesList": ["A=1", "EMPTY="],
        "jobStatus": status,
        "statusShard": f"{status}#0",
        "version": version,
        **more,
    }


def raw(name: str, operation: str, **request: Any) -> Any:
    """What another program sees."""
    client = boto3.client("dynamodb", REGION)
    try:
        return getattr(client, operation)(TableName=name, **request)
    finally:
        client.close()


# ---- items --------------------------------------------------------------------------------------------------------


async def test_an_item_comes_back_as_it_was_put(table: JobsTable) -> None:
    item = an_item(exitCode=0)
    assert await table.put(item)
    found = await table.get("uid-1")
    assert found == item
    assert found
    assert type(found["exitCode"]) is int


async def test_an_item_that_nobody_put_is_none(table: JobsTable) -> None:
    assert await table.get("uid-1") is None


async def test_a_newer_version_replaces_the_whole_item(table: JobsTable) -> None:
    await table.put(an_item(version=9, instanceId="i-1"))
    assert await table.put(an_item(version=10, exitCode=7))
    assert await table.get("uid-1") == an_item(version=10, exitCode=7)


@pytest.mark.parametrize("version", [9, 10])
async def test_an_older_or_equal_version_changes_nothing(table: JobsTable, version: int) -> None:
    await table.put(an_item(version=10))
    assert not await table.put(an_item(version=version, status="Requested"))
    assert await table.get("uid-1") == an_item(version=10)


async def test_a_put_whose_answer_was_lost_counts_as_done(table: JobsTable, simulator: Simulator) -> None:
    simulator.faults.order(Fault("PutItem", lost=True, when="after"))
    assert await table.put(an_item())
    assert simulator.calls["PutItem"] == 2, "boto3 repeats it, and the repeat finds its own item"


async def test_of_many_writers_at_once_the_newest_version_stays(table: JobsTable) -> None:
    versions = [7, 3, 11, 1, 12, 5, 2, 10, 4, 9, 8, 6]
    await asyncio.gather(*(table.put(an_item(version=version, attempt=version)) for version in versions))
    assert await table.get("uid-1") == an_item(version=12, attempt=12)


async def test_dynamodbs_refusal_is_a_table_error_with_its_words(table: JobsTable) -> None:
    with pytest.raises(TableError, match="Item size has exceeded") as refused:
        await table.put(an_item(environmentVariablesList=["x" * 410_000]))
    assert refused.value.code == "ValidationException"


# ---- open items ---------------------------------------------------------------------------------------------------


async def test_open_items_are_those_with_a_shard_with_all_their_attributes(table: JobsTable) -> None:
    scheduled = an_item("uid-1", status="Scheduled", statusShard="Scheduled#3")
    finished = an_item("uid-2", status="FinishedOK", statusShard="FinishedOK#7")
    terminated = {k: v for k, v in an_item("uid-3", status="TerminatedOK").items() if k != "statusShard"}
    for item in (scheduled, finished, terminated):
        await table.put(item)
    assert sorted(await table.open_items(), key=lambda item: item["id"]) == [scheduled, finished]


async def test_a_closed_item_leaves_the_index(table: JobsTable) -> None:
    await table.put(an_item())
    (open_item,) = await table.open_items()
    assert await table.put(closed(open_item, NOW, timedelta(days=90)))
    assert await table.open_items() == []
    found = await table.get("uid-1")
    assert found is not None
    assert (found["jobStatus"], found["reason"]) == ("TerminatedNOK", "Cancelled")


async def test_hundreds_of_open_items_are_all_found(table: JobsTable) -> None:
    items = [an_item(f"uid-{n:03}") for n in range(205)]
    await asyncio.gather(*(table.put(item) for item in items))
    assert sorted(await table.open_items(), key=lambda item: item["id"]) == items


# ---- the table ----------------------------------------------------------------------------------------------------


async def test_a_created_table_costs_per_request_finds_by_image_and_expires_items(table: JobsTable, name: str) -> None:
    description = raw(name, "describe_table")["Table"]
    assert description["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert {each["IndexName"] for each in description["GlobalSecondaryIndexes"]} == {"byImageDate", "byStatus"}
    assert raw(name, "describe_time_to_live")["TimeToLiveDescription"] == {
        "TimeToLiveStatus": "ENABLED",
        "AttributeName": "expiresAt",
    }
    await table.put(an_item())
    found = raw(
        name,
        "query",
        IndexName="byImageDate",
        KeyConditionExpression="imageName = :i AND dateToRun >= :d",
        ExpressionAttributeValues={":i": {"S": "busybox:1"}, ":d": {"S": "2026-11-22"}},
    )["Items"]
    assert [each["id"]["S"] for each in found] == ["uid-1"]


async def test_two_replicas_may_create_the_table_at_once(dynamodb: Threads, simulator: Simulator, name: str) -> None:
    one, other = JobsTable(name, dynamodb), JobsTable(name, dynamodb)
    await asyncio.gather(one.prepare(create=True), other.prepare(create=True))
    assert await one.put(an_item())
    assert await other.get("uid-1") == an_item()


async def test_a_missing_table_is_refused_with_the_ways_out(dynamodb: Threads, simulator: Simulator, name: str) -> None:
    with pytest.raises(TableRefused, match=f"no DynamoDB table {name}.*SPOTJOB_MIRROR_CREATE_TABLE=true"):
        await JobsTable(name, dynamodb).prepare(create=False)
    assert simulator.calls["CreateTable"] == 0


async def test_the_table_of_the_first_scheduler_is_refused(dynamodb: Threads, simulator: Simulator, name: str) -> None:
    raw(
        name,
        "create_table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[
            {"AttributeName": "imageName", "KeyType": "HASH"},
            {"AttributeName": "dateToRun", "KeyType": "RANGE"},
        ],
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": "S"} for attribute in ("imageName", "dateToRun")
        ],
    )
    with pytest.raises(TableRefused, match="has the key imageName, dateToRun, where SpotJob needs the key id"):
        await JobsTable(name, dynamodb).prepare(create=True)


async def test_a_table_without_an_index_is_refused_by_the_indexs_name(
    dynamodb: Threads, simulator: Simulator, name: str
) -> None:
    request = table_request(name)
    kept = [each for each in request["GlobalSecondaryIndexes"] if each["IndexName"] != "byStatus"]
    attributes = [each for each in request["AttributeDefinitions"] if each["AttributeName"] != "statusShard"]
    del request["TableName"]
    raw(name, "create_table", **{**request, "GlobalSecondaryIndexes": kept, "AttributeDefinitions": attributes})
    with pytest.raises(TableRefused, match="has no index byStatus over statusShard and dateToRun"):
        await JobsTable(name, dynamodb).prepare(create=False)


async def test_an_existing_table_keeps_its_time_to_live_unless_creation_is_asked_for(
    dynamodb: Threads, simulator: Simulator, name: str
) -> None:
    request = table_request(name)
    del request["TableName"]
    raw(name, "create_table", **request)
    table = JobsTable(name, dynamodb)
    await table.prepare(create=False)
    assert raw(name, "describe_time_to_live")["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"
    await table.prepare(create=True)
    assert raw(name, "describe_time_to_live")["TimeToLiveDescription"]["TimeToLiveStatus"] == "ENABLED"


async def test_dynamodb_out_of_reach_is_a_table_error(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(TableError, match="Could not connect") as failed:
        await open_table(REGION, "Jobs", create=False)
    assert not isinstance(failed.value, TableRefused)


async def test_without_any_region_the_settings_to_give_one_are_named(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with pytest.raises(TableRefused, match="SPOTJOB_MIRROR_REGION or AWS_REGION"):
        await open_table("", "Jobs", create=False)


async def test_an_opened_table_is_in_the_region_of_the_environment_when_none_is_set(
    session: Session, simulator: Simulator, name: str
) -> None:
    table = await open_table("", name, create=True)
    await table.put(an_item())
    table.close()
    assert raw(name, "get_item", Key={"id": {"S": "uid-1"}})["Item"]["version"] == {"N": "1"}

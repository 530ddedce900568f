"""The port Table on DynamoDB: the table `Jobs`, one item per SpotJob.

A write is conditional on a growing `version`, so that a late writer never puts an older state over a newer one.
The sparse index byStatus holds the jobs that are not terminated, spread over shards of each status, since one hot
key of an index throttles the whole table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import partial
from operator import methodcaller
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import BotoCoreError, ClientError, NoRegionError, WaiterError

from spotjob.aws.calls import Raw, Threads
from spotjob.aws.clients import Session
from spotjob.core.mirror import Item, open_shards

THREADS = 8
"""Calls at the same time; also how many shards are read in parallel."""
READ_SECONDS = 10
ATTEMPTS = 4
KEYS_PER_BATCH = 100
"""BatchGetItem's limit."""
BATCH_ROUNDS = 20
"""BatchGetItem may leave keys out when it is busy; after this many rounds that is an error."""

KEY = {"id": "HASH"}
INDEXES = {
    "byImageDate": {"imageName": "HASH", "dateToRun": "RANGE"},
    "byStatus": {"statusShard": "HASH", "dateToRun": "RANGE"},
}
TTL_ATTRIBUTE = "expiresAt"
CONDITION_FAILED = "ConditionalCheckFailedException"


class TableError(Exception):
    """DynamoDB refused or did not answer. `code` is its own word, or empty without an answer."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class TableRefused(TableError):
    """The table is missing or is not ours: somebody has to do something. The message says what."""


async def open_table(region: str, name: str, create: bool) -> JobsTable:
    """The table, checked. An empty region means that of the environment.

    With `create` a missing table is made, and its time to live switched on if it is off. Raises TableRefused for a
    missing table or one with other keys, and TableError.
    """
    make_client = partial(Session().client, "dynamodb", region, ATTEMPTS, READ_SECONDS)
    table = JobsTable(name, Threads(make_client, THREADS, "dynamodb"))
    try:
        await table.prepare(create)
    except TableError:
        table.close()
        raise
    return table


class JobsTable:
    """Items go in and out as plain Python: text, whole numbers, lists of text. Every method may raise TableError."""

    def __init__(self, name: str, threads: Threads) -> None:
        self._name, self._threads = name, threads

    def close(self) -> None:
        """Close every connection."""
        self._threads.close()

    # ---- items ----

    async def put(self, item: Mapping[str, Any]) -> bool:
        """Write the item unless the table holds the same or a newer `version`; False when it does."""
        try:
            await self._call("put_item", TableName=self._name, **_newer(item))
        except TableError as error:
            if error.code != CONDITION_FAILED:
                raise
            # boto3 repeats a call whose answer was lost, and then fails at its own first success.
            return await self.get(item["id"]) == dict(item)
        return True

    async def get(self, item_id: str) -> Item | None:
        """The item by id, consistent."""
        key = _wire({"id": item_id})
        answer = await self._call("get_item", TableName=self._name, Key=key, ConsistentRead=True)
        return _plain(answer["Item"]) if "Item" in answer else None

    async def open_items(self) -> Sequence[Item]:
        """Every item whose job is not terminated. The index knows the ids; the table itself says what is true."""
        found = await asyncio.gather(*(self._ids_in(shard) for shard in open_shards()))
        ids = sorted({item_id for shard in found for item_id in shard})
        batches = [ids[start : start + KEYS_PER_BATCH] for start in range(0, len(ids), KEYS_PER_BATCH)]
        items = [item for batch in batches for item in await self._batch(batch)]
        return [item for item in items if "statusShard" in item]

    async def _ids_in(self, shard: str) -> list[str]:
        ids: list[str] = []
        position: Mapping[str, Any] = {}
        while True:
            answer = await self._call("query", TableName=self._name, **_in_shard(shard), **position)
            ids += [found["id"]["S"] for found in answer["Items"]]
            if "LastEvaluatedKey" not in answer:
                return ids
            position = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    async def _batch(self, ids: Sequence[str]) -> list[Item]:
        keys = [_wire({"id": item_id}) for item_id in ids]
        wanted: Mapping[str, Any] = {self._name: {"Keys": keys, "ConsistentRead": True}}
        items: list[Item] = []
        for _ in range(BATCH_ROUNDS):
            answer = await self._call("batch_get_item", RequestItems=wanted)
            items += [_plain(found) for found in answer["Responses"].get(self._name, [])]
            wanted = answer.get("UnprocessedKeys", {})
            if not wanted:
                return items
        raise TableError(f"BatchGetItem of table {self._name} leaves keys out even after {BATCH_ROUNDS} rounds")

    # ---- the table ----

    async def prepare(self, create: bool) -> None:
        """Check the table, and with `create` make it. Raises TableRefused."""
        description = await self._description()
        if description is None and create:
            await self._create()
            description = await self._description()
        if description is None:
            raise TableRefused(
                f"there is no DynamoDB table {self._name}; create it, or let the operator do so with "
                "SPOTJOB_MIRROR_CREATE_TABLE=true, or do without it with an empty SPOTJOB_MIRROR_TABLE"
            )
        problem = _problem(description)
        if problem:
            raise TableRefused(f"DynamoDB table {self._name} {problem}; give another name with SPOTJOB_MIRROR_TABLE")
        if create:
            await self._expire_items()

    async def _description(self) -> Raw | None:
        try:
            answer = await self._call("describe_table", TableName=self._name)
        except TableError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
        table: Raw = answer["Table"]
        return table

    async def _create(self) -> None:
        """Create it and wait until it is there. Another replica may be first."""
        try:
            await self._call("create_table", **table_request(self._name))
        except TableError as error:
            if error.code != "ResourceInUseException":
                raise
        try:
            await self._threads.run(
                lambda client: client.get_waiter("table_exists").wait(
                    TableName=self._name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
                )
            )
        except WaiterError as error:
            raise TableError(f"table {self._name} was created and does not become active: {error}") from error

    async def _expire_items(self) -> None:
        answer = await self._call("describe_time_to_live", TableName=self._name)
        if answer["TimeToLiveDescription"].get("TimeToLiveStatus") == "DISABLED":
            wanted = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
            await self._call("update_time_to_live", TableName=self._name, TimeToLiveSpecification=wanted)

    async def _call(self, operation: str, **request: Any) -> Raw:
        try:
            answer: Raw = await self._threads.run(methodcaller(operation, **request))
        except ClientError as error:
            raise TableError(f"{operation}: {error}", error.response["Error"].get("Code", "")) from error
        except NoRegionError as error:
            raise TableRefused("no AWS region for the table: set SPOTJOB_MIRROR_REGION or AWS_REGION") from error
        except BotoCoreError as error:
            raise TableError(f"{operation}: {error}") from error
        return answer


# ---- requests -----------------------------------------------------------------------------------------------------


def table_request(name: str) -> dict[str, Any]:
    """The whole CreateTable request. The indexes hold keys only: they find, the table tells."""
    attributes = sorted({name for keys in (KEY, *INDEXES.values()) for name in keys})
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": _key_schema(KEY),
        "AttributeDefinitions": [{"AttributeName": name, "AttributeType": "S"} for name in attributes],
        "GlobalSecondaryIndexes": [
            {"IndexName": index, "KeySchema": _key_schema(keys), "Projection": {"ProjectionType": "KEYS_ONLY"}}
            for index, keys in INDEXES.items()
        ],
    }


def _newer(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Item": _wire(item),
        "ConditionExpression": "attribute_not_exists(#id) OR #version < :version",
        "ExpressionAttributeNames": {"#id": "id", "#version": "version"},
        "ExpressionAttributeValues": _wire({":version": item["version"]}),
    }


def _in_shard(shard: str) -> dict[str, Any]:
    return {
        "IndexName": "byStatus",
        "KeyConditionExpression": "#shard = :shard",
        "ProjectionExpression": "#id",
        "ExpressionAttributeNames": {"#shard": "statusShard", "#id": "id"},
        "ExpressionAttributeValues": _wire({":shard": shard}),
    }


def _problem(description: Raw) -> str:
    """What is wrong with a table that is there; empty when nothing is."""
    if description["KeySchema"] != _key_schema(KEY):
        found = ", ".join(each["AttributeName"] for each in description["KeySchema"])
        return f"has the key {found}, where SpotJob needs the key id"
    there = {each["IndexName"]: each["KeySchema"] for each in description.get("GlobalSecondaryIndexes", [])}
    for index, keys in INDEXES.items():
        if there.get(index) != _key_schema(keys):
            return f"has no index {index} over {' and '.join(keys)}"
    return ""


def _key_schema(keys: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()]


# ---- values -------------------------------------------------------------------------------------------------------


def _wire(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: TypeSerializer().serialize(value) for name, value in item.items()}


def _plain(item: Raw) -> Item:
    """DynamoDB's numbers come as Decimal; all of ours are whole."""
    values = {name: TypeDeserializer().deserialize(value) for name, value in item.items()}
    return {name: int(value) if isinstance(value, Decimal) else value for name, value in values.items()}

"""Records of runs in DynamoDB: the table `SequenceRuns`, one item per run.

A write is conditional on the version that was read. Each process signs its writes, so that one whose answer was lost,
which botocore repeats, is told apart from a write of another process that drives the same run.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from operator import methodcaller
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, WaiterError

from spotjob.aws.calls import Raw, Threads
from spotjob.aws.clients import Session
from spotjob.core.ports import Clock
from spotjob.core.sequence.ports import RECORD_FORMAT, RecordChanged, RecordUnreachable, check_format
from spotjob.core.sequence.runs import Run

ATTEMPTS, READ_SECONDS = 4, 10
KEY = [{"AttributeName": "id", "KeyType": "HASH"}]
TTL_ATTRIBUTE = "expiresAt"
KEPT_FOR = timedelta(days=90)
"""After its last write, where the table's time to live is switched on."""
CONDITION_FAILED = "ConditionalCheckFailedException"


async def open_runs(name: str, create: bool, clock: Clock, region: str = "") -> SequenceRuns:
    """The table, checked; with `create` a missing one is made. Raises RecordUnreachable."""
    threads = Threads(partial(Session().client, "dynamodb", region, ATTEMPTS, READ_SECONDS), 2, "dynamodb")
    runs = SequenceRuns(name, threads, clock)
    try:
        await runs.prepare(create)
    except RecordUnreachable:
        runs.close()
        raise
    return runs


class _Failed(Exception):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SequenceRuns:
    """Implements the port Records."""

    def __init__(self, name: str, threads: Threads, clock: Clock) -> None:
        self._name, self._threads, self._clock = name, threads, clock
        self._writer = clock.token()

    def close(self) -> None:
        """Close every connection."""
        self._threads.close()

    # ---- records ----

    async def load(self, run_id: str) -> tuple[Run, int] | None:
        item = await self._item(run_id)
        if item is None:
            return None
        check_format(int(item.get("format", {"N": RECORD_FORMAT})["N"]), f"the record of run {run_id}")
        return _run(item), int(item["version"]["N"])

    async def save(self, run: Run, version: int) -> int:
        item = item_of(run, version + 1, self._writer, self._clock.now())
        try:
            await self._call("put_item", TableName=self._name, **over(item, version))
        except _Failed as error:
            if error.code != CONDITION_FAILED:
                raise RecordUnreachable(str(error)) from error
            if not _same(await self._item(run.id), item):
                raise RecordChanged(f"run {run.id} has been written by somebody else") from error
        return version + 1

    async def _item(self, run_id: str) -> Raw | None:
        key = {"id": {"S": run_id}}
        try:
            answer = await self._call("get_item", TableName=self._name, Key=key, ConsistentRead=True)
        except _Failed as error:
            raise RecordUnreachable(str(error)) from error
        return answer.get("Item")

    # ---- the table ----

    async def prepare(self, create: bool) -> None:
        """Check the table, and with `create` make it. Raises RecordUnreachable."""
        try:
            keys = await self._keys()
            if keys is None and create:
                await self._create()
                keys = await self._keys()
        except _Failed as error:
            raise RecordUnreachable(str(error)) from error
        if keys is None:
            raise RecordUnreachable(
                f"there is no DynamoDB table {self._name}; create it with the key id (S), or let it be created with "
                "SEQUENCER_STATE_CREATE_TABLE=true"
            )
        if keys != KEY:
            raise RecordUnreachable(f"DynamoDB table {self._name} has another key than id")

    async def _keys(self) -> Any:
        try:
            return (await self._call("describe_table", TableName=self._name))["Table"]["KeySchema"]
        except _Failed as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise

    async def _create(self) -> None:
        """Create it and wait until it is there. Another process may be first."""
        try:
            await self._call("create_table", **table_request(self._name))
        except _Failed as error:
            if error.code != "ResourceInUseException":
                raise
        wait = {"Delay": 1, "MaxAttempts": 120}
        await self._run(lambda client: client.get_waiter("table_exists").wait(TableName=self._name, WaiterConfig=wait))
        expiry = {"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        try:
            await self._call("update_time_to_live", TableName=self._name, TimeToLiveSpecification=expiry)
        except _Failed as error:
            if error.code != "ValidationException":  # the one who was first has switched it on
                raise

    async def _call(self, operation: str, **request: Any) -> Raw:
        answer: Raw = await self._run(methodcaller(operation, **request))
        return answer

    async def _run(self, method: Any) -> Any:
        try:
            return await self._threads.run(method)
        except ClientError as error:
            raise _Failed(error.response["Error"].get("Code", ""), str(error)) from error
        except (BotoCoreError, WaiterError) as error:
            raise _Failed("", str(error)) from error


# ---- requests -----------------------------------------------------------------------------------------------------


def table_request(name: str) -> dict[str, Any]:
    """The whole CreateTable request."""
    attributes = [{"AttributeName": "id", "AttributeType": "S"}]
    return {
        "TableName": name,
        "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": KEY,
        "AttributeDefinitions": attributes,
    }


def item_of(run: Run, version: int, writer: str, now: datetime) -> dict[str, Any]:
    """The whole item. The record is compressed: an item holds 400 KB, and 500 steps may be more in plain JSON."""
    current = run.current
    return {
        "id": {"S": run.id},
        "format": {"N": str(RECORD_FORMAT)},
        "version": {"N": str(version)},
        "writer": {"S": writer},
        "state": {"S": run.state.value},
        "step": {"S": "" if current is None else f"{current + 1}/{len(run.steps)} {run.steps[current].name}"},
        "updatedAt": {"S": now.isoformat()},
        TTL_ATTRIBUTE: {"N": str(int((now + KEPT_FOR).timestamp()))},
        "record": {"B": zlib.compress(run.model_dump_json(by_alias=True, exclude_none=True).encode(), 9)},
    }


def over(item: Mapping[str, Any], version: int) -> dict[str, Any]:
    """PutItem over this version; 0: over nothing."""
    if version == 0:
        names = {"#id": "id"}
        return {"Item": item, "ConditionExpression": "attribute_not_exists(#id)", "ExpressionAttributeNames": names}
    return {
        "Item": item,
        "ConditionExpression": "#version = :version",
        "ExpressionAttributeNames": {"#version": "version"},
        "ExpressionAttributeValues": {":version": {"N": str(version)}},
    }


def _run(item: Raw) -> Run:
    return Run.model_validate_json(zlib.decompress(bytes(item["record"]["B"])))


def _same(there: Raw | None, written: Raw) -> bool:
    """The write had its effect, and its answer was lost."""
    if there is None or any(there[name] != written[name] for name in ("writer", "version")):
        return False
    return bytes(there["record"]["B"]) == bytes(written["record"]["B"])

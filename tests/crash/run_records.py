"""Reads the record of a run past the product: the one item of a table, or the one file of a folder."""

from __future__ import annotations

import asyncio
import json
import zlib
from pathlib import Path
from typing import Protocol

from spotjob.core.sequence.runs import Run
from tests.crash import account
from tests.crash.run_lane import RunLane


class Record(Protocol):
    """Where one run is recorded."""

    @property
    def state(self) -> str:
        """As --state takes it."""

    async def read(self) -> Run | None:
        """None: there is none (yet)."""


class TableRecord:
    """A table of its own."""

    def __init__(self, lane: RunLane, table: str) -> None:
        self.state = f"dynamodb:{table}"
        self._lane, self._table = lane, table

    async def read(self) -> Run | None:
        return await asyncio.to_thread(self._read)

    def _read(self) -> Run | None:
        with account.client(self._lane.url, "dynamodb") as dynamodb:
            if self._table not in dynamodb.list_tables()["TableNames"]:
                return None
            items = dynamodb.scan(TableName=self._table, ConsistentRead=True)["Items"]
        assert len(items) <= 1, f"{len(items)} runs where there is one"
        return Run.model_validate_json(zlib.decompress(items[0]["record"]["B"])) if items else None


class FileRecord:
    """A folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.state = str(folder)
        self._folder = folder

    async def read(self) -> Run | None:
        found = list(self._folder.glob("*.json"))
        assert len(found) <= 1, f"{len(found)} runs where there is one"
        return Run.model_validate(json.loads(found[0].read_text())["run"]) if found else None

"""Where records of runs are: a file, a folder, or a DynamoDB table."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from spotjob.aws.sequence_runs import open_runs
from spotjob.core.ports import Clock
from spotjob.core.sequence.ports import Records, RecordUnreachable
from spotjob.core.sequence.resume import resumed
from spotjob.core.sequence.runs import Run
from spotjob.core.sequence.steps import Sequence
from spotjob.sequencer.environment import BadUsage
from spotjob.sequencer.record_file import FileRecords

DYNAMODB = "dynamodb:"


@asynccontextmanager
async def open_records(state: str, create_table: bool, clock: Clock) -> AsyncIterator[Records]:
    """`state` as in --state. Raises BadUsage."""
    if not state.startswith(DYNAMODB):
        files = FileRecords.at(Path(state))
        try:
            yield files
        finally:
            files.close()
        return
    try:
        table = await open_runs(state.removeprefix(DYNAMODB), create_table, clock)
    except RecordUnreachable as error:
        raise BadUsage(f"--state {state}: {error}") from error
    try:
        yield table
    finally:
        table.close()


async def taken_up(records: Records, sequence: Sequence, digest: str, run_id: str, clock: Clock) -> tuple[Run, int]:
    """A run that there is, and the version over which it is written. Raises BadUsage, RecordChanged."""
    try:
        found = await records.load(run_id)
    except RecordUnreachable as error:
        raise BadUsage(f"--resume {run_id}: {error}") from error
    if found is None:
        raise BadUsage(f"--resume {run_id}: there is no record of this run; look at --state")
    run, version = found
    if run.digest != digest:
        raise BadUsage(
            f"--resume {run_id}: the file is not the one that this run was started with (sha256 {digest[:12]}, the "
            f"run has {run.digest[:12]}); give that file, or start a new run, with --from if steps are to be left out"
        )
    return resumed(sequence, run, clock.now()), version

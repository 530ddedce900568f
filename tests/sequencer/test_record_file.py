"""Records in files: whole or not at all, and held by one process at a time."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from spotjob.core.sequence.ports import RecordChanged, RecordUnreachable
from spotjob.core.sequence.runs import Run, RunState, new_run
from spotjob.core.sequence.steps import Sequence
from spotjob.sequencer.record_file import FileRecords
from tests.builders import NOW


def a_run(run_id: str = "run-1", message: str = "", state: RunState = RunState.RUNNING) -> Run:
    return new_run(Sequence(), run_id, "digest", NOW).model_copy(update={"message": message, "state": state})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sequencer"


async def test_a_run_comes_back_as_it_was_written(folder: Path) -> None:
    records = FileRecords.at(folder)
    version = await records.save(a_run(), 0)
    assert await records.save(a_run(message="2"), version) == version + 1
    assert await records.load("run-1") == (a_run(message="2"), version + 1)
    records.close()


async def test_a_version_that_is_not_the_newest_is_not_written_over(folder: Path) -> None:
    records = FileRecords.at(folder)
    version = await records.save(a_run(), 0)
    await records.save(a_run(message="2"), version)
    with pytest.raises(RecordChanged):
        await records.save(a_run(message="late"), version)
    with pytest.raises(RecordChanged):
        await records.save(a_run(message="new"), 0)
    records.close()


async def test_a_run_that_another_holds_is_not_touched_until_it_lets_go(folder: Path) -> None:
    holder, other = FileRecords.at(folder), FileRecords.at(folder)
    version = await holder.save(a_run(), 0)
    with pytest.raises(RecordChanged, match="another process drives the run"):
        await other.load("run-1")
    holder.close()
    assert await other.load("run-1") == (a_run(), version)
    other.close()


def hold_and_die(folder: Path) -> None:
    import asyncio

    asyncio.run(FileRecords.at(folder).save(a_run(), 0))
    os._exit(9)


async def test_a_holder_that_died_holds_nothing(folder: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(folder,))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    process.close()
    records = FileRecords.at(folder)
    assert await records.load("run-1") == (a_run(), 1)
    records.close()


async def test_a_write_that_fails_leaves_the_old_record_and_no_litter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = FileRecords.at(folder)
    version = await records.save(a_run(), 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(RecordUnreachable, match="No space left"):
            await records.save(a_run(message="2"), version)
    assert await records.load("run-1") == (a_run(), version)
    assert sorted(os.listdir(folder)) == ["run-1.json", "run-1.json.lock"]
    assert await records.save(a_run(message="2"), version) == version + 1
    records.close()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}', '{"version": 1, "run": {"id": 3}}', "\x00"])
async def test_what_is_no_record_is_never_taken_for_one(folder: Path, text: str) -> None:
    os.makedirs(folder)
    (folder / "run-1.json").write_text(text)
    records = FileRecords.at(folder)
    with pytest.raises(RecordUnreachable, match="no record of a run"):
        await records.load("run-1")
    records.close()


@pytest.mark.parametrize(("state", "taken"), [(RunState.FAILED, True), (RunState.RUNNING, False)])
async def test_in_one_named_file_a_new_run_follows_only_one_that_is_over(
    tmp_path: Path, state: RunState, taken: bool
) -> None:
    records = FileRecords.at(tmp_path / "record.json")
    await records.save(a_run("old", state=state), 0)
    if taken:
        assert await records.save(a_run("new"), 0) == 1
    else:
        with pytest.raises(RecordUnreachable, match="holds run old, which is not over: --resume old takes it up"):
            await records.save(a_run("new"), 0)
    assert await records.load("old") == (None if taken else (a_run("old", state=state), 1))
    records.close()


@pytest.mark.parametrize(("number", "read"), [(1, True), (None, True), (2, False)])
async def test_a_record_of_a_newer_version_is_not_taken_up(folder: Path, number: int | None, read: bool) -> None:
    records = FileRecords.at(folder)
    await records.save(a_run(), 0)
    path = folder / "run-1.json"
    document = {**json.loads(path.read_text()), "format": number}
    path.write_text(json.dumps({name: value for name, value in document.items() if value is not None}))
    if read:
        assert await records.load("run-1") == (a_run(), 1)
    else:
        with pytest.raises(RecordUnreachable, match="written by a newer sequencer"):
            await records.load("run-1")
    records.close()

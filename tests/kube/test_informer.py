from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal

import pytest

from spotjob.core.ports import Unanswered
from spotjob.core.reasons import Outcome
from spotjob.core.resources import SpotJob
from spotjob.core.states import Claimed, Ended
from spotjob.kube import transport
from spotjob.kube.client import Expired
from spotjob.kube.informer import Informer, JobIndex
from spotjob.kube.objects import WatchEvent
from tests.builders import a_job, after, booting, running


def at(job: SpotJob, version: int, name: str = "night") -> SpotJob:
    metadata = {"resource_version": str(version), "uid": f"uid-of-{name}", "name": name}
    return job.model_copy(update={"metadata": job.metadata.model_copy(update=metadata)})


# ---- the index ----


def test_an_instance_finds_the_job_whose_running_attempt_names_it() -> None:
    index = JobIndex()
    index.put(at(booting("i-1"), 1))
    found = index.for_instance("i-1")
    assert found is not None
    assert found.metadata.uid == "uid-of-night"
    assert index.for_instance("i-2") is None


def test_an_attempt_that_is_over_names_no_instance_any_more() -> None:
    index = JobIndex()
    index.put(at(running("i-1"), 1))
    index.put(at(after(running("i-1"), Ended(Outcome.SUCCEEDED, exit_code=0)), 2))
    assert index.for_instance("i-1") is None
    assert index.get("uid-of-night") is not None


def test_an_older_event_never_undoes_a_newer_own_write() -> None:
    index = JobIndex()
    index.put(at(booting("i-1"), 9))
    index.refresh(at(running("i-1"), 10))
    index.put(at(booting("i-1"), 9))
    known = index.get("uid-of-night")
    assert known is not None
    assert known.current is not None
    assert known.current.started_at is not None


def test_versions_are_compared_as_numbers() -> None:
    index = JobIndex()
    index.put(at(booting("i-1"), 99))
    index.put(at(running("i-1"), 100))
    known = index.get("uid-of-night")
    assert known is not None
    assert known.metadata.resource_version == "100"


def test_an_own_write_does_not_bring_a_deleted_job_back() -> None:
    index = JobIndex()
    index.put(at(booting("i-1"), 1))
    index.drop("uid-of-night")
    index.refresh(at(running("i-1"), 2))
    assert index.get("uid-of-night") is None


def test_what_a_new_listing_does_not_show_is_gone() -> None:
    index = JobIndex()
    index.put(at(booting("i-1"), 1))
    index.replace_all([at(booting("i-2"), 5, "other")])
    assert index.get("uid-of-night") is None
    assert index.for_instance("i-1") is None
    assert index.for_instance("i-2") is not None


def test_of_two_jobs_that_name_one_instance_the_claimed_one_is_found() -> None:
    index = JobIndex()
    for name in ("a", "b", "c"):
        job = booting("i-1")
        index.put(at(after(job, Claimed("hash")) if name == "b" else job, 1, name))
    found = index.for_instance("i-1")
    assert found is not None
    assert found.metadata.uid == "uid-of-b"


# ---- waiting ----


async def test_a_wait_ends_when_the_instance_appears() -> None:
    index = JobIndex()
    waiting = asyncio.create_task(index.wait_for_instance("i-1", 300))
    await asyncio.sleep(0)
    index.put(at(booting("i-2"), 1, "other"))
    await asyncio.sleep(0)
    assert not waiting.done()
    index.put(at(booting("i-1"), 2))
    found = await asyncio.wait_for(waiting, 60)
    assert found is not None
    assert found.metadata.uid == "uid-of-night"


async def test_a_wait_ends_with_its_time_and_leaves_nothing_behind() -> None:
    index = JobIndex()
    assert await index.wait_for_instance("i-1", 0.01) is None
    assert index._waiting == {}


async def test_all_waits_end_when_the_process_does() -> None:
    index = JobIndex()
    waits = [asyncio.create_task(index.wait_for_instance(f"i-{n % 2}", 300)) for n in range(4)]
    await asyncio.sleep(0)
    index.stop_waits()
    assert await asyncio.wait_for(asyncio.gather(*waits), 60) == [None] * 4


async def test_nobody_waits_any_more_once_the_process_ends() -> None:
    index = JobIndex()
    index.stop_waits()
    assert await asyncio.wait_for(index.wait_for_instance("i-1", 300), 60) is None


async def test_a_change_wakes_those_who_wait_for_its_job_and_nobody_else() -> None:
    index, looks = JobIndex(), dict.fromkeys(("night", "other"), 0)

    def look(name: str) -> None:
        looks[name] += 1

    waits = [
        asyncio.create_task(index.wait_for(f"uid-of-{name}", lambda name=name: look(name), 30))  # type: ignore[misc]
        for name in looks
    ]
    for version in (1, 2, 3):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        index.put(at(running("i-1"), version))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert looks == {"night": 4, "other": 1}
    index.stop_waits()
    await asyncio.gather(*waits)


def test_of_two_versions_the_newer_one_is_found() -> None:
    index = JobIndex()
    index.put(at(running("i-1"), 10))
    assert [index.newest(at(running("i-1"), version)).metadata.resource_version for version in (9, 11)] == ["10", "11"]


# ---- list and watch ----

Step = WatchEvent | Exception


class Script:
    """A source that lists, then gives the steps of each watch; at the end it waits to be cancelled."""

    def __init__(self, listings: list[list[SpotJob]], watches: list[list[Step]]) -> None:
        self.listings, self.watches = listings, watches
        self.version = 100
        """What each listing says."""
        self.resumed_from: list[str] = []
        self.over = asyncio.Event()

    async def list_jobs_at(self) -> tuple[list[SpotJob], str]:
        return self.listings.pop(0), str(self.version)

    async def watch_jobs(self, resource_version: str) -> AsyncIterator[WatchEvent]:
        self.resumed_from.append(resource_version)
        if not self.watches:
            self.over.set()
            await asyncio.Event().wait()
        for step in self.watches.pop(0):
            if isinstance(step, Exception):
                raise step
            yield step


def event(
    version: int, job: SpotJob | None, kind: Literal["changed", "deleted", "bookmark"] = "changed", uid: str = ""
) -> WatchEvent:
    return WatchEvent(kind, str(version), job.metadata.uid if job else uid, job)


async def played(script: Script, index: JobIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_SECONDS", 0.001)
    running_ = asyncio.create_task(Informer(script, index).run())
    await asyncio.wait_for(script.over.wait(), 60)
    running_.cancel()
    await asyncio.wait((running_,))


async def test_the_index_is_synced_after_the_first_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    index = JobIndex()
    await played(Script([[at(booting("i-1"), 3)]], []), index, monkeypatch)
    assert index.synced.is_set()
    assert index.for_instance("i-1") is not None


async def test_events_change_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    index = JobIndex()
    first, second = at(booting("i-1"), 101), at(booting("i-2"), 102, "other")
    gone = event(103, None, "deleted", first.metadata.uid)
    await played(Script([[]], [[event(101, first), event(102, second), gone]]), index, monkeypatch)
    assert index.for_instance("i-1") is None
    assert index.for_instance("i-2") is not None


async def test_a_broken_watch_is_resumed_where_it_ended_bookmarks_included(monkeypatch: pytest.MonkeyPatch) -> None:
    watches: list[list[Step]] = [
        [event(101, at(a_job(), 101)), Unanswered("silent")],
        [event(150, None, "bookmark")],
        [],
    ]
    script = Script([[]], watches)
    await played(script, JobIndex(), monkeypatch)
    assert script.resumed_from == ["100", "101", "150", "150"]


async def test_an_expired_watch_lists_again_and_drops_what_was_deleted_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = JobIndex()
    script = Script([[at(booting("i-1"), 3)], [at(booting("i-2"), 4, "other")]], [[Expired("too old")]])
    await played(script, index, monkeypatch)
    assert index.for_instance("i-1") is None
    assert index.for_instance("i-2") is not None


async def test_an_object_that_became_unreadable_leaves_the_index(monkeypatch: pytest.MonkeyPatch) -> None:
    index = JobIndex()
    job = at(booting("i-1"), 3)
    await played(Script([[job]], [[event(104, None, "changed", job.metadata.uid)]]), index, monkeypatch)
    assert index.get(job.metadata.uid) is None


async def test_a_watch_that_fails_again_and_again_is_given_up_for_a_new_listing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    index = JobIndex()
    script = Script([[], [at(booting("i-1"), 3)]], [[Unanswered("504: Too large resource version")]] * 5)
    await played(script, index, monkeypatch)
    assert index.for_instance("i-1") is not None


async def test_after_a_restore_the_older_versions_are_taken_for_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd restored from a backup goes on at a lower revision."""
    index = JobIndex()
    lost, restored = at(booting("i-2"), 250), at(booting("i-1"), 90)
    script = Script([[], [restored]], [[event(250, lost), Expired("unknown version")]])
    await played(script, index, monkeypatch)
    assert index.for_instance("i-1") is not None
    assert index.for_instance("i-2") is None

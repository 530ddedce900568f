"""What the agent makes of a full disk, of clocks that jump, and of answers that are not the API's own words."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from spotjob.agent import agent
from tests.agent.fleet import Fleet
from tests.agent.world import World

JOB = {"uid": "u", "attempt": 1, "image": "a:1", "agentToken": "t"}


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> agent.Life:
    """The agent of a container that has begun; its files are the test's."""
    for name in ("BOOT_ID", "BEGUN", "SIGNALLED", "INTERRUPTION", "DRILL"):
        monkeypatch.setattr(agent, name, tmp_path / name.lower())
    monkeypatch.setattr(agent, "SHARED", tmp_path)
    agent.BOOT_ID.write_text("this-boot")
    agent.BEGUN.write_text("{}")
    return agent.Life("i-1", JOB)


def answering(monkeypatch: pytest.MonkeyPatch, *answers: tuple[int, bytes]) -> None:
    """Every request gets the next of these answers."""
    left = iter(answers)
    monkeypatch.setattr(agent, "exchange", lambda *_: next(left))


# ---- a full disk ----


def test_a_kill_timer_that_was_moved_before_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next agent may come when the container has filled the disk."""
    monkeypatch.setattr(agent, "TIMER", tmp_path / "spotjob-deadline.timer")
    agent.TIMER.write_text("[Timer]\nOnCalendar=2026-11-22 00:05:00 UTC\nAccuracySec=1s\n")
    commands: list[list[str]] = []
    monkeypatch.setattr("subprocess.run", lambda command, **_: commands.append(command))
    agent.move_kill_timer("2026-11-22T05:00:00Z")
    assert agent.TIMER.read_text() == "[Timer]\nOnCalendar=2026-11-22 05:00:00 UTC\nAccuracySec=1s\n"

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(agent, "write", full)
    agent.move_kill_timer("2026-11-22T05:00:00Z")
    assert commands == [["systemctl", "daemon-reload"], ["systemctl", "restart", "spotjob-deadline.timer"]] * 2


def test_what_is_written_while_the_container_runs_lies_in_memory() -> None:
    """A container that fills the disk is signalled all the same."""
    for path in (agent.SIGNALLED, agent.SHARED):
        assert path.is_relative_to(agent.ROOT / "run")
    assert not agent.SIGNALLED.is_relative_to(agent.SHARED), "the container sees that folder"


# ---- clocks ----


def test_a_clock_that_is_set_back_by_an_hour_does_not_silence_the_agent(
    life: agent.Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    monkeypatch.setattr(agent, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(life, "_look", lambda: looks.append(1))
    life._duties()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    deadline = time.monotonic() + 30
    while len(looks) < 3 and time.monotonic() < deadline:
        assert life._duties() <= 0.01
    assert len(looks) == 3


def test_the_signal_comes_as_long_before_the_reclaim_as_the_job_wants(
    life: agent.Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    notice = json.dumps({"action": "terminate", "time": f"{now + timedelta(seconds=120):%Y-%m-%dT%H:%M:%SZ}"})
    monkeypatch.setattr(agent, "metadata", lambda path: notice if path == "spot/instance-action" else None)
    begun = time.monotonic()
    life._look()
    assert 90 < life._signals["SIGTERM"] - begun <= 105


# ---- answers ----


@pytest.mark.parametrize("status", [400, 401, 403, 413])
def test_a_page_of_a_proxy_is_no_final_word(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    answering(monkeypatch, (status, b"<html>Forbidden</html>"), (status, b'{"title": "Forbidden"}'))
    with pytest.raises(ConnectionError, match=str(status)):
        agent.api("GET", "/", "token")
    with pytest.raises(agent.Over, match="Forbidden"):
        agent.api("GET", "/", "token")


@pytest.mark.parametrize("answer", [(200, b"<html>"), (301, b""), (307, b"{}"), (500, b"{}"), (200, b"\xff\xfe")])
def test_what_is_no_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch, answer: tuple[int, bytes]) -> None:
    answering(monkeypatch, answer)
    with pytest.raises(agent.BROKEN):
        agent.api("GET", "/", "token")


def test_an_answer_that_cannot_be_read_is_not_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, (200, b'{"env": {"PASSWORD": "hunter2\xff"}'))
    with pytest.raises(ValueError, match="delimiter") as broken:
        agent.api("POST", "/claim", "token")
    assert "hunter2" not in repr(broken.value)


def test_a_proxys_refusal_of_the_result_is_waited_out(fleet: Fleet, world: World, image: str) -> None:
    world.pages["report"] = 403
    instance = fleet.run(image=image, script="exit 4")
    log = fleet.folder(instance) / "agent.log"
    world.until(lambda: log.exists() and "the API answered 403" in log.read_text())
    del world.pages["report"]
    assert world.final(instance).exit_code == 4


def test_an_image_that_names_another_path_of_the_engine_is_no_image(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image="../containers")
    report = fleet.world.final(instance)
    assert report.finished_as == "ImagePullFailed"
    assert fleet.agent_log(instance).count("Traceback") == 0

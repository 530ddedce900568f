"""The lines that a change of a run is worth."""

from __future__ import annotations

import logging
import sys
from datetime import timedelta
from typing import Any

import pytest

from spotjob.core.sequence.ports import JobSeen, Looked, News, Refusal, Refused, Task, Unknown
from spotjob.core.sequence.runs import ContainerEnd, Run, RunState, StepRun, StepState, new_run
from spotjob.core.sequence.steps import Sequence
from spotjob.sequencer import logs
from spotjob.sequencer.oldlog import last_lines, lines
from tests.builders import NOW, SECOND, a_job
from tests.sequencer.outside import a_sequence, a_step

ONE = a_sequence("one")


def a_run(sequence: Sequence = ONE, **step: Any) -> Run:
    """A run whose first step is so."""
    run = new_run(sequence, "run-1", "", NOW)
    return run.with_step(0, run.steps[0].model_copy(update={"started_at": NOW, **step}))


def texts(before: Run, after: Run, news: News = None, sequence: Sequence = ONE, **options: Any) -> list[str]:
    made = lines(sequence, before, after, news, NOW + 90 * SECOND, **options)
    return [f"{logging.getLevelName(line.level)} {line.text}" for line in made]


RUNNING = a_run(state=StepState.RUNNING, tasks=("arn:1",))


def test_nothing_is_said_of_a_turn_in_which_nothing_happened() -> None:
    assert texts(RUNNING, RUNNING) == []


def test_each_task_of_a_look_has_a_line() -> None:
    news = Looked((Task("arn:1", "STOPPED"), Task("arn:2", "RUNNING")))
    assert texts(RUNNING, RUNNING, news) == [
        "INFO one: arn:1 current status: STOPPED",
        "INFO one: arn:2 current status: RUNNING",
    ]


def test_a_container_without_an_exit_code_shows_none_as_it_did() -> None:
    end = ContainerEnd(task="arn:1", name="main", arn="arn:c")
    done = a_run(state=StepState.SUCCEEDED, tasks=("arn:1",), containers=(end,), ended_at=NOW + 1.5 * SECOND)
    assert texts(RUNNING, done) == [
        "INFO one completed in 1.5 seconds",
        "INFO one: container main arn:c completed with exit_code ",
    ]


@pytest.mark.parametrize("news", [Unknown("no answer"), Refused(Refusal.THROTTLED, "Slow", "no answer")])
def test_a_check_that_failed_is_warned_of_in_the_old_words(news: News) -> None:
    said = texts(RUNNING, RUNNING, news, failed_looks=2)
    assert said[0].endswith("no answer")
    assert said[1] == "WARNING task completion check failed, trying again #2"


def test_a_request_without_an_answer_is_no_failed_check() -> None:
    asking = a_run(state=StepState.REQUESTING)
    (said,) = texts(asking, asking, Unknown("no answer"))
    assert said == "WARNING one: no answer, the same request is sent again: no answer"


def test_a_failure_that_is_ignored_alarms_nobody() -> None:
    sequence = a_sequence(a_step("one", ignore_failure=True))
    failed = a_run(sequence, state=StepState.FAILED, reason="Broken", message="a\nb", tasks=("arn:1",))
    said = texts(a_run(sequence, state=StepState.REQUESTING, tasks=("arn:1",)), failed, sequence=sequence)
    assert said == ["WARNING one failed, which is ignored: Broken", "WARNING one: a", "WARNING one: b"]


def test_a_wait_says_until_when() -> None:
    before = a_run(state=StepState.REQUESTING)
    waiting = a_run(state=StepState.WAITING, reason="CapacityUnavailable", next_at=NOW + timedelta(minutes=1))
    assert texts(before, waiting) == ["WARNING one waits: CapacityUnavailable, trying again at 02:01:00 UTC"]


def test_another_request_for_want_of_room_is_no_new_start() -> None:
    waiting = a_run(state=StepState.WAITING, requests=1)
    assert texts(waiting, a_run(state=StepState.REQUESTING, requests=2)) == []
    assert texts(waiting, a_run(state=StepState.REQUESTING, requests=1)) == [
        "INFO starting ECS task one",
        "DEBUG running ECS task one...",
    ]


def test_a_spot_job_has_lines_of_its_own() -> None:
    sequence = a_sequence(a_step("one", type="spot_job"))
    asking = a_run(sequence, state=StepState.REQUESTING, job="run-1-1-1")
    running = a_run(sequence, state=StepState.RUNNING, job="run-1-1-1", status="Requested/Booting")
    news = JobSeen(a_job(name="run-1-1-1"))
    assert texts(asking, running, news, sequence) == ["INFO one SpotJob created run-1-1-1"]
    assert texts(running, running, news, sequence) == ["INFO one: SpotJob run-1-1-1 current status: Requested/Booting"]


@pytest.mark.parametrize(
    ("state", "message", "said"),
    [
        (RunState.SUCCEEDED, "", ["INFO all steps succeeded... exiting with code 7"]),
        (
            RunState.FAILED,
            "one: Broken: a\nb",
            ["ERROR SEQUENCER_ERROR: one: Broken: a", "ERROR failure... exiting with code 7"],
        ),
        (
            RunState.STOPPED,
            "SIGTERM",
            ["ERROR SEQUENCER_ERROR: stopped by SIGTERM", "ERROR failure... exiting with code 7"],
        ),
    ],
)
def test_the_last_lines_say_how_a_run_ended(state: RunState, message: str, said: list[str]) -> None:
    run = RUNNING.model_copy(update={"state": state, "message": message})
    assert [f"{logging.getLevelName(line.level)} {line.text}" for line in last_lines(run, 7)] == said


def test_a_good_run_says_so_when_a_failure_was_ignored() -> None:
    run = Run(id="1", started_at=NOW, state=RunState.SUCCEEDED, steps=(StepRun(name="a", state=StepState.FAILED),))
    (line,) = last_lines(run, 0)
    assert line.text == "all steps succeeded, but for those whose failure is ignored... exiting with code 0"


def test_every_line_of_a_message_has_a_head_of_its_own() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", ("a\nb",), None)
    first, second = logs.OldShape().format(record).splitlines()
    assert first.startswith("W, [")
    assert first.endswith("]  WARN -- : a")
    assert second.endswith("]  WARN -- : b")


def test_an_exception_is_part_of_the_line_in_json() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "text", (), sys.exc_info())
    assert "ValueError: broken" in logs.Json().format(record)

"""Which container's log is read at the end of a try, and what of it is kept."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.core.sequence.lastlines import (
    LONGEST_MESSAGE,
    LONGEST_RESULT,
    asking,
    speaker,
    tried,
    with_last_words,
    with_result,
)
from spotjob.core.sequence.ports import Container, DescribeTasks, Looked, StopTasks, Task
from spotjob.core.sequence.runs import StepRun, StepState
from spotjob.core.sequence.steps import Step

STEP = Step(name="one", type="ecs_task")
GOOD, BAD = StepRun(name="one", state=StepState.SUCCEEDED), StepRun(name="one", state=StepState.FAILED)


def a_look(*containers: Container, essential: dict[str, frozenset[str]] | None = None) -> Looked:
    return Looked(
        (Task("arn:1", "STOPPED", task_definition="d:1", containers=containers),), frozenset(), essential or {}
    )


def heard(after: StepRun, *containers: Container, **options: Any) -> str | None:
    found = speaker(STEP, after, a_look(*containers, **options))
    return None if found is None else found[1]


def test_a_good_step_speaks_through_its_first_container() -> None:
    assert heard(GOOD, Container("main", 0), Container("sidecar", 0)) == "main"


def test_a_good_step_speaks_through_its_first_essential_container_where_that_is_known() -> None:
    essential = {"d:1": frozenset({"main"})}
    assert heard(GOOD, Container("sidecar", 0), Container("main", 0), essential=essential) == "main"


def test_a_failed_step_speaks_through_the_container_that_failed() -> None:
    assert heard(BAD, Container("sidecar", 0), Container("main", 3)) == "main"


def test_a_step_that_failed_without_an_exit_code_speaks_through_its_first_container() -> None:
    assert heard(BAD, Container("main"), Container("sidecar", 0)) == "main"


def test_a_task_without_containers_says_nothing() -> None:
    assert heard(GOOD) is None
    assert heard(BAD) is None


@pytest.mark.parametrize(
    ("lines", "result"),
    [
        ((), None),
        (("no json", "[1]", '"text"', "3"), None),
        (('{"a": 1}', "bye"), {"a": 1}),
        (('{"a": 1}', '{"a": 2}'), {"a": 2}),
        (('{"a": "' + "x" * LONGEST_RESULT + '"}',), None),
    ],
)
def test_the_result_is_the_last_line_that_is_a_json_object(lines: tuple[str, ...], result: object) -> None:
    assert with_result(GOOD, lines).result == result


def test_the_result_of_an_earlier_try_is_not_kept() -> None:
    before = GOOD.model_copy(update={"result": {"a": 1}})
    assert with_result(before, ("nothing",)).result is None


def test_the_message_holds_as_many_of_the_last_lines_as_there_is_room_for() -> None:
    step = BAD.model_copy(update={"message": "it broke"})
    told = with_last_words(step, "main", [f"{number} {'x' * 300}" for number in range(20)])
    assert len(told.message) <= LONGEST_MESSAGE
    first, head, *lines = told.message.splitlines()
    assert (first, head) == ("it broke", "last lines of main:")
    assert [line.split()[0] for line in lines] == [str(number) for number in range(14, 20)]
    assert StepRun.model_validate(told.wire()) == told


def test_without_lines_the_message_stays_as_it_is() -> None:
    assert with_last_words(BAD, "main", ()) == BAD


@pytest.mark.parametrize(
    ("before", "after", "is_end"),
    [
        (StepState.RUNNING, StepState.RUNNING, False),
        (StepState.RUNNING, StepState.STOPPING, False),
        (StepState.RUNNING, StepState.SUCCEEDED, True),
        (StepState.RUNNING, StepState.WAITING, True),
        (StepState.STOPPING, StepState.STOPPED, True),
        (StepState.REQUESTING, StepState.FAILED, False),
    ],
)
def test_a_try_ends_when_a_look_shows_that_it_has(before: StepState, after: StepState, is_end: bool) -> None:
    assert tried(StepRun(name="one", state=before), StepRun(name="one", state=after)) is is_end


def test_the_essential_containers_are_asked_for_only_where_a_result_is_used() -> None:
    look = DescribeTasks(None, "c", ("arn:1",))
    assert asking(look, used=False) == look
    assert asking(look, used=True) == DescribeTasks(None, "c", ("arn:1",), essential=True)
    stop = StopTasks(None, "c", ("arn:1",), "why")
    assert asking(stop, used=True) == stop


def test_what_steers_a_terminal_is_shown_and_not_done() -> None:
    words = with_last_words(
        StepRun(name="one", message="failed"), "main", ["\x1b[2Jgone\x00", "\u202ereversed", "\tok"]
    )
    assert words.message.splitlines()[2:] == ["\\x1b[2Jgone\\x00", "\\x202ereversed", "\tok"]

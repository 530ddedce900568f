"""The drill annotation: what it orders, and when it orders nothing."""

from __future__ import annotations

import pytest

from spotjob.core.decide import decide
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import (
    Decision,
    Drilled,
    Ended,
    LastWords,
    Noticed,
    Stopping,
    Verdict,
)
from tests.builders import NOW, SECOND, after, an_instance, claimed, observed, running, suspended

MINUTE = 60 * SECOND
RECLAIM = NOW + 120 * SECOND
SILENT = LastWords(None)


def annotated(job: SpotJob, value: str) -> SpotJob:
    annotations = {"spotjob.dev/drill": value}
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"annotations": annotations})})


def test_a_drill_is_noted_with_its_time_and_the_annotation_goes():
    decision = decide(annotated(running(), "120"), observed(an_instance()), NOW)
    assert decision == Decision(change=Drilled(NOW + 120 * SECOND), end_drill=True)


def test_a_drill_that_was_noted_is_not_ordered_again_by_the_next_leader():
    job = annotated(after(running(), Drilled(RECLAIM)), "120")
    assert decide(job, observed(an_instance()), NOW) == Decision(end_drill=True)


def test_a_second_drill_of_an_attempt_is_ignored_and_says_so():
    drilled = after(running(), Drilled(RECLAIM), Noticed(RECLAIM))
    decision = decide(annotated(drilled, "30"), observed(an_instance()), NOW)
    assert (decision.change, decision.end_drill) == (None, True)
    assert "a drill is under way" in decision.tell.note


@pytest.mark.parametrize("value", ["", "9", "601", "-10", "1e2", "ten", "12.5", "99999999999999"])
def test_a_drill_of_an_impossible_length_says_what_is_allowed(value):
    decision = decide(annotated(running(), value), observed(an_instance()), NOW)
    assert decision.end_drill
    assert "whole seconds from 10 to 600" in decision.tell.note


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (after(running(), Ended(Outcome.SUCCEEDED, exit_code=0)), "the job has finished"),
        (after(running(), Verdict(Reason.DEADLINE_EXCEEDED, "late")), "the job has finished"),
        (claimed(), "no container runs now"),
        (suspended(running()), "the job is suspended"),
        (after(running(), Noticed(RECLAIM)), "EC2 takes the instance back already"),
        (after(running(), Stopping(NOW, "")), "the container is being stopped"),
    ],
    ids=["succeeded", "failed", "not started", "suspended", "noticed", "stopping"],
)
def test_a_drill_that_makes_no_sense_does_nothing_and_says_why(job, why):
    decision = decide(annotated(job, "120"), observed(an_instance()), NOW)
    assert (decision.change, decision.end_drill) == (None, True)
    assert why in decision.tell.note


def test_a_drill_interrupts_the_attempt_and_says_that_it_was_a_drill():
    job = after(running(), Drilled(RECLAIM), Noticed(RECLAIM))
    assert job.status.message.startswith("A drill takes the instance back")
    gone = observed(an_instance(state="terminated"))
    ended = after(job, decide(job, gone, NOW).change)
    change = decide(ended, observed(an_instance(state="terminated"), last_words=SILENT), NOW).change
    assert (change.outcome, "drill" in change.message) == (Outcome.INTERRUPTED, True)

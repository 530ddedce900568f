"""What an end without an exit code may cost, and how long a retry waits."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from spotjob.core.budgets import LONGEST_DELAY_SECONDS, delay
from spotjob.core.decide import decide
from spotjob.core.reasons import Budget, Outcome, Reason
from spotjob.core.reports import change_for
from spotjob.core.states import CalledBack, Ended, Noticed
from tests.builders import NOW, SECOND, a_finish, after, an_instance, observed, running

THE_CONTAINERS_FAULT = (Outcome.CONTAINER_FAILED, Outcome.OUT_OF_MEMORY, Outcome.START_FAILED)
NOBODY_KNOWS = list(
    itertools.product(
        ("Exited", "HostRebooted", "RegistryUnavailable", "ImagePullFailed"),
        (False, True),
        (False, True),
        (False, True),
        (None, False, True),
    )
)


@pytest.mark.parametrize(("finished_as", "signalled", "out_of_memory", "noticed", "called_back"), NOBODY_KNOWS)
def test_a_missing_exit_code_is_never_zero_and_never_the_containers_fault(
    finished_as, signalled, out_of_memory, noticed, called_back
):
    said = [CalledBack(ok=called_back)] if called_back is not None else []
    job = after(running(retryOn={"never": [1]}), *said, *([Noticed(NOW + 120 * SECOND)] if noticed else []))
    report = a_finish(None, finishedAs=finished_as, signalled=signalled, outOfMemory=out_of_memory)
    ended = change_for(job, report, NOW)
    assert isinstance(ended, Ended)
    assert ended.outcome not in THE_CONTAINERS_FAULT
    assert ended.outcome.budget is not Budget.FAILURES
    # Only the container's own word makes a success of it.
    assert (ended.outcome is Outcome.SUCCEEDED) <= (called_back is True)
    status = after(job, ended).status
    assert (status.exit_code, status.attempts[-1].exit_code, status.counts.failures) == (None, None, 0)


@pytest.mark.parametrize("state", ["shutting-down", "terminated"])
def test_an_instance_that_goes_without_a_word_is_not_the_containers_fault(state):
    job = running(backoffLimit=0)
    change = decide(job, observed(an_instance(state=state)), NOW + 60 * SECOND).change
    status = after(job, change).status if change else job.status
    assert (status.exit_code, status.counts.failures, status.reason is Reason.CONTAINER_FAILED) == (None, 0, False)


def test_retries_wait_longer_and_longer_with_a_jitter_of_a_quarter_and_a_limit():
    for nth in range(1, 20):
        full = min(10 * 2 ** (nth - 1), LONGEST_DELAY_SECONDS)
        seconds = [delay(f"uid-{n}", nth).total_seconds() for n in range(50)]
        assert all(0.75 * full <= s <= full for s in seconds)
        assert max(seconds) - min(seconds) > 0.15 * full


def test_the_time_of_the_retry_is_written_down_once_and_asked_for_from_then_on():
    failed = Ended(Outcome.CONTAINER_FAILED, "exit 7", exit_code=7)
    job = after(running(backoffLimit=3), failed)
    when = job.status.next_attempt_time
    assert when == (NOW + delay(job.metadata.uid, 1)).replace(microsecond=0)
    for seconds in range(int((when - NOW).total_seconds())):
        step = decide(job, observed(an_instance(state="terminated")), NOW + timedelta(seconds=seconds))
        assert (step.change, step.launch, step.wake_at) == (None, False, when)
    assert decide(job, observed(an_instance(state="terminated")), when).launch

"""Which changes people are told of."""

from __future__ import annotations

import pytest

from spotjob.core.news import news_of
from spotjob.core.reasons import Outcome, Reason
from spotjob.core.states import (
    Advised,
    Bound,
    CapacityType,
    Ended,
    Heard,
    Impaired,
    News,
    Noticed,
    Terminated,
    Verdict,
    Waiting,
)
from tests.builders import NOW, a_job, after, an_instance, running

SUCCESS = Ended(Outcome.SUCCEEDED, "The container exited with code 0", exit_code=0)
FAILURE = Ended(Outcome.CONTAINER_FAILED, "The container exited with code 7", exit_code=7)


@pytest.mark.parametrize(
    ("job", "change", "told"),
    [
        (a_job(), Waiting(Reason.INSUFFICIENT_CAPACITY, "none", NOW), News("InsufficientCapacity", "none", True)),
        (a_job(), Waiting(Reason.WAITING_FOR_START_TIME, "ahead", NOW), None),
        (a_job(), Bound(an_instance()), None),
        (running(), SUCCESS, None),
        (running(), Ended(Outcome.HOST_LOST, "gone"), News("HostLost", "gone", True)),
        (running(), Verdict(Reason.DEADLINE_EXCEEDED, "late"), News("DeadlineExceeded", "late", True)),
        (
            after(running(), SUCCESS),
            Terminated(),
            News("ContainerSucceeded", "TerminatedOK: The container exited with code 0"),
        ),
        (running(), FAILURE, News("ContainerFailed", "The container exited with code 7", True)),
        (after(running(), FAILURE), Terminated(), None),
        (
            running(),
            Noticed(NOW),
            News("InterruptionNotice", "EC2 takes the instance back at about 2026-11-22T02:00:00+00:00", True),
        ),
        (running(), Advised(NOW), News("RebalanceRecommended", "EC2 recommends to leave instance i-1")),
        (running(), Impaired(NOW), News("HostImpaired", "The status checks of instance i-1 fail", True)),
        (running(), Impaired(None), None),
        (running(), Heard(), None),
        (
            a_job(),
            Bound(an_instance(capacity_type=CapacityType.ON_DEMAND)),
            News(
                "FallbackToOnDemand",
                "i-1 is an on-demand instance: Instance i-1 (m6i.large in us-east-1a, on-demand) is booting",
            ),
        ),
        (a_job(capacity={"type": "on-demand"}), Bound(an_instance(capacity_type=CapacityType.ON_DEMAND)), None),
    ],
)
def test_waits_and_ends_are_told_and_normal_steps_are_not(job, change, told):
    assert news_of(change, after(job, change).status) == told

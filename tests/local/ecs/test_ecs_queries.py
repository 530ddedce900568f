"""DescribeTasks, ListTasks, StopTask and GetLogEvents."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.local.ecs import EcsError, EcsSimulator, Rule, Script
from tests.local.ecs.builders import a_container, a_simulator, call, listed, look, missing, run, wait

AWSLOGS = {"logDriver": "awslogs", "options": {"awslogs-group": "/ecs/job", "awslogs-stream-prefix": "pre"}}


def test_a_task_is_described_by_id_or_arn_and_in_its_own_cluster() -> None:
    ecs = a_simulator()
    call(ecs, "CreateCluster", clusterName="other")
    arn = run(ecs, cluster="other")
    identifier = arn.rpartition("/")[2]
    assert look(ecs, identifier, cluster="other")["taskArn"] == arn
    assert missing(ecs, arn)


def test_known_and_unknown_tasks_answer_together() -> None:
    ecs = a_simulator()
    arn = run(ecs)
    answer = call(ecs, "DescribeTasks", tasks=[arn, "none"])
    assert [task["taskArn"] for task in answer["tasks"]] == [arn]
    unknown = "arn:aws:ecs:us-east-1:123456789012:task/default/none"
    assert answer["failures"] == [{"arn": unknown, "reason": "MISSING"}]


@pytest.mark.parametrize("count", [0, 101])
def test_a_hundred_tasks_are_described_at_once_and_not_more(count: int) -> None:
    with pytest.raises(EcsError, match="InvalidParameterException: tasks must name"):
        call(a_simulator(), "DescribeTasks", tasks=["x"] * count)


def test_tasks_are_listed_by_desired_status_and_by_who_started_them() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(seconds=None)))
    first, second, third = run(ecs, startedBy="a"), run(ecs, startedBy="a"), run(ecs, startedBy="b")
    wait(ecs, 1)
    call(ecs, "StopTask", task=second)
    assert listed(ecs) == [first, third]
    assert listed(ecs, startedBy="a") == [first]
    assert listed(ecs, startedBy="a", desiredStatus="STOPPED") == [second]
    assert listed(ecs, desiredStatus="PENDING") == []
    assert listed(ecs, family="job") == [first, third]
    assert listed(ecs, family="none") == []
    assert listed(ecs, launchType="FARGATE") == []


def test_lists_come_in_pages_that_survive_a_task_s_end() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(seconds=None)))
    arns = [run(ecs) for _ in range(5)]
    first = call(ecs, "ListTasks", maxResults=2)
    call(ecs, "StopTask", task=arns[1])
    second = call(ecs, "ListTasks", maxResults=2, nextToken=first["nextToken"])
    third = call(ecs, "ListTasks", maxResults=2, nextToken=second["nextToken"])
    assert [first["taskArns"], second["taskArns"], third["taskArns"]] == [arns[:2], arns[2:4], arns[4:]]
    assert "nextToken" not in third


@pytest.mark.parametrize(
    "request_",
    [
        {"maxResults": 0},
        {"maxResults": 101},
        {"nextToken": "?"},
        {"startedBy": "a", "family": "job"},
        {"cluster": "no"},
    ],
)
def test_a_list_that_makes_no_sense_is_refused(request_: dict[str, Any]) -> None:
    with pytest.raises(EcsError):
        call(a_simulator(), "ListTasks", **request_)


def test_stopping_a_task_that_has_stopped_changes_nothing() -> None:
    ecs = a_simulator()
    arn = run(ecs)
    wait(ecs, 60)
    before = look(ecs, arn)
    assert call(ecs, "StopTask", task=arn, reason="too late")["task"] == before


def test_stopping_an_unknown_task_is_refused() -> None:
    with pytest.raises(EcsError, match="The referenced task was not found"):
        call(a_simulator(), "StopTask", task="none")


# ---- logs


def a_logging_simulator(count: int) -> tuple[EcsSimulator, str]:
    """One whose container has written `count` lines, and their stream."""
    ecs = a_simulator(a_container(logConfiguration=AWSLOGS))
    ecs.order(Rule(Script(log=[f"line {n}" for n in range(count)])))
    arn = run(ecs)
    wait(ecs, 1)
    return ecs, f"pre/main/{arn.rpartition('/')[2]}"


def lines(ecs: EcsSimulator, stream: str, **request: Any) -> list[str]:
    answer = ecs.log_events({"logGroupName": "/ecs/job", "logStreamName": stream} | request)
    assert answer is not None
    return [event["message"] for event in answer["events"]]


def test_the_last_lines_of_a_log_are_served_unless_the_first_are_asked_for() -> None:
    ecs, stream = a_logging_simulator(5)
    assert lines(ecs, stream, limit=2) == ["line 3", "line 4"]
    assert lines(ecs, stream, limit=2, startFromHead=True) == ["line 0", "line 1"]
    assert lines(ecs, stream) == [f"line {n}" for n in range(5)]


def test_a_log_is_read_on_by_its_tokens() -> None:
    ecs, stream = a_logging_simulator(3)
    request = {"logGroupName": "/ecs/job", "logStreamName": stream, "limit": 2, "startFromHead": True}
    first = ecs.log_events(request) or {}
    assert lines(ecs, stream, limit=2, nextToken=first["nextForwardToken"]) == ["line 2"]
    assert lines(ecs, stream, limit=2, nextToken=first["nextBackwardToken"]) == []
    assert lines(ecs, stream, limit=2, nextToken="b/3") == ["line 1", "line 2"]


def test_lines_keep_the_time_at_which_they_were_first_seen() -> None:
    ecs = a_simulator(a_container(logConfiguration=AWSLOGS), real=True)
    arn = run(ecs)
    wait(ecs, 1)
    ecs.started(arn, "main", "docker-id")
    ecs.wrote(arn, "main", ["one"])
    wait(ecs, 10)
    ecs.wrote(arn, "main", ["one", "two"])
    answer = ecs.log_events({"logGroupName": "/ecs/job", "logStreamName": f"pre/main/{arn.rpartition('/')[2]}"}) or {}
    one, two = answer["events"]
    assert (one["message"], two["message"], two["timestamp"] - one["timestamp"]) == ("one", "two", 10_000)


def test_a_group_of_no_container_is_not_ours_and_an_unknown_stream_is_an_error() -> None:
    ecs, _ = a_logging_simulator(1)
    assert ecs.log_events({"logGroupName": "/other", "logStreamName": "x"}) is None
    with pytest.raises(EcsError, match="ResourceNotFoundException"):
        lines(ecs, "pre/main/none")

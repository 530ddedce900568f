"""ECS through boto3 and a real connection, as the Sequencer uses it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from spotjob.local.aws_server import AwsServer
from spotjob.local.ecs.defaults import LOG_GROUP
from tests.contract.ec2_clients import over_http
from tests.contract.ecs_account import ecs_account, lever, pull, until_stopped

DEFINITION = "test-task-def:1"


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[AwsServer]:
    with ecs_account() as server:
        yield server


@pytest.fixture(name="ecs", scope="module")
def _ecs(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "ecs") as client:
        yield client


@pytest.fixture(autouse=True)
def _clean(server: AwsServer) -> None:
    lever(server, "DELETE", "faults")
    lever(server, "DELETE", "ecs-orders")
    lever(server, "POST", "ecs-missing", seconds=0)


def run(ecs: Any, **request: Any) -> str:
    (task,) = ecs.run_task(**{"taskDefinition": DEFINITION} | request)["tasks"]
    return str(task["taskArn"])


def effects(server: AwsServer) -> int:
    return int(lever(server, "GET", "ecs-tasks")["effects"])


def exit_codes(task: dict[str, Any]) -> list[Any]:
    return [container.get("exitCode", "absent") for container in task["containers"]]


# ---- the calls


@pytest.mark.parametrize(
    "parameters",
    [
        {"cluster": "yourcluster", "taskDefinition": "test-task-def:1", "count": 1},
        {"cluster": "yourcluster2", "taskDefinition": "test-task-def:2", "count": 1, "launchType": "FARGATE"},
    ],
)
def test_the_steps_of_the_old_fixture_run_to_their_end(ecs: Any, parameters: dict[str, Any]) -> None:
    (launched,) = ecs.run_task(**parameters)["tasks"]
    task = until_stopped(ecs, launched["taskArn"], parameters["cluster"])
    assert (task["stopCode"], exit_codes(task)) == ("EssentialContainerExited", [0])


def test_times_are_times(ecs: Any) -> None:
    rounded = timedelta(milliseconds=1)  # on the wire
    before = datetime.now(UTC) - rounded
    task = until_stopped(ecs, run(ecs))
    after = datetime.now(UTC) + rounded
    assert before < task["createdAt"] < task["startedAt"] < task["stoppedAt"] < after


def test_a_cluster_and_a_definition_that_were_made_can_be_used(ecs: Any) -> None:
    ecs.create_cluster(clusterName="made")
    assert [one["status"] for one in ecs.describe_clusters(clusters=["made"])["clusters"]] == ["ACTIVE"]
    containers = [{"name": "a", "image": "x"}, {"name": "b", "image": "y", "essential": False}]
    registered = ecs.register_task_definition(family="made", containerDefinitions=containers)["taskDefinition"]
    assert ecs.describe_task_definition(taskDefinition="made")["taskDefinition"] == registered
    task = until_stopped(ecs, run(ecs, cluster="made", taskDefinition="made"), "made")
    assert [container["name"] for container in task["containers"]] == ["a", "b"]


def test_a_running_task_is_listed_and_stopped(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-rule", seconds=None)
    arn = run(ecs, startedBy="the-test")
    assert ecs.list_tasks(startedBy="the-test")["taskArns"] == [arn]
    ecs.get_waiter("tasks_running").wait(tasks=[arn], WaiterConfig={"Delay": 1, "MaxAttempts": 5})
    ecs.stop_task(task=arn, reason="seen enough")
    task = until_stopped(ecs, arn)
    assert (task["stopCode"], task["stoppedReason"], exit_codes(task)) == ("UserInitiated", "seen enough", [143])
    assert ecs.list_tasks(startedBy="the-test", desiredStatus="STOPPED")["taskArns"] == [arn]


def test_boto3_s_paginator_sees_every_task_once(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-rule", seconds=None)
    arns = [task["taskArn"] for task in ecs.run_task(taskDefinition=DEFINITION, count=7, startedBy="pages")["tasks"]]
    pages = ecs.get_paginator("list_tasks").paginate(startedBy="pages", PaginationConfig={"PageSize": 3})
    assert [arn for page in pages for arn in page["taskArns"]] == arns


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"cluster": "nowhere"}, "ClusterNotFoundException"),
        ({"taskDefinition": "nothing"}, "ClientException"),
        ({"count": 11}, "InvalidParameterException"),
    ],
)
def test_refusals_are_the_exceptions_of_boto3_s_model(ecs: Any, request_: dict[str, Any], error: str) -> None:
    with pytest.raises(getattr(ecs.exceptions, error)) as caught:
        run(ecs, **request_)
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_a_token_in_use_names_its_tasks(ecs: Any) -> None:
    arn = run(ecs, clientToken="held")
    with pytest.raises(ecs.exceptions.ConflictException) as caught:
        run(ecs, clientToken="held", startedBy="somebody-else")
    assert caught.value.response["resourceIds"] == [arn]


def test_a_call_that_the_simulator_does_not_know_says_so(ecs: Any) -> None:
    with pytest.raises(ClientError, match="does not know ListServices"):
        ecs.list_services()


def test_ecs_is_in_the_account_s_region_only(server: AwsServer) -> None:
    with over_http(server.url, "ecs", region="eu-west-1") as elsewhere, pytest.raises(ClientError, match="us-east-1"):
        elsewhere.list_tasks()


# ---- faults


def test_a_lost_reply_and_the_same_token_are_one_task(server: AwsServer, ecs: Any) -> None:
    before = effects(server)
    lever(server, "POST", "fault", action="RunTask", lost=True, when="after")
    with pytest.raises(ConnectionClosedError):
        run(ecs, clientToken="lost")
    arn = run(ecs, clientToken="lost")
    assert effects(server) == before + 1
    held = [task["arn"] for task in lever(server, "GET", "ecs-tasks")["tasks"] if task["clientToken"] == "lost"]
    assert held == [arn]


def test_throttles_start_nothing_and_are_counted(server: AwsServer, ecs: Any) -> None:
    before, calls = effects(server), lever(server, "GET", "counts").get("RunTask", 0)
    lever(server, "POST", "fault", action="RunTask", code="ThrottlingException", message="Rate exceeded", times=3)
    for _ in range(3):
        with pytest.raises(ClientError) as caught:
            run(ecs)
        assert caught.value.response["Error"]["Code"] == "ThrottlingException"
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    run(ecs)
    assert effects(server) == before + 1
    assert lever(server, "GET", "counts")["RunTask"] == calls + 4


def test_a_server_error_is_a_500(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "fault", action="DescribeTasks", code="ServerException")
    with pytest.raises(ecs.exceptions.ServerException) as caught:
        ecs.describe_tasks(tasks=["x"])
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500


def test_a_delayed_call_has_its_effect_and_its_answer(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "fault", action="RunTask", delaySeconds=0.3)
    begun = time.monotonic()
    assert run(ecs)
    assert time.monotonic() - begun >= 0.3


# ---- the levers


def test_a_rule_says_how_a_container_ends_and_what_it_logs(server: AwsServer, ecs: Any) -> None:
    rule = {"family": "test-task-def", "exitCode": 3, "seconds": 0, "times": 1, "log": ["one", "two"]}
    lever(server, "POST", "ecs-rule", **rule)
    arn = run(ecs)
    assert exit_codes(until_stopped(ecs, arn)) == [3]
    assert exit_codes(until_stopped(ecs, run(ecs))) == [0]
    with over_http(server.url, "logs") as logs:
        stream = f"ecs/main/{arn.rpartition('/')[2]}"
        events = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream)["events"]
        assert [event["message"] for event in events] == ["one", "two"]
        with pytest.raises(logs.exceptions.ResourceNotFoundException):
            logs.get_log_events(logGroupName=LOG_GROUP, logStreamName="ecs/main/none")
        with pytest.raises(logs.exceptions.ResourceNotFoundException):
            logs.get_log_events(logGroupName="of moto", logStreamName="none")


def test_a_container_that_cannot_start_has_no_exit_code(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-rule", exitCode=None, reason="CannotPullContainerError: denied", times=1)
    task = until_stopped(ecs, run(ecs))
    assert (task["stopCode"], exit_codes(task)) == ("TaskFailedToStart", ["absent"])


def test_a_full_cluster_answers_with_failures(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-failures", reason="RESOURCE:CPU", placed=1)
    answer = ecs.run_task(taskDefinition=DEFINITION, count=3)
    assert (len(answer["tasks"]), answer["failures"]) == (1, [{"reason": "RESOURCE:CPU"}] * 2)


def test_a_new_task_can_be_missing_for_a_while(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-missing", seconds=3600)
    arn = run(ecs)
    assert ecs.describe_tasks(tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}]
    with pytest.raises(ecs.exceptions.InvalidParameterException):
        ecs.stop_task(task=arn)


@pytest.mark.parametrize(
    ("befalls", "stop_code"), [("ecs-interrupt", "SpotInterruption"), ("ecs-host-lost", "TerminationNotice")]
)
def test_a_task_can_be_taken(server: AwsServer, ecs: Any, befalls: str, stop_code: str) -> None:
    lever(server, "POST", "ecs-rule", seconds=None)
    arn = run(ecs)
    lever(server, "POST", befalls, arn=arn)
    assert until_stopped(ecs, arn)["stopCode"] == stop_code


def test_a_task_can_be_forgotten_and_is_still_counted(server: AwsServer, ecs: Any) -> None:
    arn = run(ecs, startedBy="soon-forgotten")
    lever(server, "POST", "ecs-forget", arn=arn)
    assert ecs.describe_tasks(tasks=[arn])["failures"] == [{"arn": arn, "reason": "MISSING"}]
    shown = next(task for task in lever(server, "GET", "ecs-tasks")["tasks"] if task["arn"] == arn)
    assert (shown["forgotten"], shown["startedBy"]) == (True, "soon-forgotten")


def test_delays_can_be_set(server: AwsServer, ecs: Any) -> None:
    lever(server, "POST", "ecs-timing", provisioningSeconds=3600)
    slow = run(ecs)
    lever(server, "POST", "ecs-timing", provisioningSeconds=0)
    assert until_stopped(ecs, run(ecs))["stopCode"] == "EssentialContainerExited"
    (task,) = ecs.describe_tasks(tasks=[slow])["tasks"]
    assert task["lastStatus"] == "PROVISIONING"


@pytest.mark.parametrize(
    ("name", "order", "status"),
    [
        ("ecs-forget", {"arn": "none"}, 404),
        ("ecs-interrupt", {}, 400),
        ("ecs-rule", {"family": "a", "exit": 1}, 400),
        ("ecs-timing", {"pendingSeconds": -1}, 400),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(server: AwsServer, name: str, order: Any, status: int) -> None:
    assert pull(server, "POST", name, **order)[0] == status

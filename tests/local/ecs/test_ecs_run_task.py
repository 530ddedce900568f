"""RunTask: what it starts, once for each token, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from spotjob.local.ecs import EcsError, EcsSimulator, Refusal, Rule, Script
from tests.local.ecs.builders import a_container, a_simulator, call, listed, look, run, wait


def refusal(ecs: EcsSimulator, action: str, **request: Any) -> str:
    """Code and message of the error that the call must come to."""
    with pytest.raises(EcsError) as caught:
        call(ecs, action, **request)
    return str(caught.value)


# ---- once for each token


def test_the_same_token_with_the_same_parameters_is_the_same_task() -> None:
    ecs = a_simulator()
    first = run(ecs, clientToken="t", startedBy="a")
    wait(ecs, 0.3)
    assert run(ecs, clientToken="t", startedBy="a") == first
    assert ecs.effects == 1
    assert listed(ecs) == [first]


def test_a_task_that_has_stopped_is_repeated_by_name_and_status_alone() -> None:
    ecs = a_simulator()
    arn = run(ecs, clientToken="t")
    wait(ecs, 60)
    (task,) = call(ecs, "RunTask", taskDefinition="job", clientToken="t")["tasks"]
    assert task == {"taskArn": arn, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}


def test_the_same_token_with_other_parameters_names_the_tasks_that_hold_it() -> None:
    ecs = a_simulator()
    tasks = call(ecs, "RunTask", taskDefinition="job", clientToken="t", count=2)["tasks"]
    with pytest.raises(EcsError) as caught:
        call(ecs, "RunTask", taskDefinition="job", clientToken="t", count=3)
    assert caught.value.code == "ConflictException"
    assert list(caught.value.resource_ids) == [task["taskArn"] for task in tasks]
    assert ecs.effects == 1


def test_a_token_is_known_within_its_cluster_alone() -> None:
    ecs = a_simulator()
    call(ecs, "CreateCluster", clusterName="other")
    assert run(ecs, clientToken="t") != run(ecs, clientToken="t", cluster="other")
    assert ecs.effects == 2


def test_the_name_and_the_arn_of_a_cluster_are_one_cluster() -> None:
    ecs = a_simulator()
    arn = call(ecs, "DescribeClusters")["clusters"][0]["clusterArn"]
    assert run(ecs, clientToken="t", cluster=arn) == run(ecs, clientToken="t", cluster="default")


def test_a_token_is_forgotten_an_hour_after_its_last_task() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(seconds=7200), times=1))
    request = {"taskDefinition": "job", "clientToken": "t", "count": 2}
    first = call(ecs, "RunTask", **request)["tasks"]
    wait(ecs, 10_000)
    assert [task["taskArn"] for task in call(ecs, "RunTask", **request)["tasks"]] == [task["taskArn"] for task in first]
    wait(ecs, 1_000)
    assert call(ecs, "RunTask", **request)["tasks"][0]["taskArn"] != first[0]["taskArn"]
    assert ecs.effects == 2


def test_a_token_is_forgotten_after_a_day_although_its_task_runs() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(seconds=None)))
    first = run(ecs, clientToken="t")
    wait(ecs, 24 * 3600 - 1)
    assert run(ecs, clientToken="t") == first
    wait(ecs, 1)
    assert run(ecs, clientToken="t") != first


def test_calls_without_a_token_are_different_calls() -> None:
    ecs = a_simulator()
    assert run(ecs) != run(ecs)


# ---- places


def test_tasks_without_a_place_are_failures_in_a_good_answer() -> None:
    ecs = a_simulator()
    ecs.refuse(Refusal("RESOURCE:CPU", detail="none left"))
    answer = call(ecs, "RunTask", taskDefinition="job", count=2)
    assert answer == {"tasks": [], "failures": [{"reason": "RESOURCE:CPU", "detail": "none left"}] * 2}
    assert ecs.effects == 0
    assert len(call(ecs, "RunTask", taskDefinition="job", count=2)["tasks"]) == 2


def test_some_tasks_can_find_a_place_and_others_not() -> None:
    ecs = a_simulator()
    ecs.refuse(Refusal("RESOURCE:MEMORY", times=2, placed=1))
    answers = [call(ecs, "RunTask", taskDefinition="job", count=3) for _ in range(3)]
    assert [(len(one["tasks"]), len(one["failures"])) for one in answers] == [(1, 2), (1, 2), (3, 0)]
    assert ecs.effects == 3


def test_a_token_repeats_the_failures_too() -> None:
    ecs = a_simulator()
    ecs.refuse(Refusal("AGENT", placed=1))
    first = call(ecs, "RunTask", taskDefinition="job", count=2, clientToken="t")
    assert call(ecs, "RunTask", taskDefinition="job", count=2, clientToken="t") == first


# ---- what a task is made of


def test_a_task_shows_what_it_was_asked_for() -> None:
    ecs = a_simulator()
    overrides = {"containerOverrides": [{"name": "main", "command": ["true"]}], "cpu": "512"}
    arn = run(ecs, startedBy="run-1/step_2", group="nightly", overrides=overrides, launchType="FARGATE")
    task = look(ecs, arn)
    assert task["overrides"] == overrides
    assert (task["startedBy"], task["group"], task["cpu"]) == ("run-1/step_2", "nightly", "512")
    assert (task["launchType"], task["platformVersion"]) == ("FARGATE", "1.4.0")


def test_a_capacity_provider_decides_the_launch_type() -> None:
    ecs = a_simulator()
    arn = run(ecs, capacityProviderStrategy=[{"capacityProvider": "FARGATE_SPOT", "weight": 1}])
    task = look(ecs, arn)
    assert (task["launchType"], task["capacityProviderName"]) == ("FARGATE", "FARGATE_SPOT")


def test_tags_are_shown_on_request_until_the_task_has_stopped() -> None:
    ecs = a_simulator()
    call(ecs, "RegisterTaskDefinition", family="tagged", containerDefinitions=[a_container()], tags=[a_tag("b", "2")])
    arn = run(ecs, taskDefinition="tagged", tags=[a_tag("a", "1")], propagateTags="TASK_DEFINITION")
    assert look(ecs, arn)["tags"] == []
    assert look(ecs, arn, include=["TAGS"])["tags"] == [a_tag("b", "2"), a_tag("a", "1")]
    wait(ecs, 60)
    assert look(ecs, arn, include=["TAGS"])["tags"] == []


def a_tag(key: str, value: str) -> dict[str, str]:
    return {"key": key, "value": value}


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({}, 'InvalidParameterException: Missing required parameter in input: "taskDefinition"'),
        ({"task_definition": "job"}, "Unknown parameter"),
        ({"count": 0}, "InvalidParameterException: count"),
        ({"count": 11}, "InvalidParameterException: count"),
        ({"count": "2"}, "Invalid type for parameter count"),
        ({"launchType": "SPOT"}, "InvalidParameterException: launchType must be one of EC2"),
        ({"clientToken": "a b"}, "InvalidParameterException: clientToken"),
        ({"clientToken": "x" * 65}, "InvalidParameterException: clientToken"),
        ({"startedBy": "x" * 129}, "InvalidParameterException: startedBy"),
        ({"startedBy": "a:b"}, "InvalidParameterException: startedBy"),
        ({"tags": [a_tag(str(n), "") for n in range(51)]}, "InvalidParameterException: A task can have at most 50"),
        ({"overrides": {"cpu": "x" * 8192}}, "InvalidParameterException: Container Overrides length"),
        ({"overrides": {"containerOverrides": [{"name": "no"}]}}, "Override for container named no is not"),
        (
            {"launchType": "EC2", "capacityProviderStrategy": [{"capacityProvider": "FARGATE", "weight": 1}]},
            "InvalidParameterException: Specify launchType or capacityProviderStrategy",
        ),
        ({"capacityProviderStrategy": [{"capacityProvider": "FARGATE"}]}, "must have a weight"),
        ({"cluster": "no"}, "ClusterNotFoundException: Cluster not found."),
        ({"cluster": "arn:aws:ecs:eu-west-1:123456789012:cluster/default"}, "ClusterNotFoundException"),
        ({"taskDefinition": "no"}, "ClientException: TaskDefinition not found."),
        ({"taskDefinition": "job:2"}, "ClientException: TaskDefinition not found."),
        ({"taskDefinition": "awsvpc"}, "Network Configuration must be provided when networkMode 'awsvpc'"),
    ],
)
def test_a_request_that_ecs_refuses_starts_nothing(request_: dict[str, Any], error: str) -> None:
    ecs = a_simulator()
    definition = {"family": "awsvpc", "networkMode": "awsvpc", "containerDefinitions": [a_container()]}
    call(ecs, "RegisterTaskDefinition", **definition)
    given = request_ if not request_ or "task_definition" in request_ else {"taskDefinition": "job"} | request_
    assert error in refusal(ecs, "RunTask", **given)
    assert ecs.effects == 0


# ---- clusters and definitions


def test_the_account_has_a_default_cluster_and_those_that_were_created() -> None:
    ecs = a_simulator()
    created = call(ecs, "CreateCluster", clusterName="mine")["cluster"]
    assert call(ecs, "CreateCluster", clusterName="mine")["cluster"] == created
    run(ecs, cluster="mine")
    answer = call(ecs, "DescribeClusters", clusters=["default", created["clusterArn"], "no"])
    shown = [(one["clusterName"], one["status"], one["pendingTasksCount"]) for one in answer["clusters"]]
    assert shown == [("default", "ACTIVE", 0), ("mine", "ACTIVE", 1)]
    assert answer["failures"] == [{"arn": "arn:aws:ecs:us-east-1:123456789012:cluster/no", "reason": "MISSING"}]


def test_a_definition_goes_by_family_by_revision_and_by_arn() -> None:
    ecs = a_simulator()
    second = call(ecs, "RegisterTaskDefinition", family="job", containerDefinitions=[a_container(image="new")])
    arn = second["taskDefinition"]["taskDefinitionArn"]
    assert arn.endswith("task-definition/job:2")
    for name, revision in (("job", 2), ("job:2", 2), ("job:1", 1), (arn, 2)):
        shown = call(ecs, "DescribeTaskDefinition", taskDefinition=name)["taskDefinition"]
        assert shown["revision"] == revision
        assert look(ecs, run(ecs, taskDefinition=name))["taskDefinitionArn"] == shown["taskDefinitionArn"]
    assert shown["containerDefinitions"][0] | {"image": "new", "essential": True} == shown["containerDefinitions"][0]


@pytest.mark.parametrize(
    "containers",
    [
        [],
        [{"image": "x"}],
        [{"name": "a"}],
        [a_container("a"), a_container("a")],
        [a_container(essential=False)],
        [a_container(stopTimeout=121)],
    ],
)
def test_a_definition_that_could_never_run_is_refused(containers: list[dict[str, Any]]) -> None:
    error = refusal(a_simulator(), "RegisterTaskDefinition", family="bad", containerDefinitions=containers)
    assert error.startswith("ClientException")


def test_unknown_definitions_and_calls_are_refused() -> None:
    ecs = a_simulator()
    assert "ClientException: Unable to describe" in refusal(ecs, "DescribeTaskDefinition", taskDefinition="no")
    assert "UnsupportedFeatureException: The ECS simulator does not know ListServices" in refusal(ecs, "ListServices")

"""What is wrong with the parameters of an ecs_task, found before anything runs; and their translation for botocore."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from spotjob.aws.run_task_model import ParameterProblem, problems, translate

EVERYTHING: dict[str, Any] = {
    "cluster": "night",
    "task_definition": "extract:7",
    "count": 10,
    "capacity_provider_strategy": [{"capacity_provider": "FARGATE_SPOT", "weight": 1, "base": 0}],
    "enable_ecs_managed_tags": True,
    "enable_execute_command": False,
    "network_configuration": {
        "awsvpc_configuration": {"subnets": ["subnet-1"], "security_groups": ["sg-1"], "assign_public_ip": "ENABLED"}
    },
    "overrides": {
        "container_overrides": [
            {
                "name": "app",
                "command": ["extract", "--all"],
                "environment": [{"name": "taskDefinition", "value": "task_definition"}],
                "resource_requirements": [{"type": "GPU", "value": "1"}],
            }
        ],
        "cpu": "256",
        "execution_role_arn": "arn:r",
        "ephemeral_storage": {"size_in_gi_b": 30},
    },
    "placement_constraints": [{"type": "memberOf", "expression": "attribute:x == y"}],
    "tags": [{"key": "k", "value": "v"}],
    "started_by": "cron/nightly_1-a",
    "volume_configurations": [
        {"name": "data", "managed_ebs_volume": {"role_arn": "arn:r", "kms_key_id": "k", "size_in_gi_b": 8}}
    ],
}
SECRET = "hunter2-hunter2"


def found(**parameters: Any) -> list[tuple[str, str]]:
    """(path with dots, message) of every problem, with a task definition that is there."""
    given = {"task_definition": "extract", **parameters}
    return [(".".join(map(str, problem.path)), problem.message) for problem in problems(given)]


def in_a_container(**override: Any) -> list[tuple[str, str]]:
    """Of a container override, without the path to it."""
    prefix = "overrides.container_overrides.1."
    spoken = found(overrides={"container_overrides": [{"name": "fine"}, override]})
    return [(path.removeprefix(prefix), message) for path, message in spoken]


def test_a_request_with_everything_in_it_has_no_problem_and_satisfies_botocore():
    assert problems(EVERYTHING) == []
    request = translate(EVERYTHING)
    model = get_session().get_service_model("ecs").operation_model("RunTask").input_shape
    assert not ParamValidator().validate(request, model).has_errors()
    assert request == {
        "cluster": "night",
        "taskDefinition": "extract:7",
        "count": 10,
        "capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1, "base": 0}],
        "enableECSManagedTags": True,
        "enableExecuteCommand": False,
        "networkConfiguration": {
            "awsvpcConfiguration": {"subnets": ["subnet-1"], "securityGroups": ["sg-1"], "assignPublicIp": "ENABLED"}
        },
        "overrides": {
            "containerOverrides": [
                {
                    "name": "app",
                    "command": ["extract", "--all"],
                    "environment": [{"name": "taskDefinition", "value": "task_definition"}],
                    "resourceRequirements": [{"type": "GPU", "value": "1"}],
                }
            ],
            "cpu": "256",
            "executionRoleArn": "arn:r",
            "ephemeralStorage": {"sizeInGiB": 30},
        },
        "placementConstraints": [{"type": "memberOf", "expression": "attribute:x == y"}],
        "tags": [{"key": "k", "value": "v"}],
        "startedBy": "cron/nightly_1-a",
        "volumeConfigurations": [
            {"name": "data", "managedEBSVolume": {"roleArn": "arn:r", "kmsKeyId": "k", "sizeInGiB": 8}}
        ],
    }


def test_what_the_core_adds_to_a_request_is_translated_too():
    ours = {"task_definition": "extract", "client_token": "t", "started_by": "sequencer/r/1/1", "count": 1}
    assert problems(ours) == []
    assert translate(ours) == {
        "taskDefinition": "extract",
        "clientToken": "t",
        "startedBy": "sequencer/r/1/1",
        "count": 1,
    }


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("clustr", "unknown key clustr; did you mean cluster?"),
        ("launch_typ", "unknown key launch_typ; did you mean launch_type?"),
        ("container_overrides", "unknown key container_overrides; did you mean overrides?"),
        ("launchType", "launchType is written launch_type here"),
        ("LaunchType", "LaunchType is written launch_type here"),
        ("Cluster", "Cluster is written cluster here"),
        ("enableECSManagedTags", "enableECSManagedTags is written enable_ecs_managed_tags here"),
    ],
)
def test_an_unknown_key_brings_the_nearest_one(key, message):
    assert found(**{key: "EC2"}) == [(key, message)]


def test_a_key_that_resembles_nothing_brings_the_list_of_keys():
    ((path, message),) = in_a_container(xyzzy=1)
    assert path == "xyzzy"
    assert message.startswith("unknown key xyzzy; known here: command, cpu, environment, environment_files, memory, ")


def test_keys_deep_in_lists_are_found_where_they_stand():
    assert in_a_container(name="app", enviroment=[]) == [
        ("enviroment", "unknown key enviroment; did you mean environment?")
    ]
    assert in_a_container(environment=[{"name": "A", "Value": "b"}]) == [
        ("environment.0.Value", "Value is written value here")
    ]


def test_the_task_definition_and_nested_required_keys_must_be_there():
    assert problems({}) == [ParameterProblem((), "task_definition is missing")]
    assert problems({"task_definition": None}) == [ParameterProblem((), "task_definition is missing")]
    assert problems({"taskDefinition": "x"}) == [
        ParameterProblem(("taskDefinition",), "taskDefinition is written task_definition here"),
        ParameterProblem((), "task_definition is missing"),
    ]
    path = "network_configuration.awsvpc_configuration"
    assert found(network_configuration={"awsvpc_configuration": {}}) == [(path, "subnets is missing")]


def test_one_way_of_sharing_is_needed_and_no_two():
    requirement = {"type": "GPU", "sharing_strategy": {}}
    path = "resource_requirements.0.sharing_strategy"
    assert in_a_container(resource_requirements=[requirement]) == [(path, "must have exactly one of nvidia_mps")]
    requirement["sharing_strategy"] = {"nvidia_mps": {"memory": 1}}
    assert in_a_container(resource_requirements=[requirement]) == []


# ---- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "message"),
    [
        ({"name": 5}, "name", "must be text, not a number: put it in quotes"),
        ({"name": True}, "name", "must be text, not true or false: put it in quotes"),
        ({"name": ["app"]}, "name", "must be text, not a list"),
        ({"name": {"a": 1}}, "name", "must be text, not a mapping"),
        ({"command": "extract --all"}, "command", "must be a list, not text"),
        ({"command": ["a", None]}, "command.1", "must be text, not empty"),
        ({"command": ["a", 3]}, "command.1", "must be text, not a number: put it in quotes"),
        ({"memory": "much"}, "memory", "must be a whole number, not text"),
        ({"memory": True}, "memory", "must be a whole number, not true or false"),
        ({"memory": [1]}, "memory", "must be a whole number, not a list"),
        ({"environment": {"A": "b"}}, "environment", "must be a list, not a mapping"),
        ({"environment": ["A=b"]}, "environment.0", "must be a mapping, not text"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_its_path(override, path, message):
    assert in_a_container(**override) == [(path, message)]


def test_words_that_ecs_does_not_know_bring_those_it_knows():
    assert found(launch_type="FARGAT") == [
        ("launch_type", "must be one of EC2, FARGATE, EXTERNAL, MANAGED_INSTANCES; did you mean FARGATE?")
    ]
    assert found(launch_type="fargate")[0][1].endswith("did you mean FARGATE?")
    assert found(enable_execute_command="maybe") == [("enable_execute_command", "must be true or false, not text")]


@pytest.mark.parametrize("count", [0, 11, -1, "11", 11.9])
def test_a_count_that_run_task_does_not_take_is_a_problem(count):
    assert found(count=count) == [("count", "must be from 1 to 10")]


@pytest.mark.parametrize(("count", "sent"), [(1, 1), (10, 10), ("3", 3), (2.0, 2)])
def test_a_count_may_be_written_as_the_old_tool_took_it(count, sent):
    assert found(count=count) == []
    assert translate({"count": count}) == {"count": sent}


def test_bounds_of_the_model_hold():
    weight = "capacity_provider_strategy.0.weight"
    strategy = [{"capacity_provider": "FARGATE", "weight": 1001}]
    assert found(capacity_provider_strategy=strategy) == [(weight, "must be at most 1000")]
    assert found(capacity_provider_strategy=[strategy[0] | {"weight": -1}]) == [(weight, "must be at least 0")]
    assert found(tags=[{"key": "k", "value": "v"}] * 51) == [("tags", "must have at most 50 entries")]
    assert found(tags=[{"key": "", "value": "v" * 257}]) == [
        ("tags.0.key", "must have at least 1 characters"),
        ("tags.0.value", "must have at most 256 characters"),
    ]


def test_what_the_model_does_not_say_is_checked_too():
    assert found(started_by="nightly run") == [
        ("started_by", "must be 1 to 128 letters, digits, hyphens, slashes or underscores")
    ]
    strategy = [{"capacity_provider": "FARGATE_SPOT", "weight": 1}]
    assert found(launch_type="FARGATE", capacity_provider_strategy=strategy) == [
        ("launch_type", "cannot stand beside capacity_provider_strategy")
    ]


def test_booleans_may_be_text_and_nothing_stands_for_absent():
    given = {"enable_execute_command": "true", "overrides": None, "count": None, "tags": [{"key": "k", "value": None}]}
    assert found(**given) == []
    assert translate(given) == {"enableExecuteCommand": True, "tags": [{"key": "k"}]}


def test_what_an_earlier_step_said_becomes_text_where_text_is_wanted():
    given = {"overrides": {"container_overrides": [{"name": "app", "environment": [{"name": "ROWS", "value": 12}]}]}}
    sent = translate(given)["overrides"]["containerOverrides"][0]["environment"]
    assert sent == [{"name": "ROWS", "value": "12"}]
    assert translate({"group": True}) == {"group": "true"}


def test_what_does_not_fit_the_model_is_left_for_botocore_to_refuse():
    odd = {"taskDefinition": "x", "overrides": "none", "tags": {"a": 1}, "count": "many"}
    assert translate(odd) == odd


def test_all_problems_are_found_at_once_and_in_the_order_of_the_file():
    spoken = found(clustr="c", count=0, overrides={"container_overrides": [{"nam": "a"}, {"command": "b"}]})
    assert [path for path, _ in spoken] == [
        "clustr",
        "overrides.container_overrides.0.nam",
        "overrides.container_overrides.1.command",
        "count",
    ]


# ---- references -----------------------------------------------------------------------------------------------------


def test_a_reference_may_stand_for_a_value_of_any_type():
    reference = "${steps.extract.result.x}"
    assert in_a_container(memory=reference, command=reference, environment=[{"name": "A", "value": reference}]) == []
    assert found(launch_type=reference, enable_execute_command=reference, network_configuration=reference) == []
    assert found(launch_type=f"FAR{reference}", tags=[{"key": reference * 9}]) == []
    assert in_a_container(memory=f"1{reference}") == [("memory", "must be a whole number, not text")]


@pytest.mark.parametrize("key", ["cluster", "count", "started_by"])
@pytest.mark.parametrize("around", ["", "x"])
def test_what_is_needed_before_any_step_has_run_cannot_come_from_one(key, around):
    spoken = found(**{key: f"{around}${{steps.extract.result.x}}"})
    assert (key, f"{key} cannot come from an earlier step") in spoken


def test_no_message_shows_a_value():
    environment = [{"name": "A", "value": {SECRET: SECRET}}, {"name": "B", "value": [SECRET]}, SECRET, 5]
    spoken = str(in_a_container(environment=environment, memory=SECRET, command=SECRET))
    assert spoken.count("must be") == 6
    assert SECRET not in spoken

"""ECS through boto3: looks, stops, regions and logs become the right news."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from spotjob.core.sequence.ports import (
    Container,
    DescribeTasks,
    FindTasks,
    Found,
    Launched,
    Looked,
    RunTask,
    StopTasks,
    Task,
    Unknown,
)
from spotjob.core.sequence.ports import Refusal as Kind
from tests.aws.ecs_wire import ACCOUNT, Refusal, a_request, arn, kind

DEFINITION = f"{ACCOUNT}:task-definition/extract:7"
NO_FARGATE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
THROTTLED = Refusal("ThrottlingException", "Rate exceeded")
DENIED = Refusal("AccessDeniedException", "not authorized to perform: ecs:Anything on resource: *")
LOST = Refusal(lost=True)


# ---- DescribeTasks --------------------------------------------------------------------------------------------------


async def test_a_look_shows_tasks_in_the_order_asked_for_and_names_those_that_ecs_does_not_know(ecs, world):
    first, second = world.add(2)
    world.tasks[first] |= {
        "lastStatus": "STOPPED",
        "desiredStatus": "STOPPED",
        "stopCode": "EssentialContainerExited",
        "stoppedReason": "Essential container in task exited",
        "taskDefinitionArn": DEFINITION,
        "containers": [
            {"name": "app", "exitCode": 0, "containerArn": "arn:c", "runtimeId": "r"},
            {"name": "proxy", "reason": "CannotPullContainerError: no"},
        ],
    }
    looked = await ecs.describe_tasks("night", (first, arn(9), second))
    assert looked == Looked(
        tasks=(
            Task(
                first,
                "STOPPED",
                "STOPPED",
                "EssentialContainerExited",
                "Essential container in task exited",
                DEFINITION,
                (Container("app", 0, "", "arn:c", "r"), Container("proxy", None, "CannotPullContainerError: no")),
            ),
            Task(second, "RUNNING", "RUNNING"),
        ),
        missing=frozenset({arn(9)}),
    )
    assert isinstance(looked.missing, frozenset)
    assert world.asked == [{"cluster": "night", "tasks": [first, arn(9), second]}]


async def test_250_tasks_are_looked_at_with_three_calls(ecs, world):
    arns = world.add(250)
    looked = await ecs.describe_tasks("night", arns)
    assert [task.arn for task in looked.tasks] == arns
    assert world.calls["DescribeTasks"] == 3


async def test_a_failed_part_of_a_look_is_no_look(ecs, world):
    arns = world.add(150)
    world.failures = [{"arn": arns[3], "reason": "THROTTLED", "detail": "later"}]
    assert kind(await ecs.describe_tasks("night", arns)) == ("refused", Kind.FINAL, "THROTTLED")
    world.refuse("DescribeTasks", LOST, LOST, LOST)
    assert isinstance(await ecs.describe_tasks("night", arns), Unknown)


async def test_a_look_is_repeated_by_botocore(ecs, world):
    arns = world.add(1)
    world.refuse("DescribeTasks", LOST, LOST)
    assert isinstance(await ecs.describe_tasks("night", arns), Looked)
    assert world.calls["DescribeTasks"] == 3


async def test_a_throttled_look_says_so(ecs, world):
    world.refuse("DescribeTasks", THROTTLED, THROTTLED, THROTTLED)
    assert kind(await ecs.describe_tasks("night", [arn(1)])) == ("refused", Kind.THROTTLED, "ThrottlingException")


async def test_essential_containers_are_asked_for_once_per_task_definition(ecs, world):
    world.definitions[DEFINITION] = [
        {"name": "app"},
        {"name": "db", "essential": True},
        {"name": "x", "essential": False},
    ]
    arns = world.add(3, taskDefinitionArn=DEFINITION)
    for _ in range(2):
        looked = await ecs.describe_tasks("night", arns, essential=True)
        assert looked.essential == {DEFINITION: frozenset({"app", "db"})}
    assert world.calls["DescribeTaskDefinition"] == 1
    assert (await ecs.describe_tasks("night", arns)).essential == {}


async def test_a_look_without_the_essential_containers_that_were_asked_for_is_no_look(ecs, world):
    world.definitions[DEFINITION] = [{"name": "app"}]
    arns = world.add(1, taskDefinitionArn=DEFINITION)
    world.refuse("DescribeTaskDefinition", DENIED)
    news = await ecs.describe_tasks("night", arns, essential=True)
    assert kind(news) == ("refused", Kind.FINAL, "AccessDeniedException")
    assert news.message.startswith("DescribeTaskDefinition: not authorized")
    assert (await ecs.describe_tasks("night", arns, essential=True)).essential == {DEFINITION: frozenset({"app"})}


async def test_no_more_task_definitions_are_remembered_than_there_is_room_for(ecs, world, monkeypatch):
    monkeypatch.setattr("spotjob.aws.ecs.MOST_DEFINITIONS", 2)
    for number in range(5):
        world.definitions[f"d{number}"] = [{"name": "app"}]
        arns = world.add(1, taskDefinitionArn=f"d{number}")
        assert (await ecs.describe_tasks("night", arns, essential=True)).essential == {f"d{number}": frozenset({"app"})}
    assert len(ecs._definitions) <= 2


# ---- StopTask -------------------------------------------------------------------------------------------------------


async def test_a_task_is_told_to_stop_with_the_reason(ecs, world):
    (task,) = world.add(1)
    assert await ecs.stop_task("night", task, "sequencer: stopped") is None
    assert world.asked == [{"cluster": "night", "task": task, "reason": "sequencer: stopped"}]
    assert world.tasks[task]["desiredStatus"] == "STOPPED"


@pytest.mark.parametrize("code", ["InvalidParameterException", "ClientException"])
async def test_a_task_that_ecs_has_forgotten_needs_no_stop(ecs, world, code):
    world.refuse("StopTask", Refusal(code, "The referenced task was not found."))
    assert await ecs.stop_task("night", arn(1), "why") is None


async def test_a_cluster_that_is_not_there_is_no_stop(ecs, world):
    world.refuse("StopTask", Refusal("ClusterNotFoundException", "Cluster not found."))
    assert kind(await ecs.stop_task("nigth", arn(1), "why")) == ("refused", Kind.FINAL, "ClusterNotFoundException")


async def test_stopping_several_tells_every_one_and_reports_the_first_that_was_not_told(regions, world):
    arns = world.add(3)
    world.refuse("StopTask", DENIED)
    news = await regions.perform(StopTasks("us-east-1", "night", tuple(arns), "why"))
    assert kind(news) == ("refused", Kind.FINAL, "AccessDeniedException")
    assert world.calls["StopTask"] == 3
    assert [task["desiredStatus"] for task in world.tasks.values()].count("STOPPED") == 2
    assert await regions.perform(StopTasks("us-east-1", "night", tuple(arns), "why")) is None


# ---- regions --------------------------------------------------------------------------------------------------------


async def test_what_a_run_wants_done_is_done_in_its_region(regions, world):
    started = await regions.perform(RunTask("us-east-1", a_request()))
    assert started == Launched((arn(0),))
    found = await regions.perform(FindTasks("us-east-1", "night", "sequencer/r/1/1"))
    assert found == Found((arn(0),))
    looked = await regions.perform(DescribeTasks("us-east-1", "night", (arn(0),)))
    assert looked == Looked((Task(arn(0), "RUNNING", "RUNNING"),))


async def test_a_region_is_made_once_and_none_is_that_of_the_environment(regions):
    assert regions.region() is regions.region(None) is regions.region("")
    assert regions.region("eu-central-1") is regions.region("eu-central-1")
    assert regions.region("eu-central-1") is not regions.region()


# ---- logs -----------------------------------------------------------------------------------------------------------

AWSLOGS = {"awslogs-group": "/night", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "extract"}


def logging_to(driver: str = "awslogs", **options: str) -> list[dict[str, Any]]:
    return [
        {"name": "app", "logConfiguration": {"logDriver": driver, "options": options or AWSLOGS}},
        {"name": "proxy"},
    ]


def a_task(definition: str = DEFINITION, runtime_id: str = "") -> Task:
    containers = (Container("proxy", runtime_id="p"), Container("app", runtime_id=runtime_id))
    return Task(arn(5), "STOPPED", task_definition=definition, containers=containers)


async def test_the_last_lines_of_a_container_come_from_its_stream(ecs, world):
    world.definitions[DEFINITION] = logging_to()
    world.logs["/night", f"extract/app/{5:032x}"] = ["one", "two\nand a half\n", "three"]
    assert await ecs.log_tail(a_task(), "app", 20) == ("one", "two", "and a half", "three")
    assert await ecs.log_tail(a_task(), "app", 2) == ("and a half", "three")
    assert world.asked[-1]["startFromHead"] is False
    assert world.calls["DescribeTaskDefinition"] == 1


async def test_without_a_prefix_the_stream_has_the_name_that_docker_gave(ecs, world):
    world.definitions[DEFINITION] = logging_to(**{"awslogs-group": "/night"})
    world.logs["/night", "d0c4e5"] = ["hello"]
    assert await ecs.log_tail(a_task(runtime_id="d0c4e5"), "app", 5) == ("hello",)
    assert await ecs.log_tail(a_task(), "app", 5) == ()


@pytest.mark.parametrize(
    "definition",
    [
        pytest.param(logging_to("fluentd"), id="another driver"),
        pytest.param(logging_to(**{"awslogs-stream-prefix": "x"}), id="no group"),
        pytest.param([{"name": "proxy"}], id="not in the definition"),
        pytest.param([{"name": "app"}], id="no log configuration"),
    ],
)
async def test_logs_that_are_elsewhere_give_no_lines_and_no_call(ecs, world, definition):
    world.definitions[DEFINITION] = definition
    assert await ecs.log_tail(a_task(), "app", 5) == ()
    assert world.calls["GetLogEvents"] == 0


async def test_logs_out_of_reach_give_no_lines_and_one_line_at_level_debug(ecs, world, caplog):
    caplog.set_level(logging.DEBUG, logger="spotjob.aws.ecs")
    world.definitions[DEFINITION] = logging_to()
    world.refuse("DescribeTaskDefinition", DENIED)
    assert await ecs.log_tail(a_task(), "app", 5) == ()
    world.refuse("GetLogEvents", Refusal("ResourceNotFoundException", "The specified log stream does not exist."))
    assert await ecs.log_tail(a_task(), "app", 5) == ()
    assert await ecs.log_tail(a_task(definition=""), "app", 5) == ()
    assert [record.levelname for record in caplog.records] == ["DEBUG"] * 3
    assert "log stream does not exist" in caplog.text

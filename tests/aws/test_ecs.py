"""ECS through boto3: every answer, refusal and silence becomes the right news."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from spotjob.aws.clients import Session
from spotjob.aws.ecs import BotoEcs, EcsRegions, make_ecs
from spotjob.core.sequence.ports import (
    Container,
    DescribeTasks,
    Failure,
    FindTasks,
    Found,
    Launched,
    Looked,
    Refused,
    RunTask,
    StopTasks,
    Task,
    Unknown,
)
from spotjob.core.sequence.ports import Refusal as Kind
from tests.aws.ecs_wire import ACCOUNT, EcsServer, FakeEcs, Refusal, arn

DEFINITION = f"{ACCOUNT}:task-definition/extract:7"
NO_FARGATE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
THROTTLED = Refusal("ThrottlingException", "Rate exceeded")
DENIED = Refusal("AccessDeniedException", "not authorized to perform: ecs:Anything on resource: *")
LOST = Refusal(lost=True)


@pytest.fixture(scope="module")
def ecs_server() -> Iterator[EcsServer]:
    server = EcsServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def world(ecs_server: EcsServer) -> FakeEcs:
    ecs_server.ecs = FakeEcs()
    return ecs_server.ecs


@pytest.fixture(scope="module")
def keys(ecs_server: EcsServer) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ENDPOINT_URL": ecs_server.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }.items():
            environment.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def shared(keys: None) -> Iterator[EcsRegions]:
    """Clients take half a second to make."""
    regions = EcsRegions(Session())
    yield regions
    regions.close()


@pytest.fixture
def regions(shared: EcsRegions, world: FakeEcs) -> EcsRegions:
    """Nothing is remembered of other tests but the clients."""
    shared._regions.clear()
    return shared


@pytest.fixture
def ecs(regions: EcsRegions) -> BotoEcs:
    return regions.region("us-east-1")


def a_request(**more: Any) -> dict[str, Any]:
    ours = {"client_token": "token-1", "started_by": "sequencer/r/1/1", "count": 1}
    return {"cluster": "night", "task_definition": "extract", **ours, **more}


def kind(news: Any) -> tuple[str, Kind, str]:
    assert isinstance(news, Refused), news
    return "refused", news.kind, news.code


# ---- RunTask --------------------------------------------------------------------------------------------------------


async def test_the_request_is_sent_as_ecs_names_it_and_the_tasks_come_back(ecs, world):
    environment = [{"name": "A", "value": "b"}]
    overrides = {"container_overrides": [{"name": "app", "environment": environment}]}
    news = await ecs.run_task(a_request(count=2, launch_type="FARGATE", overrides=overrides))
    assert news == Launched((arn(0), arn(1)))
    assert world.asked == [
        {
            "cluster": "night",
            "taskDefinition": "extract",
            "clientToken": "token-1",
            "startedBy": "sequencer/r/1/1",
            "count": 2,
            "launchType": "FARGATE",
            "overrides": {"containerOverrides": [{"name": "app", "environment": environment}]},
        }
    ]


async def test_failures_in_a_good_answer_come_beside_the_tasks_that_were_placed(ecs, world):
    instance = f"{ACCOUNT}:container-instance/1"
    world.failures = [{"arn": instance, "reason": "RESOURCE:CPU"}, {"reason": "AGENT", "detail": "gone"}]
    news = await ecs.run_task(a_request(count=3))
    assert news == Launched((arn(0),), (Failure("RESOURCE:CPU", "", instance), Failure("AGENT", "gone", "")))


async def test_a_lost_answer_is_unknown_it_is_asked_once_and_the_same_token_then_finds_the_task(ecs, world):
    world.refuse("RunTask", LOST)
    assert isinstance(await ecs.run_task(a_request()), Unknown)
    assert world.calls["RunTask"] == 1
    assert await ecs.run_task(a_request()) == Launched((arn(0),))
    assert len(world.tasks) == 1


async def test_three_throttles_are_three_refusals_without_effect_and_no_call_of_botocores_own(ecs, world):
    world.refuse("RunTask", THROTTLED, THROTTLED, THROTTLED)
    for calls in (1, 2, 3):
        assert kind(await ecs.run_task(a_request())) == ("refused", Kind.THROTTLED, "ThrottlingException")
        assert world.calls["RunTask"] == calls
    assert await ecs.run_task(a_request()) == Launched((arn(0),))


async def test_a_conflict_names_the_tasks_that_hold_the_token(ecs, world):
    world.refuse("RunTask", Refusal("ConflictException", "token", more={"resourceIds": [arn(7), arn(8)]}))
    assert await ecs.run_task(a_request()) == Launched((arn(7), arn(8)))
    world.refuse("RunTask", Refusal("ConflictException", "token"))
    assert kind(await ecs.run_task(a_request())) == ("refused", Kind.FINAL, "ConflictException")


@pytest.mark.parametrize(
    ("code", "message", "status", "expected"),
    [
        ("ClientException", NO_FARGATE, 400, Kind.CAPACITY),
        ("ClientException", "No container instances: RESOURCE:MEMORY", 400, Kind.CAPACITY),
        ("ClientException", "Tasks provisioning capacity limit exceeded.", 400, Kind.CAPACITY),
        ("ThrottlingException", "You've reached the limit on the number of tasks you can run", 400, Kind.CAPACITY),
        ("ThrottlingException", "slower", 400, Kind.THROTTLED),
        ("RequestLimitExceeded", "slower", 503, Kind.THROTTLED),
        ("ClientException", "Rate exceeded", 400, Kind.THROTTLED),
        ("InvalidParameterException", "security group: Request limit exceeded. (ErrorCode: Re", 400, Kind.THROTTLED),
        ("InvalidParameterException", "TaskDefinition not found.", 400, Kind.FINAL),
        ("ClientException", "TaskDefinition is inactive", 400, Kind.FINAL),
        ("ClusterNotFoundException", "Cluster not found.", 400, Kind.FINAL),
        ("AccessDeniedException", "User is not authorized to perform: ecs:RunTask on resource: *", 400, Kind.FINAL),
        ("BlockedException", "Your account is blocked.", 400, Kind.FINAL),
        ("PlatformUnknownException", "no such platform", 400, Kind.FINAL),
        ("ExpiredTokenException", "The security token is expired", 400, Kind.FINAL),
        ("SomethingNew", "?", 400, Kind.FINAL),
        ("ServerException", "Service Unavailable. Please try again later.", 500, None),
        ("ServerException", "as a 400", 400, None),
        ("InternalFailure", "?", 500, None),
        ("SomethingNew", "Rate exceeded by whom?", 502, None),
        ("SomethingNew", NO_FARGATE, 500, None),
        ("RequestTimeoutException", "?", 400, None),
    ],
)
async def test_each_refusal_is_sorted_by_what_helps_against_it(ecs, world, code, message, status, expected):
    world.refuse("RunTask", Refusal(code, message, status))
    news = await ecs.run_task(a_request())
    assert world.calls["RunTask"] == 1
    assert message in news.message
    if expected is None:
        assert isinstance(news, Unknown)
    else:
        assert kind(news) == ("refused", expected, code)


async def test_a_long_text_of_ecs_fits_a_record(ecs, world):
    world.refuse("RunTask", Refusal("AccessDeniedException", "Encoded authorization failure message: " + "x" * 5000))
    assert len((await ecs.run_task(a_request())).message) < 800


async def test_what_botocore_refuses_is_never_sent_and_shows_no_value(ecs, world, caplog):
    caplog.set_level(logging.DEBUG, logger="spotjob")
    environment = [{"name": "A", "value": {"hunter2": "hunter2"}}]
    news = await ecs.run_task(a_request(overrides={"container_overrides": [{"environment": environment}]}))
    assert kind(news) == ("refused", Kind.FINAL, "ParamValidation")
    assert news.message == ("RunTask: overrides.container_overrides.0.environment.0.value must be text, not a mapping")
    assert "hunter2" not in f"{news} {caplog.text}"
    assert world.calls["RunTask"] == 0


async def test_nobody_listening_is_unknown(keys, monkeypatch):
    with monkeypatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        regions = make_ecs()
        assert isinstance(await regions.region().run_task(a_request()), Unknown)
        regions.close()


async def test_without_credentials_or_a_region_nothing_is_sent(keys, world, monkeypatch):
    with monkeypatch.context() as environment:
        environment.delenv("AWS_ACCESS_KEY_ID")
        regions = make_ecs()
        assert kind(await regions.region().run_task(a_request())) == ("refused", Kind.FINAL, "NoCredentials")
        regions.close()
        environment.delenv("AWS_REGION")
        regions = make_ecs()
        assert kind(await regions.region().run_task(a_request())) == ("refused", Kind.FINAL, "NoRegion")
        assert kind(await regions.region().find_tasks("night", "me")) == ("refused", Kind.FINAL, "NoRegion")
        regions.close()
    assert world.asked == []


# ---- ListTasks ------------------------------------------------------------------------------------------------------


async def test_running_and_stopped_tasks_of_a_try_are_found_on_every_page(ecs, world):
    world.page = 2
    running, stopped = world.add(5, startedBy="me"), world.add(3, startedBy="me", desiredStatus="STOPPED")
    world.add(1, startedBy="another")
    assert await ecs.find_tasks("night", "me") == Found((*running, *stopped))
    assert world.calls["ListTasks"] == 3 + 2
    assert {asked["cluster"] for asked in world.asked} == {"night"}


async def test_a_page_that_fails_fails_the_whole_listing(ecs, world):
    world.page = 2
    world.add(5, startedBy="me")
    world.refuse("ListTasks", LOST, DENIED)
    assert kind(await ecs.find_tasks("night", "me")) == ("refused", Kind.FINAL, "AccessDeniedException")
    assert await ecs.find_tasks("night", "nobody") == Found(())


async def test_a_listing_without_an_end_is_unknown(ecs, world, monkeypatch):
    monkeypatch.setattr("spotjob.aws.ecs.MOST_PAGES", 3)
    world.page = 1
    world.add(5, startedBy="me")
    assert isinstance(await ecs.find_tasks("night", "me"), Unknown)


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

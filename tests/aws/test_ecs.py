"""ECS through boto3: every answer, refusal and silence becomes the right news."""

from __future__ import annotations

import logging

import pytest

from spotjob.aws.ecs import make_ecs
from spotjob.core.sequence.ports import (
    Failure,
    Found,
    Launched,
    Unknown,
)
from spotjob.core.sequence.ports import Refusal as Kind
from tests.aws.ecs_wire import ACCOUNT, Refusal, a_request, arn, kind

DEFINITION = f"{ACCOUNT}:task-definition/extract:7"
NO_FARGATE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
THROTTLED = Refusal("ThrottlingException", "Rate exceeded")
DENIED = Refusal("AccessDeniedException", "not authorized to perform: ecs:Anything on resource: *")
LOST = Refusal(lost=True)


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
        regions = make_ecs("")
        assert isinstance(await regions.region().run_task(a_request()), Unknown)
        regions.close()


async def test_without_credentials_or_a_region_nothing_is_sent(keys, world, monkeypatch):
    with monkeypatch.context() as environment:
        environment.delenv("AWS_ACCESS_KEY_ID")
        regions = make_ecs("")
        assert kind(await regions.region().run_task(a_request())) == ("refused", Kind.FINAL, "NoCredentials")
        regions.close()
        environment.delenv("AWS_REGION")
        regions = make_ecs("")
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

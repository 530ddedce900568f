"""A task from RunTask to its end, by the clock."""

from __future__ import annotations

from datetime import timedelta

from spotjob.local.ecs import Rule, Script
from tests.local.ecs.builders import (
    START,
    TO_RUN,
    TO_STOP,
    a_container,
    a_simulator,
    call,
    ending,
    exit_codes,
    look,
    run,
    wait,
)

EXITED = ("STOPPED", "EssentialContainerExited", "Essential container in task exited")
SLEEPS = Rule(Script(seconds=None))


def test_a_task_goes_through_every_status_in_order() -> None:
    ecs = a_simulator()
    arn = run(ecs)
    seen = [look(ecs, arn)["lastStatus"]]
    while ecs.next_event_at and len(seen) < 8:
        ecs.advance(ecs.next_event_at)
        status = look(ecs, arn)["lastStatus"]
        seen += [status] if status != seen[-1] else []
    assert seen == (
        ["PROVISIONING", "PENDING", "ACTIVATING", "RUNNING", "DEACTIVATING", "STOPPING", "DEPROVISIONING", "STOPPED"]
    )


def test_a_task_without_rules_exits_with_0_and_says_when() -> None:
    ecs = a_simulator()
    arn = run(ecs)
    wait(ecs, 2)
    task = look(ecs, arn)
    assert (ending(task), task["desiredStatus"], exit_codes(task)) == (EXITED, "STOPPED", {"main": 0})
    assert task["createdAt"] == START
    assert task["startedAt"] == START + timedelta(seconds=TO_RUN)
    assert task["stoppedAt"] > task["stoppingAt"] > task["startedAt"]


def test_a_running_task_has_a_runtime_id_and_neither_exit_code_nor_stop_code() -> None:
    ecs = a_simulator()
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 3600)
    task = look(ecs, arn)
    assert (task["lastStatus"], task["desiredStatus"], exit_codes(task)) == ("RUNNING", "RUNNING", {"main": "absent"})
    assert task["containers"][0]["runtimeId"]
    assert not task.keys() & {"stopCode", "stoppedReason", "stoppingAt", "stoppedAt"}


def test_stopping_takes_its_time_although_every_container_obeys_at_once() -> None:
    ecs = a_simulator(stopping_seconds=5)
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 10)
    call(ecs, "StopTask", task=arn)
    wait(ecs, 4)
    assert (look(ecs, arn)["lastStatus"], exit_codes(look(ecs, arn))) == ("STOPPING", {"main": 143})
    wait(ecs, 2)
    assert look(ecs, arn)["lastStatus"] == "STOPPED"


# ---- scripts


def test_a_container_follows_the_rule_of_its_family_and_name() -> None:
    ecs = a_simulator(a_container("main"), a_container("helper", essential=False))
    ecs.order(Rule(Script(exit_code=7, reason="OutOfMemoryError"), family="job", container="main"))
    ecs.order(Rule(Script(exit_code=5, seconds=0), family="job", container="helper"))
    ecs.order(Rule(Script(exit_code=9), family="other"))
    arn = run(ecs)
    wait(ecs, 2)
    task = look(ecs, arn)
    assert exit_codes(task) == {"main": 7, "helper": 5}
    assert task["containers"][0]["reason"] == "OutOfMemoryError"


def test_a_rule_for_one_task_leaves_the_next_to_the_rule_that_lasts() -> None:
    ecs = a_simulator(a_container("main"), a_container("helper", essential=False))
    ecs.order(Rule(Script(exit_code=0)))
    ecs.order(Rule(Script(exit_code=1), times=1))
    ecs.order(Rule(Script(exit_code=2), times=1))
    arns = [run(ecs) for _ in range(3)]
    wait(ecs, 2)
    assert [exit_codes(look(ecs, arn))["main"] for arn in arns] == [1, 2, 0]


def test_an_image_that_cannot_be_pulled_ends_the_task_before_it_runs() -> None:
    ecs = a_simulator(a_container("main"), a_container("other"))
    ecs.order(Rule(Script(exit_code=None, reason="CannotPullContainerError: no such image"), container="main"))
    arn = run(ecs)
    wait(ecs, 2)
    task = look(ecs, arn)
    assert ending(task) == ("STOPPED", "TaskFailedToStart", "CannotPullContainerError: no such image")
    assert exit_codes(task)["main"] == "absent"
    assert task["containers"][0]["reason"] == "CannotPullContainerError: no such image"
    assert "startedAt" not in task


def test_a_task_can_run_and_end_without_an_exit_code() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(exit_code=None, stop_code="InfrastructureHealth", stopped_reason="The host is unwell.")))
    arn = run(ecs)
    wait(ecs, 2)
    task = look(ecs, arn)
    assert ending(task) == ("STOPPED", "InfrastructureHealth", "The host is unwell.")
    assert exit_codes(task) == {"main": "absent"}
    assert "startedAt" in task


# ---- several containers


def test_the_end_of_an_essential_container_stops_the_others() -> None:
    ecs = a_simulator(a_container("main"), a_container("proxy"), a_container("stubborn", stopTimeout=2))
    ecs.order(Rule(Script(exit_code=0, seconds=1), container="main"))
    ecs.order(Rule(Script(seconds=None), container="proxy"))
    ecs.order(Rule(Script(seconds=None, sigterm_exit_code=None), container="stubborn"))
    arn = run(ecs)
    wait(ecs, TO_RUN + 1 + TO_STOP)
    assert look(ecs, arn)["lastStatus"] == "STOPPING"
    wait(ecs, 2)
    task = look(ecs, arn)
    assert ending(task) == EXITED
    assert exit_codes(task) == {"main": 0, "proxy": 143, "stubborn": 137}


def test_the_end_of_a_sidecar_that_is_not_essential_stops_nothing() -> None:
    ecs = a_simulator(a_container("main"), a_container("sidecar", essential=False))
    ecs.order(Rule(Script(seconds=None), container="main"))
    ecs.order(Rule(Script(exit_code=1, seconds=0), container="sidecar"))
    arn = run(ecs)
    wait(ecs, 60)
    task = look(ecs, arn)
    assert task["lastStatus"] == "RUNNING"
    assert exit_codes(task) == {"main": "absent", "sidecar": 1}

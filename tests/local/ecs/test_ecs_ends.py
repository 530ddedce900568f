"""What stops a simulated task, what ECS no longer knows of it, and the real containers in it."""

from __future__ import annotations

import pytest

from spotjob.local.ecs import EcsError, Rule, Script
from tests.local.ecs.builders import (
    a_container,
    a_simulator,
    call,
    ending,
    exit_codes,
    listed,
    look,
    missing,
    run,
    wait,
)

EXITED = ("STOPPED", "EssentialContainerExited", "Essential container in task exited")
SLEEPS = Rule(Script(seconds=None))


def test_stop_task_shows_its_reason_and_how_the_container_took_it() -> None:
    ecs = a_simulator()
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 10)
    answered = call(ecs, "StopTask", task=arn, reason="maintenance")["task"]
    assert (answered["lastStatus"], answered["desiredStatus"]) == ("DEACTIVATING", "STOPPED")
    wait(ecs, 1)
    task = look(ecs, arn)
    assert (ending(task), exit_codes(task)) == (("STOPPED", "UserInitiated", "maintenance"), {"main": 143})


def test_a_container_that_ignores_sigterm_is_killed_after_its_stop_timeout() -> None:
    ecs = a_simulator(a_container(stopTimeout=20))
    ecs.order(Rule(Script(seconds=None, sigterm_exit_code=None)))
    arn = run(ecs)
    wait(ecs, 10)
    call(ecs, "StopTask", task=arn)
    wait(ecs, 19)
    assert look(ecs, arn)["lastStatus"] == "STOPPING"
    wait(ecs, 2)
    assert exit_codes(look(ecs, arn)) == {"main": 137}


def test_a_container_that_ends_by_itself_within_the_grace_keeps_its_own_exit_code() -> None:
    ecs = a_simulator()
    ecs.order(Rule(Script(exit_code=0, seconds=15, sigterm_exit_code=None)))
    arn = run(ecs)
    wait(ecs, 10)
    call(ecs, "StopTask", task=arn)
    wait(ecs, 10)
    assert ending(look(ecs, arn))[:2] == ("STOPPED", "UserInitiated")
    assert exit_codes(look(ecs, arn)) == {"main": 0}


@pytest.mark.parametrize("seconds", [0, 0.06, 0.12, 0.16])
def test_a_task_that_is_stopped_before_it_runs_has_never_started(seconds: float) -> None:
    ecs = a_simulator()
    arn = run(ecs)
    wait(ecs, seconds)
    call(ecs, "StopTask", task=arn)
    wait(ecs, 2)
    task = look(ecs, arn)
    assert ending(task)[:2] == ("STOPPED", "UserInitiated")
    assert "startedAt" not in task
    assert ("runtimeId" in task["containers"][0]) == (exit_codes(task)["main"] == 143)


def test_the_first_cause_of_a_stop_is_the_one_that_is_shown() -> None:
    ecs = a_simulator()
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 10)
    ecs.interrupt(arn)
    call(ecs, "StopTask", task=arn, reason="too late")
    wait(ecs, 2)
    assert ending(look(ecs, arn)) == ("STOPPED", "SpotInterruption", "Your Spot Task was interrupted.")


def test_a_spot_interruption_leaves_the_container_its_grace() -> None:
    ecs = a_simulator(a_container(stopTimeout=120))
    ecs.order(Rule(Script(seconds=None, sigterm_exit_code=None)))
    arn = run(ecs)
    wait(ecs, 10)
    ecs.interrupt(arn)
    assert look(ecs, arn)["desiredStatus"] == "STOPPED"
    wait(ecs, 110)
    assert look(ecs, arn)["lastStatus"] == "STOPPING"
    wait(ecs, 11)
    assert exit_codes(look(ecs, arn)) == {"main": 137}


def test_a_task_whose_host_is_lost_is_stopped_at_once_without_an_exit_code() -> None:
    ecs = a_simulator()
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 10)
    ecs.lose_host(arn, "i-1")
    task = look(ecs, arn)
    assert ending(task) == ("STOPPED", "TerminationNotice", "Host EC2 (instance i-1) terminated.")
    assert exit_codes(task) == {"main": "absent"}


# ---- what ECS does not know, or no longer


def test_a_stopped_task_is_shown_for_an_hour() -> None:
    ecs = a_simulator()
    arn = run(ecs)
    wait(ecs, 3600)
    assert ending(look(ecs, arn)) == EXITED
    wait(ecs, 10)
    assert missing(ecs, arn)
    assert listed(ecs, desiredStatus="STOPPED") == []
    assert ecs.tasks()[0].forgotten


def test_a_new_task_is_unknown_to_every_call_for_as_long_as_is_ordered() -> None:
    ecs = a_simulator(missing_seconds=10)
    ecs.order(SLEEPS)
    arn = run(ecs)
    wait(ecs, 9)
    assert missing(ecs, arn)
    assert listed(ecs) == []
    with pytest.raises(EcsError, match="InvalidParameterException: The referenced task was not found"):
        call(ecs, "StopTask", task=arn)
    wait(ecs, 1)
    assert look(ecs, arn)["lastStatus"] == "RUNNING"
    assert listed(ecs) == [arn]


def test_a_task_can_be_forgotten_before_its_time() -> None:
    ecs = a_simulator()
    ecs.order(SLEEPS)
    arn, other = run(ecs), run(ecs)
    wait(ecs, 1)
    ecs.forget(arn)
    wait(ecs, 10)
    assert missing(ecs, arn)
    assert listed(ecs) == [other]
    with pytest.raises(EcsError, match="There is no task"):
        ecs.forget(arn)


# ---- real containers


def test_a_real_container_is_ordered_and_its_end_is_what_it_says() -> None:
    ecs = a_simulator(real=True)
    arn = run(ecs)
    wait(ecs, 60)
    (order,) = ecs.take_orders()
    assert (order.what, order.task.arn, order.container) == ("start", arn, "main")
    assert look(ecs, arn)["lastStatus"] == "PENDING"
    ecs.started(arn, "main", "docker-id")
    wait(ecs, 60)
    assert look(ecs, arn)["containers"][0]["runtimeId"] == "docker-id"
    ecs.ended(arn, "main", 3)
    wait(ecs, 1)
    assert (ending(look(ecs, arn)), exit_codes(look(ecs, arn))) == (EXITED, {"main": 3})
    assert ecs.take_orders() == []


def test_a_real_container_that_ended_before_its_task_ran_has_run() -> None:
    ecs = a_simulator(real=True)
    arn = run(ecs)
    wait(ecs, 1)
    ecs.started(arn, "main", "docker-id")
    ecs.ended(arn, "main", 0)
    wait(ecs, 1)
    task = look(ecs, arn)
    assert (ending(task), exit_codes(task), "startedAt" in task) == (EXITED, {"main": 0}, True)


def test_a_real_container_that_is_still_being_pulled_is_told_to_stop() -> None:
    ecs = a_simulator(a_container(stopTimeout=5), real=True)
    arn = run(ecs)
    wait(ecs, 1)
    call(ecs, "StopTask", task=arn)
    assert [(order.what, order.grace_seconds) for order in ecs.take_orders()] == [("start", 0), ("stop", 5)]
    wait(ecs, 60)
    assert look(ecs, arn)["lastStatus"] == "STOPPING"
    ecs.ended(arn, "main", None)
    wait(ecs, 1)
    assert (ending(look(ecs, arn))[0], exit_codes(look(ecs, arn))) == ("STOPPED", {"main": "absent"})


@pytest.mark.parametrize("befalls", ["lose_host", "forget"])
def test_a_real_container_of_a_task_that_is_gone_is_stopped_and_no_longer_heard(befalls: str) -> None:
    ecs = a_simulator(real=True)
    arn = run(ecs)
    wait(ecs, 1)
    ecs.started(arn, "main", "docker-id")
    wait(ecs, 1)
    if befalls == "forget":
        ecs.forget(arn)
    else:
        ecs.lose_host(arn, "i-1")
    assert [order.what for order in ecs.take_orders()] == ["start", "stop"]
    ecs.ended(arn, "main", 137)
    assert ecs.tasks()[0].containers[0].exit_code is None


def test_a_rule_speaks_for_a_container_that_would_be_real() -> None:
    ecs = a_simulator(real=True)
    ecs.order(Rule(Script(exit_code=4), family="job", times=1))
    arn = run(ecs)
    wait(ecs, 2)
    assert exit_codes(look(ecs, arn)) == {"main": 4}
    assert ecs.take_orders() == []

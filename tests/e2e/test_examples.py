"""Every file of examples/ does what its comment says."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.e2e.platform import Person, Raw, now


def test_hello_ends_well_with_its_output(person: Person):
    person.apply_example("01-hello.yaml")
    status = person.finished("hello")
    assert (status["phase"], status["reason"], status["exitCode"]) == ("TerminatedOK", "ContainerSucceeded", 0)
    assert status["attempts"][0]["logTail"] == "Hello from default/hello.\nThis is attempt 1.\n"


def test_the_environment_arrives_and_the_secret_is_masked(person: Person):
    person.apply_example("02-environment.yaml")
    output = person.finished("environment")["attempts"][0]["logTail"]
    assert """GREETING=it's "quoted", $(id) and `id` are not run, and ☃ arrives whole\n""" in output
    assert "COLOUR=green\n" in output
    assert "the password has 12 characters" in output
    assert "correcthorse" not in output
    # The table follows the object.
    person.until(lambda: "TerminatedOK" in [i["jobStatus"] for i in shown_in_the_table(person)], 30, "the item")
    assert "correcthorse" not in str(shown_in_the_table(person))


def shown_in_the_table(person: Person) -> list[Raw]:
    return [item for item in person.items() if item["name"] == "environment"]


def test_a_start_time_is_waited_for(person: Person):
    # Long enough to be seen waiting, also on a machine that stands still for a while.
    launched, start = person.calls("CreateFleet"), now() + timedelta(seconds=30)
    person.apply_example("03-start-at.yaml", START_AT=start.isoformat())
    status = person.reason("start-at", "WaitingForStartTime")
    assert datetime.fromisoformat(status["nextAttemptTime"]) == start.replace(microsecond=0)
    assert person.calls("CreateFleet") == launched
    status = person.finished("start-at")
    [instance] = [i for i in person.instances() if i["id"] == status["instanceID"]]
    delay = datetime.fromisoformat(instance["launchTime"]) - start.replace(microsecond=0)
    assert timedelta(0) <= delay
    print(f"launched {delay.total_seconds():.0f} s after startAt")


def test_the_container_calls_back(person: Person):
    person.apply_example("04-callback.yaml")
    status = person.finished("callback")
    assert (status["phase"], status["attempts"][0]["callback"]) == (
        "TerminatedOK",
        {"ok": True, "message": "42 rows imported"},
    )


def test_a_drill_tells_the_container_and_the_job_goes_on_elsewhere(person: Person):
    person.apply_example("05-interruption.yaml")
    person.reason("interruption", "ContainerRunning")
    # The signal comes 10 s before the end: so the notice stands for 40 s, and cannot be missed.
    person.annotate("interruption", "spotjob.dev/drill=50")
    person.reason("interruption", "InterruptionNotice")
    status = person.finished("interruption", seconds=90)
    assert [(a["outcome"], a["exitCode"]) for a in status["attempts"]] == [("Interrupted", 0), ("Succeeded", 0)]
    assert status["counts"] == {"failures": 0, "interruptions": 1, "launchErrors": 0}


def test_after_an_interruption_the_example_goes_on_on_demand(person: Person):
    person.apply_example("06-fallback.yaml")
    person.reason("fallback", "ContainerRunning")
    person.interrupt("fallback", warning_seconds=20)
    assert person.finished("fallback", seconds=90)["phase"] == "TerminatedOK"
    assert (person.columns("fallback")["ATTEMPT"], person.columns("fallback")["CAPACITY"]) == ("2", "on-demand")
    assert person.condition("fallback", "FallenBack")["status"] == "True"
    assert person.events("fallback", "FallbackToOnDemand")

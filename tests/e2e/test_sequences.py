"""JobSequences on the whole local platform, with kubectl alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from spotjob.local import parts
from spotjob.local.layout import OPERATOR
from tests.e2e.platform import Person, Raw


class Sequences:
    """A person who works with JobSequences, and looks into the simulated account."""

    def __init__(self, person: Person) -> None:
        self.person = person
        account = parts.aws_environment(person.layout)
        keys = account["AWS_ACCESS_KEY_ID"], account["AWS_SECRET_ACCESS_KEY"]
        session = boto3.Session(*keys, region_name=account["AWS_REGION"])
        self.ecs: Any = session.client("ecs", endpoint_url=account["AWS_ENDPOINT_URL"])
        self.sqs: Any = session.client("sqs", endpoint_url=account["AWS_ENDPOINT_URL"])

    def close(self) -> None:
        self.ecs.close()
        self.sqs.close()

    def status(self, name: str = "sequence") -> Raw:
        held: Raw = json.loads(self.person.kubectl("get", "js", name, "-o", "json").stdout)
        return held.get("status") or {}

    def row(self, name: str = "sequence") -> list[str]:
        return list(self.person.kubectl("get", "js", name, "--no-headers").stdout.split())

    def step(self, place: int, name: str = "sequence") -> Raw:
        steps = self.status(name).get("run", {}).get("steps", [])
        return dict(steps[place]) if place < len(steps) else {}

    def until_step(self, place: int, state: str, name: str = "sequence") -> Raw:
        self.person.until(
            lambda: self.step(place, name).get("state") == state, 60, f"step {place} of {name} to be {state}"
        )
        return self.step(place, name)

    def events(self, name: str = "sequence") -> list[str]:
        """The reasons of what was told of it."""
        told = self.person.kubectl("events", f"--for=jobsequence/{name}", "-o", "json").stdout
        return [event["reason"] for event in json.loads(told)["items"]]

    def names(self) -> list[str]:
        return list(self.person.kubectl("get", "js", "-o", "name").stdout.split())

    def tasks(self, status: str = "RUNNING") -> list[str]:
        return list(self.ecs.list_tasks(cluster="yourcluster", desiredStatus=status)["taskArns"])


@pytest.fixture
def sequences(person: Person) -> Iterator[Sequences]:
    made = Sequences(person)
    yield made
    person.kubectl("delete", "js", "--all", "--wait=false")
    person.until(lambda: not made.names(), 60, "the last JobSequence is gone")
    made.close()


def waiting(name: str, **parameters: Any) -> Raw:
    """A sequence whose first step runs until it is told to stop."""
    step = parameters or {"cluster": "yourcluster", "task_definition": "test-task-def:1", **SLEEPS}
    kind = "spot_job" if parameters else "ecs_task"
    steps = [{"name": "first", "type": kind, "parameters": step}, {**SECOND}]
    return {
        "apiVersion": "spotjob.dev/v1alpha1",
        "kind": "JobSequence",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"steps": steps},
    }


SLEEPS: Raw = {
    "overrides": {"container_overrides": [{"name": "main", "command": ["/bin/sh", "-c", "exec sleep 3600"]}]}
}
SECOND: Raw = {
    "name": "second",
    "type": "ecs_task",
    "parameters": {"cluster": "yourcluster", "task_definition": "test-task-def:1"},
}


def test_the_example_completes_and_kubectl_shows_how_far_it_is(person: Person, sequences: Sequences):
    person.capacity(0)  # so that the second step stands still while it is looked at
    person.apply_example("10-sequence.yaml")
    sequences.until_step(1, "Running")
    assert sequences.row()[1:4] == ["1/2", "train", "Running"]
    person.capacity(None)
    person.kubectl("wait", "--for=condition=Complete", "js/sequence", "--timeout=270s", seconds=300)
    assert sequences.row()[1:3] == ["2/2", "Succeeded"]
    extract, train = sequences.step(0), sequences.step(1)
    assert [extract["containers"][0]["exitCode"], train["containers"][0]["exitCode"]] == [0, 0]
    job = json.loads(person.kubectl("get", "sj", train["job"], "-o", "json").stdout)
    assert job["metadata"]["ownerReferences"][0]["name"] == "sequence"
    assert job["status"]["attempts"][-1]["logTail"] == "Trained on what was extracted.\n"
    # An Event is recorded after the status that it is about.
    person.until(lambda: sequences.events().count("StepSucceeded") == 2, 30, "both Events")


def test_a_sequence_deleted_in_its_ecs_step_leaves_no_task(person: Person, sequences: Sequences):
    person.apply(waiting("waits"))
    sequences.until_step(0, "Running", "waits")
    assert len(sequences.tasks()) == 1
    person.kubectl("delete", "js", "waits", "--timeout=180s", seconds=200)
    assert sequences.tasks() == []


def test_the_end_of_a_task_that_ecs_forgot_while_there_was_no_operator_is_read_from_the_queue(
    person: Person, sequences: Sequences
):
    person.apply(waiting("waits"))
    (arn,) = sequences.until_step(0, "Running", "waits")["tasks"]
    person.laptop.processes.stop([OPERATOR], grace_seconds=10)
    person.aws("POST", "ecs-forget", {"arn": arn})
    ended_well = {"taskArn": arn, "lastStatus": "STOPPED", "containers": [{"name": "main", "exitCode": 0}]}
    event = {"detail-type": "ECS Task State Change", "detail": ended_well}
    queue = sequences.sqs.create_queue(QueueName=parts.TASK_EVENTS)["QueueUrl"]
    sequences.sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    person.laptop.start(OPERATOR)
    assert sequences.until_step(0, "Succeeded", "waits")["tries"] == 1


def test_a_sequence_deleted_in_its_spot_step_leaves_no_job_and_no_instance(person: Person, sequences: Sequences):
    shell = {"image": person.image, "command": ["sh", "-c"], "args": ["exec sleep 3600"]}
    person.apply(waiting("waits", **shell))
    sequences.until_step(0, "Running", "waits")
    person.until(lambda: person.reasons() == ["ContainerRunning"], 60, "it runs")
    person.kubectl("delete", "js", "waits", "--timeout=180s", seconds=200)
    person.until(lambda: not person.jobs(), 20, "the job is gone")
    person.leave_no_instance(30)


def test_a_bad_parameter_fails_before_the_first_step_and_is_named(person: Person, sequences: Sequences):
    bad = waiting("bad")
    bad["spec"]["steps"][1] = {**SECOND, "parameters": {**SECOND["parameters"], "task_definitionn": "x"}}
    before = set(sequences.tasks("STOPPED"))
    person.apply(bad)
    person.kubectl("wait", "--for=condition=Failed", "js/bad", "--timeout=90s", seconds=100)
    status = sequences.status("bad")
    assert (status["phase"], status["conditions"][0]["reason"]) == ("Failed", "Invalid")
    assert "steps[1].parameters.task_definitionn" in status["message"]
    # ECS forgets stopped tasks after a while.
    assert (sequences.tasks(), set(sequences.tasks("STOPPED")) - before) == ([], set())


def test_a_scheduled_sequence_creates_its_runs(person: Person, sequences: Sequences):
    """Within two minutes on a quiet machine, since cron knows nothing shorter than a minute."""
    each_minute = waiting("each-minute")
    each_minute["spec"] |= {"schedule": "* * * * *", "timeZone": "Europe/Berlin", "steps": [SECOND]}
    person.apply(each_minute)
    person.until(lambda: "lastSuccessfulTime" in sequences.status("each-minute"), 120, "a run succeeded")
    assert sequences.status("each-minute")["phase"] == "Scheduled"
    of_it = "jobsequence.spotjob.dev/each-minute-"
    assert any(name.startswith(of_it) for name in sequences.names())  # two, if a minute has begun meanwhile
    person.kubectl("delete", "js", "each-minute", "--timeout=90s", seconds=100)
    person.until(lambda: not any(n.startswith(of_it) for n in sequences.names()), 60, "its runs went with it")

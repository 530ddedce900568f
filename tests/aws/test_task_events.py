"""Ends of tasks that ECS has forgotten, found among whatever else lies in a queue."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from spotjob.aws.task_events import DETAIL_TYPE, TaskEvents, ended_task
from spotjob.core.ports import Message, QueueError
from spotjob.core.sequence.ports import Container, Looked, Task

TEMPLATE = Path(__file__).parents[2] / "deploy" / "aws" / "task-events.yaml"
ODD = ["", "none", "[]", "{}", '{"detail-type": "EC2 Instance State-change Notification", "detail": {}}', "\x00", "7"]


def an_event(arn: str, exit_code: int | None = 0, status: str = "STOPPED") -> str:
    container = {"name": "main", "containerArn": f"{arn}/c", **({} if exit_code is None else {"exitCode": exit_code})}
    detail = {"taskArn": arn, "lastStatus": status, "stopCode": "EssentialContainerExited", "containers": [container]}
    return json.dumps({"source": "aws.ecs", "detail-type": DETAIL_TYPE, "detail": detail})


class FakeQueue:
    """Hands each message out once, ten at a time."""

    def __init__(self, *bodies: str) -> None:
        self.bodies, self.receives, self.broken = list(bodies), 0, False

    async def receive(self) -> Sequence[Message]:
        self.receives += 1
        if self.broken:
            raise QueueError("out of order")
        handed, self.bodies = self.bodies[:10], self.bodies[10:]
        return [Message(body, "receipt") for body in handed]

    async def delete(self, messages: Sequence[Message]) -> None:
        raise AssertionError("other runs read the same queue")


def forgotten(*arns: str) -> Looked:
    return Looked((), frozenset(arns))


def an_end(arn: str, exit_code: int | None = 0) -> Task:
    return Task(
        arn=arn,
        last_status="STOPPED",
        stop_code="EssentialContainerExited",
        containers=(Container("main", exit_code, arn=f"{arn}/c"),),
    )


async def test_the_end_of_a_forgotten_task_is_found_among_other_messages():
    queue = FakeQueue(*ODD, *(an_event(f"other/{n}") for n in range(25)), an_event("task/1", 3), an_event("task/2"))
    news = await TaskEvents(queue).completed(forgotten("task/1"))
    assert (news.tasks, news.missing) == ((an_end("task/1", 3),), frozenset())


async def test_what_was_read_before_is_remembered():
    queue = FakeQueue(an_event("task/1"), an_event("task/2", None))
    events = TaskEvents(queue)
    await events.completed(forgotten("task/1"))
    receives = queue.receives
    assert (await events.completed(forgotten("task/2"))).tasks == (an_end("task/2", None),)
    assert queue.receives == receives


async def test_a_task_of_which_the_queue_says_nothing_stays_missing():
    shown = an_end("task/0")
    news = await TaskEvents(FakeQueue(an_event("task/2"))).completed(Looked((shown,), frozenset({"task/1"})))
    assert (news.tasks, news.missing) == ((shown,), frozenset({"task/1"}))


async def test_a_search_ends_although_the_queue_never_does(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("spotjob.aws.task_events.MOST_RECEIVES", 3)
    queue = FakeQueue(*(an_event(f"other/{n}") for n in range(100)))
    assert (await TaskEvents(queue).completed(forgotten("task/1"))).missing == {"task/1"}
    assert queue.receives == 3


async def test_a_queue_that_cannot_be_read_leaves_the_look_as_it_was(caplog: pytest.LogCaptureFixture):
    queue = FakeQueue()
    queue.broken = True
    assert await TaskEvents(queue).completed(forgotten("task/1")) == forgotten("task/1")
    assert "out of order" in caplog.text


@pytest.mark.parametrize("body", [*ODD, an_event("task/1", status="RUNNING"), json.dumps({"detail-type": DETAIL_TYPE})])
def test_whatever_else_lies_in_the_queue_is_no_end(body: str):
    assert ended_task(body) is None


def test_the_rule_of_the_template_sends_what_is_read_here():
    class Loader(yaml.SafeLoader):
        """Knows the short forms of CloudFormation's functions."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: f"{suffix} {node.value}")
    template: Any = yaml.load(re.sub(r"\t", " ", TEMPLATE.read_text()), Loader)
    pattern = template["Resources"]["Ends"]["Properties"]["EventPattern"]
    assert (pattern["source"], pattern["detail-type"]) == (["aws.ecs"], [DETAIL_TYPE])
    assert pattern["detail"]["lastStatus"] == ["STOPPED"]

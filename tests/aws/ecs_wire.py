"""A few calls of ECS and CloudWatch Logs over HTTP, with levers: what clients make of answers, not what ECS does."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

from spotjob.core.sequence.ports import Refusal as Sorted
from spotjob.core.sequence.ports import Refused

Raw = dict[str, Any]
ACCOUNT = "arn:aws:ecs:us-east-1:123456789012"


def arn(number: int) -> str:
    return f"{ACCOUNT}:task/night/{number:032x}"


@dataclass
class Refusal:
    """The next call of an operation is refused, or its answer is lost after it had its effect."""

    code: str = ""
    message: str = ""
    status: int = 400
    more: Raw = field(default_factory=dict)
    lost: bool = False


@dataclass
class FakeEcs:
    """What is there, and what was asked."""

    tasks: dict[str, Raw] = field(default_factory=dict)
    tokens: dict[str, list[str]] = field(default_factory=dict)
    failures: list[Raw] = field(default_factory=list)
    """Of the next RunTask, instead of so many of its tasks."""
    definitions: dict[str, list[Raw]] = field(default_factory=dict)
    logs: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    page: int = 100
    """So many ARNs are on one page of a listing."""
    orders: dict[str, list[Refusal]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    asked: list[Raw] = field(default_factory=list)

    def refuse(self, operation: str, *refusals: Refusal) -> None:
        self.orders.setdefault(operation, []).extend(refusals)

    def add(self, count: int, **fields: Any) -> list[str]:
        """Tasks that are there without a RunTask."""
        arns = [arn(len(self.tasks) + each) for each in range(count)]
        for each in arns:
            self.tasks[each] = {"taskArn": each, "lastStatus": "RUNNING", "desiredStatus": "RUNNING", **fields}
        return arns

    def answer(self, operation: str, asked: Raw) -> tuple[int, Raw] | None:
        """(status, body); None: no answer comes."""
        self.calls[operation] += 1
        self.asked.append(asked)
        order = next(iter(self.orders.get(operation, [])), None)
        if order is not None:
            self.orders[operation].remove(order)
            if not order.lost:
                return order.status, {"__type": order.code, "message": order.message, **order.more}
        body = getattr(self, operation)(asked)
        return None if order is not None else (200, body)

    def RunTask(self, asked: Raw) -> Raw:
        token = asked["clientToken"]
        failures, self.failures = self.failures, []
        if token not in self.tokens:
            self.tokens[token] = self.add(asked["count"] - len(failures), startedBy=asked["startedBy"])
        return {"tasks": [{"taskArn": each} for each in self.tokens[token]], "failures": failures}

    def ListTasks(self, asked: Raw) -> Raw:
        wanted = asked["startedBy"], asked["desiredStatus"]
        arns = [a for a, task in self.tasks.items() if (task.get("startedBy"), task["desiredStatus"]) == wanted]
        start = int(asked.get("nextToken", 0))
        more = {"nextToken": str(start + self.page)} if len(arns) > start + self.page else {}
        return {"taskArns": arns[start : start + self.page], **more}

    def DescribeTasks(self, asked: Raw) -> Raw:
        assert len(asked["tasks"]) <= 100
        shown = [self.tasks[each] for each in reversed(asked["tasks"]) if each in self.tasks]
        missing = [{"arn": each, "reason": "MISSING"} for each in asked["tasks"] if each not in self.tasks]
        failures, self.failures = self.failures, []
        return {"tasks": shown, "failures": missing + failures}

    def DescribeTaskDefinition(self, asked: Raw) -> Raw:
        return {"taskDefinition": {"containerDefinitions": self.definitions[asked["taskDefinition"]]}}

    def StopTask(self, asked: Raw) -> Raw:
        self.tasks[asked["task"]]["desiredStatus"] = "STOPPED"
        return {"task": {"taskArn": asked["task"]}}

    def GetLogEvents(self, asked: Raw) -> Raw:
        said = self.logs[asked["logGroupName"], asked["logStreamName"]]
        return {"events": [{"timestamp": 0, "message": line} for line in said[-asked["limit"] :]]}


class EcsServer:
    """FakeEcs on a free port of loopback."""

    def __init__(self) -> None:
        self.ecs = FakeEcs()
        outer, one_at_a_time = self, Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with one_at_a_time:
                    answer = outer.ecs.answer(self.headers["X-Amz-Target"].rpartition(".")[2], body)
                if answer is None:
                    self.close_connection = True
                    return
                data = json.dumps(answer[1]).encode()
                self.send_response(answer[0])
                self.send_header("Content-Type", "application/x-amz-json-1.1")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def a_request(**more: Any) -> dict[str, Any]:
    ours = {"client_token": "token-1", "started_by": "sequencer/r/1/1", "count": 1}
    return {"cluster": "night", "task_definition": "extract", **ours, **more}


def kind(news: Any) -> tuple[str, Sorted, str]:
    assert isinstance(news, Refused), news
    return "refused", news.kind, news.code

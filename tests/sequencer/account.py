"""A local AWS account, and the command line as a process that is pointed at it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Fault

ROOT = Path(__file__).parents[2]
OLD_SHAPE = re.compile(
    r"(?P<letter>[DIWE]), \[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6} #\d+\] (?P<level>[ A-Z]{5}) -- : (?P<text>.*)"
)
LOOKS = "current status"
AT_ONCE = 25.0
"""Within so many seconds a process is gone that leaves at once, on a machine that stands still for a while, too. It is
less than the 30 s after which ECS kills a task that does not hear SIGTERM: nobody has waited for that."""

FIXTURE = """\
- chicken_butter:
    type: ecs_task
    ignore_failure: false
    active: true
    parameters:
      cluster: yourcluster
      task_definition: "test-task-def:1"
      count: 1
- turkey_fingers:
    type: ecs_task
    ignore_failure: false
    active: true
    parameters:
      cluster: yourcluster2
      task_definition: "test-task-def:2"
      count: 1
      launch_type: "FARGATE"
"""
"""What the first Sequencer's tests read."""

README = """\
- first_task:
    type: ecs_task
    parameters:
      cluster: yourcluster
      task_definition: test-task-def:1
      count: 1
- first_task:
    type: ecs_task
    parameters:
      cluster: yourcluster2
      task_definition: test-task-def:2
      count: 1
"""


class Put(Protocol):
    """Puts text into a bucket, which is made; the version of the object."""

    def __call__(self, bucket: str, key: str, text: str, versions: bool = False) -> str: ...


@dataclass(frozen=True)
class Ended:
    """A process of the command line, at its end."""

    code: int
    out: str
    err: str

    @property
    def texts(self) -> list[str]:
        """What the log lines say, without their heads. Every line on stdout is one."""
        return [text for _, text in self.lines]

    @property
    def lines(self) -> list[tuple[str, str]]:
        """(level, text) of each line."""
        found = [(line, OLD_SHAPE.fullmatch(line)) for line in self.out.splitlines()]
        assert all(match for _, match in found), [line for line, match in found if match is None]
        return [(match["level"].strip(), match["text"]) for _, match in found if match]

    @property
    def errors(self) -> list[str]:
        return [text.removeprefix("SEQUENCER_ERROR: ") for level, text in self.lines if level == "ERROR"]


class Account:
    """The account of one test, and its folder."""

    def __init__(self, server: AwsServer, folder: Path) -> None:
        self._server, self.folder = server, folder
        self.state = folder / "runs"
        self._started: list[subprocess.Popen[str]] = []
        self._effects_before = self._tasks()["effects"]
        self._arns_before = {task["arn"] for task in self._tasks()["tasks"]}
        with server.centre.open() as ec2:
            ec2.calls.clear()

    # ---- the command line ----

    def environment(self, **more: str | None) -> dict[str, str]:
        """Nothing of the caller's own environment. None takes a variable out."""
        known: dict[str, str | None] = {
            "PYTHONPATH": str(ROOT / "operator"),
            "HOME": str(self.folder),
            "TZ": "UTC",
            "AWS_ENDPOINT_URL": self._server.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "SEQUENCER_SLEEP_BETWEEN_CHECKS": "0.1",
            "SEQUENCER_STATE": str(self.state),
            **more,
        }
        return {name: value for name, value in known.items() if value is not None}

    def start(self, *arguments: str, **environment: str | None) -> subprocess.Popen[str]:
        self._started.append(
            subprocess.Popen(
                [sys.executable, "-m", "spotjob.sequencer.cli", *arguments],
                env=self.environment(**environment),
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self._started[-1]

    def close(self) -> None:
        """End what a test that failed has left."""
        for process in self._started:
            process.kill()
            process.communicate()

    def run(self, *arguments: str, **environment: str | None) -> Ended:
        return ended(self.start(*arguments, **environment))

    def write(self, text: str, name: str = "nightly.yml") -> str:
        (self.folder / name).write_text(text)
        return name

    def run_id(self) -> str:
        """Of the only run that has a record."""
        (record,) = self.state.glob("*.json")
        return record.stem

    def record(self) -> Any:
        (record,) = self.state.glob("*.json")
        return json.loads(record.read_text())["run"]

    # ---- AWS ----

    def lever(self, method: str, name: str, **order: Any) -> Any:
        answer = httpx.request(method, f"{self._server.url}/_spotjob/{name}", json=order)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def rule(self, **order: Any) -> None:
        """How containers end: see local/ecs/levers.py."""
        self.lever("POST", "ecs-rule", **order)

    def exits(self, arn: str) -> None:
        """The container of a running task, for which no end was ordered, exits now, with 0."""
        with self._server.ecs.open() as ecs:
            ecs.ended(arn, "main", 0)

    def fault(self, action: str, **fields: Any) -> None:
        with self._server.centre.open() as ec2:
            ec2.faults.order(Fault(action, **fields))

    @property
    def calls(self) -> Mapping[str, int]:
        """AWS calls since the test began."""
        with self._server.centre.open() as ec2:
            return dict(ec2.calls)

    def _tasks(self) -> Any:
        return self.lever("GET", "ecs-tasks")

    @property
    def effects(self) -> int:
        """How many RunTask calls have started tasks, since the test began."""
        return int(self._tasks()["effects"]) - int(self._effects_before)

    @property
    def tasks(self) -> list[Any]:
        return [task for task in self._tasks()["tasks"] if task["arn"] not in self._arns_before]


def ended(process: subprocess.Popen[str], seconds: float = 180) -> Ended:
    """Waits for the end, and kills what does not come to one."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"no end after {seconds} s\n{out}\n{err}") from None
    return Ended(process.returncode, out, err)


def said(process: subprocess.Popen[str], text: str) -> list[str]:
    """Reads lines until one holds this text. The process ends the wait when it ends."""
    assert process.stdout is not None
    lines = []
    while line := _line(process.stdout.fileno()):
        lines.append(line.rstrip("\n"))
        if text in line:
            return lines
    raise AssertionError(f"{text!r} was not said: {lines} {process.stderr.read() if process.stderr else ''}")


def _line(pipe: int) -> str:
    """The next line; empty at the end. Not a byte more is read: `ended` would miss it, and find half a line."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(pipe, 1)):
        line += byte
    return line.decode()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    ended(process)


def until(true: Any, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def a_step(name: str, **fields: Any) -> str:
    """One ecs_task in YAML. Fields other than the parameters' go beside them."""
    parameters = {"cluster": "yourcluster", "task_definition": "test-task-def:1", **fields.pop("parameters", {})}
    return f"- {name}: {json.dumps({'type': 'ecs_task', **fields, 'parameters': parameters})}\n"

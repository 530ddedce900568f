"""A person at the local platform: kubectl, the simulated account, and a look at containers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from spotjob.local import account, demo, probes
from spotjob.local.laptop import Platform

Raw = dict[str, Any]
EXAMPLES = Path(__file__).parents[2] / "examples"
DONE = ("TerminatedOK", "TerminatedNOK")
REQUEST = re.compile(r'apiserver_request_total\{code="(\d+)".*resource="spotjobs".*verb="(?:PATCH|PUT|POST)".*\} (\d+)')


class Person:
    """Works in namespace default of one platform."""

    def __init__(self, laptop: Platform) -> None:
        self.laptop, self.layout = laptop, laptop.layout
        self.image = f"{self.layout.registry}/spotjob-test:1"

    # ---- kubectl ----

    def kubectl(self, *words: str, text: str | None = None, check: bool = True, seconds: float = 60) -> Any:
        return self.layout.cluster.kubectl(*words, input=text, check=check, timeout_seconds=seconds)

    def manifest(self, name: str, script: str = "true", **spec: Any) -> Raw:
        shell = {"image": self.image, "command": ["sh", "-c"], "args": [script]}
        return {
            "apiVersion": "spotjob.dev/v1alpha1",
            "kind": "SpotJob",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {**shell, **spec},
        }

    def apply(self, *manifests: Raw) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "-f", "-", text=json.dumps(listed))

    def apply_example(self, name: str, **replaced: str) -> None:
        text = (EXAMPLES / name).read_text()
        for word, value in replaced.items():
            text = text.replace(word, value)
        self.kubectl("apply", "-f", "-", text=demo.for_registry(text, self.layout))

    def jobs(self) -> dict[str, Raw]:
        listed = json.loads(self.kubectl("get", "spotjobs", "-o", "json").stdout)["items"]
        return {job["metadata"]["name"]: job for job in listed}

    def status(self, name: str) -> Raw:
        job: Raw = json.loads(self.kubectl("get", "spotjob", name, "-o", "json").stdout)
        return job.get("status") or {}

    def phases(self) -> list[str]:
        return [job.get("status", {}).get("phase", "") for job in self.jobs().values()]

    # ---- waiting ----

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        probes.wait_until(condition, seconds, f"{what}; jobs now: {self.summary}")

    @property
    def summary(self) -> Any:
        return _Late(lambda: {n: j.get("status", {}).get("reason") for n, j in self.jobs().items()})

    def finished(self, name: str, seconds: float = 60) -> Raw:
        """The status once the job is terminated, either way."""
        self.until(lambda: self.status(name).get("phase") in DONE, seconds, f"{name} to end")
        return self.status(name)

    def reason(self, name: str, reason: str, seconds: float = 60) -> Raw:
        self.until(lambda: self.status(name).get("reason") == reason, seconds, f"{name} to be {reason}")
        return self.status(name)

    # ---- the simulated account ----

    def aws(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, answer = probes.send(method, f"{self.layout.aws_url}/_spotjob/{path}", body, timeout_seconds=30)
        assert status < 300, answer
        return json.loads(answer) if answer else None

    def calls(self, action: str) -> int:
        counted: int = self.aws("GET", "counts").get(action, 0)
        return counted

    def instances(self) -> list[Raw]:
        listed: list[Raw] = self.aws("GET", "instances")
        return listed

    def alive(self) -> Sequence[Mapping[str, Any]]:
        return account.instances_alive(self.layout.aws_url)

    def items(self) -> list[Raw]:
        return [dict(item) for item in account.items(self.layout.aws_url)]

    def capacity(self, count: int | None, zone: str = "*") -> None:
        self.aws("POST", "capacity", {"instanceType": "*", "availabilityZone": zone, "count": count})

    # ---- counting ----

    def writes(self) -> Counter[str]:
        """Requests to write SpotJobs by outcome, `written` or a code of refusal, as the API server counts them."""
        counted: Counter[str] = Counter()
        for code, number in REQUEST.findall(self.kubectl("get", "--raw", "/metrics").stdout):
            counted["written" if code.startswith("2") else code] += int(number)
        return counted


class _Late:
    """Text that is made when it is needed: a message of a wait shows how things stand at its end."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __str__(self) -> str:
        return str(self._make())


def now() -> datetime:
    return datetime.now(UTC)

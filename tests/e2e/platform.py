"""A person at the local platform: kubectl, the simulated account, and a look at containers."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from spotjob.local import account, demo, probes
from spotjob.local.laptop import Platform
from spotjob.settings import Settings

Raw = dict[str, Any]
EXAMPLES = Path(__file__).parents[2] / "examples"
DONE = ("TerminatedOK", "TerminatedNOK")
PATIENCE = 3
"""A wait may take so many times longer than two quiet cores need, before what is waited for counts as stuck."""
UNTIL_LET_GO = 'until [ -e "${SPOTJOB_INTERRUPTION_FILE%/*}/go" ]; do sleep 0.2; done'
"""What a container does whose end the test decides, by Person.let_go."""
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
        self.kubectl("apply", "-f", "-", text=json.dumps(listed), seconds=60 + 2 * len(manifests))

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

    def reasons(self) -> list[str]:
        return [job.get("status", {}).get("reason", "") for job in self.jobs().values()]

    def attempts(self, name: str) -> list[Raw]:
        return list(self.status(name).get("attempts", []))

    def condition(self, name: str, kind: str) -> Raw:
        """The condition of this type; empty when the job does not have it."""
        return next((c for c in self.status(name).get("conditions", []) if c["type"] == kind), {})

    def annotate(self, name: str, annotation: str) -> None:
        self.kubectl("annotate", "spotjob", name, annotation)

    def events(self, name: str, reason: str) -> list[Raw]:
        """As `kubectl get events` shows them."""
        fields = f"involvedObject.kind=SpotJob,involvedObject.name={name},reason={reason}"
        found: list[Raw] = json.loads(self.kubectl("get", "events", "--field-selector", fields, "-o", "json").stdout)[
            "items"
        ]
        return found

    def columns(self, name: str) -> dict[str, str]:
        """The row of `kubectl get spotjob NAME -o wide`, by heading; no value may hold two blanks."""
        heading, row = self.kubectl("get", "spotjob", name, "-o", "wide").stdout.splitlines()
        starts = [found.start() for found in re.finditer(r"\S+(?: \S+)*", heading)]
        ends = [*starts[1:], None]
        return {heading[a:b].strip(): row[a:b].strip() for a, b in zip(starts, ends, strict=True)}

    # ---- waiting ----

    def until(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        told: Any = _Late(lambda: f"{what}; jobs now: {self.summary()}")
        probes.wait_until(condition, seconds * PATIENCE, told)

    def summary(self) -> dict[str, str]:
        return {n: j.get("status", {}).get("reason", "") for n, j in self.jobs().items()}

    def finished(self, name: str, seconds: float = 60) -> Raw:
        """The status once the job is terminated, either way."""
        return self._status_when(name, lambda status: status.get("phase") in DONE, seconds, f"{name} to end")

    def reason(self, name: str, reason: str, seconds: float = 60) -> Raw:
        """The status that had this reason: by now there may be another one."""
        return self._status_when(name, lambda status: status.get("reason") == reason, seconds, f"{name} to be {reason}")

    def _status_when(self, name: str, fits: Callable[[Raw], bool], seconds: float, what: str) -> Raw:
        seen: list[Raw] = []

        def look() -> bool:
            seen.append(self.status(name))
            return fits(seen[-1])

        self.until(look, seconds, what)
        return seen[-1]

    # ---- the simulated account ----

    def aws(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        status, answer = probes.send(method, f"{self.layout.aws_url}/_spotjob/{path}", body, timeout_seconds=30)
        assert status < 300, answer
        return json.loads(answer) if answer else None

    def lever(self, name: str, order: Mapping[str, Any]) -> bool:
        """Pull a lever; False when it does not apply (any more)."""
        return probes.send("POST", f"{self.layout.aws_url}/_spotjob/{name}", order, timeout_seconds=30)[0] == 200

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

    def capacity(self, count: int | None, zone: str = "*", **more: str) -> None:
        """`more`: capacityType, code."""
        self.aws("POST", "capacity", {"instanceType": "*", "availabilityZone": zone, "count": count, **more})

    def interrupt(self, name: str, warning_seconds: float) -> datetime:
        """EC2 gives notice to the job's instance; returns about when it takes the instance back."""
        reclaim_at = now() + timedelta(seconds=warning_seconds)
        instance = self.status(name)["instanceID"]
        self.aws("POST", "interrupt", {"instanceId": instance, "warningSeconds": warning_seconds})
        return reclaim_at

    def console(self, instance: str) -> str:
        """What the machine has printed so far, before EC2 shows it to anybody."""
        return (self.machine(instance) / "console").read_text()

    def machine(self, instance: str) -> Path:
        """The folder of a simulated machine."""
        return self.layout.folder / "aws/instances" / instance

    def let_go(self, instance: str) -> None:
        """Let a container that does UNTIL_LET_GO go on; it sees its instance's folder."""
        (self.machine(instance) / "disk/run/spotjob/go").touch()

    # ---- faults ----

    @contextmanager
    def stopped(self, part: str) -> Iterator[None]:
        """SIGSTOP, and SIGCONT at the end: connections to the process hang."""
        child = self.laptop.processes.find(part)
        assert child is not None
        assert child.alive
        os.kill(child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(child.pid, signal.SIGCONT)

    # ---- the end of a test ----

    def leave_no_job(self) -> None:
        self.capacity(None)
        self.aws("DELETE", "faults")
        self.aws("POST", "throttle", {"on": False})
        self.kubectl("delete", "spotjobs", "--all", "--wait=false", seconds=120)
        self.until(lambda: not self.jobs(), 120, "the last object is gone")

    def leave_no_instance(self, seconds: float) -> None:
        """What a job had goes in `seconds`. What came for a job that did not need it any more ends its window first."""
        self.until(lambda: not self._had(), seconds, "no instance of a job is alive")
        window = self.layout.settings.get("SPOTJOB_LAUNCH_WINDOW_SECONDS", Settings().launch_window_seconds)
        self.until(lambda: not self.alive(), float(window) + 60, "no instance is alive")

    def _had(self) -> list[str]:
        """Instances alive that a job was bound to: the table names the newest one, the agent keeps its assignment."""
        named = {item.get("instanceId") for item in self.items()}
        alive = [str(instance["id"]) for instance in self.alive()]
        return [i for i in alive if i in named or (self.machine(i) / "disk/var/lib/spotjob/pair.json").exists()]

    # ---- counting ----

    def writes(self) -> Counter[str]:
        """Requests to write SpotJobs by outcome, `written` or a code of refusal, as the API server counts them."""
        counted: Counter[str] = Counter()
        for code, number in REQUEST.findall(self.kubectl("get", "--raw", "/metrics").stdout):
            counted["written" if code.startswith("2") else code] += int(number)
        return counted


class _Late:
    """Text that is made when it is needed: the message of a wait shows how things stand at its end."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __str__(self) -> str:
        return str(self._make())


def now() -> datetime:
    return datetime.now(UTC)

"""Two operators beside each other on the local platform, and what is seen of them from outside.

The platform's own operator always has the same name in the Lease, so that it need not wait for itself; these two have
names of their own, as two pods have.
"""

from __future__ import annotations

import http.server
import os
import re
import select
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self

from spotjob.controller.lease import NAME
from spotjob.local import parts, probes
from spotjob.local.laptop import Platform
from spotjob.local.layout import OPERATOR
from spotjob.local.processes import Child

NAMESPACE = "spotjob-system"
LEASE_SECONDS = 5
WINDOW_SECONDS = 120
"""W: an instance that nobody binds powers itself off at this age."""
NAMES = ("replica-a", "replica-b")

_LINE = re.compile(r"^\[(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3})\] (?P<text>.*)$")


class Holders:
    """Who held the Lease since when, as a watch of the API server shows it. A context manager."""

    def __init__(self, platform: Platform) -> None:
        cluster = platform.layout.cluster
        self._command = [
            *(str(cluster.kubectl_program), f"--kubeconfig={cluster.kubeconfig}", "get", "lease", NAME),
            *("--namespace", NAMESPACE, "--watch", "-o", 'jsonpath={.spec.holderIdentity}{"\\n"}'),
        ]
        self.seen: list[tuple[float, str]] = []
        """(Unix time, holder) of every change of the holder; the holder is empty when the lease was given back."""
        self._news = threading.Condition()

    def __enter__(self) -> Self:
        self._kubectl = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._kubectl.kill()
        self._reader.join()
        self._kubectl.wait()

    def _read(self) -> None:
        with self._kubectl.stdout or open(os.devnull) as lines:
            for line in lines:
                holder = line.strip()
                if not self.seen or self.seen[-1][1] != holder:
                    with self._news:
                        self.seen.append((time.time(), holder))
                        self._news.notify_all()

    @property
    def now(self) -> str:
        return self.seen[-1][1] if self.seen else ""

    def taken(self, by: Callable[[str], bool], after: float, seconds: float) -> float:
        """Unix time of the first change after `after` to a holder that fits. Fails when it does not come in time."""

        def found() -> float | None:
            return next((moment for moment, holder in list(self.seen) if moment > after and by(holder)), None)

        with self._news:
            assert self._news.wait_for(lambda: found() is not None, timeout=seconds), f"held by {self.now!r}"
        moment = found()
        assert moment is not None
        return moment

    def until(self, holder: str, after: float) -> list[str]:
        """Who held it, other than at `after`, before this one took it."""
        later = [name for moment, name in self.seen if moment > after]
        return later[: later.index(holder)]


@dataclass(frozen=True, slots=True)
class Replicas:
    """Both operators."""

    platform: Platform
    ports: dict[str, int]
    holders: Holders

    def start(self, name: str) -> None:
        """Start this one and wait until it is ready."""
        layout = self.platform.layout
        environment = parts.environment(OPERATOR, layout, os.environ) | {
            "SPOTJOB_IDENTITY": name,
            "SPOTJOB_METRICS_PORT": str(self.ports[name]),
            "SPOTJOB_LEASE_SECONDS": str(LEASE_SECONDS),
            "SPOTJOB_LAUNCH_WINDOW_SECONDS": str(WINDOW_SECONDS),
        }
        self.platform.processes.start(name, parts.command(OPERATOR, layout), environment)
        probes.wait_until(lambda: probes.answers(f"http://127.0.0.1:{self.ports[name]}/readyz"), 60, f"{name} ready")

    def start_missing(self) -> None:
        for name in NAMES:
            if not self.platform.processes.alive(name):
                self.start(name)

    def leader(self) -> str:
        """Who leads, once somebody does."""
        probes.wait_until(lambda: self.holders.now in NAMES, 60, "a leader")
        return self.holders.now

    def child(self, name: str) -> Child:
        child = self.platform.processes.find(name)
        assert child is not None
        return child

    def send(self, name: str, number: signal.Signals) -> float:
        """Send a signal; the Unix time just before."""
        sent = time.time()
        os.kill(self.child(name).pid, number)
        return sent

    def ends(self, name: str, seconds: float) -> float:
        """Seconds until the process has ended. Fails when it has not by then."""
        began = time.monotonic()
        handle = os.pidfd_open(self.child(name).pid)
        try:
            assert select.select([handle], [], [], seconds)[0], f"{name} still runs after {seconds} s"
        finally:
            os.close(handle)
        return time.monotonic() - began

    def log(self, name: str, text: str, after: float) -> list[float]:
        """Unix times of this one's log lines that hold `text`, by its own clock, from `after` on."""
        return [moment for moment, _ in self._lines(name, text, after)]

    def jobs(self, name: str, text: str, after: float) -> list[str]:
        """Names of the jobs of those lines."""
        return [line.partition(":")[0].rpartition("/")[2] for _, line in self._lines(name, text, after)]

    def _lines(self, name: str, text: str, after: float) -> Iterator[tuple[float, str]]:
        for line in self.platform.processes.log_file(name).read_text(errors="replace").splitlines():
            match = _LINE.match(line)
            if match and text in match["text"]:
                moment = datetime.strptime(match["time"], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
                if moment >= after:
                    yield moment, match["text"]


@contextmanager
def replicas(platform: Platform) -> Iterator[Replicas]:
    """Two operators in place of the platform's own, which works again afterwards."""
    platform.processes.stop([OPERATOR])
    with Holders(platform) as holders:
        both = Replicas(platform, dict(zip(NAMES, probes.free_ports(2), strict=True)), holders)
        try:
            both.start_missing()
            yield both
        finally:
            platform.processes.stop(NAMES, grace_seconds=10)
            platform.start(OPERATOR)


class _Told(http.server.BaseHTTPRequestHandler):
    runs: ClassVar[Counter[str]] = Counter()

    def do_GET(self) -> None:
        self.runs[self.path.strip("/")] += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128


class Runs:
    """Counts the containers of each job, as they tell of themselves before they do anything else. A context manager."""

    def __enter__(self) -> Self:
        self.counted: Counter[str] = Counter()
        handler = type("Told", (_Told,), {"runs": self.counted})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def script(self, work: str) -> str:
        """A shell script that tells of itself and then does `work`."""
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        return f'wget -q -O /dev/null "{url}/$SPOTJOB_NAME" || exit 9; {work}'

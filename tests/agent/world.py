"""What an agent meets: a metadata service and an API, in one small HTTP server with levers.

Bodies are read with the models of core/contract.py, which refuse unknown fields: an agent that spells a name in
another way fails here.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from spotjob.core.contract import Assignment, ClaimedJob, ClaimRequest, Heartbeat, HeartbeatAnswer, Report

LAUNCH_TOKEN, AGENT_TOKEN = "launch-token-0123456789", "agent-token-0123456789"
Answer = tuple[int, Any]


class World(ThreadingHTTPServer):
    """One API and the metadata services of all instances, on loopback."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.changed = threading.Condition()
        self.jobs: dict[str, ClaimedJob] = {}
        self.reports: dict[str, list[Report]] = defaultdict(list)
        self.claims: dict[str, list[ClaimRequest]] = defaultdict(list)
        self.heartbeats: dict[str, list[Heartbeat]] = defaultdict(list)
        self.callbacks: list[str] = []
        """Tokens of the containers that called back."""
        self.orders: dict[str, HeartbeatAnswer] = {}
        self.waits: dict[str, list[float]] = defaultdict(list)
        self.hung: Counter[str] = Counter()  # calls that were made to hang, by instance
        """When each heartbeat came, on the monotonic clock."""
        self.hang: set[str] = set()
        """Calls that get no answer while their name is here."""
        self.reclaims: dict[str, datetime] = {}
        self.advice: dict[str, str] = {}
        """The text of the rebalance recommendation."""
        self.refusals: dict[str, int] = {}
        """Call name (assignment, claim, report, heartbeat) -> HTTP status that it gets instead of an answer."""
        self.pages: dict[str, int] = {}
        """As refusals, but from a proxy before the API: a page for people."""

    def start(self) -> None:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def order(self, instance: str, order: HeartbeatAnswer) -> None:
        """From now on; a heartbeat that is held open is answered at once, as the API does it."""
        with self.changed:
            self.orders[instance] = order
            self.changed.notify_all()

    def release(self) -> None:
        """Answer the calls that hang, now: without a word they look again only when another call comes."""
        with self.changed:
            self.hang.clear()
            self.changed.notify_all()

    def imds(self, instance: str) -> str:
        return f"{self.url}/imds/{instance}"

    def assign(self, instance: str, **job: Any) -> None:
        """Give the instance a job; `uid` is the instance's id."""
        with self.changed:
            self.jobs[instance] = a_job(uid=instance, **job)

    def until(self, condition: Callable[[], Any], seconds: float = 60) -> Any:
        """What `condition` gives once it is true. It is asked again at each event, and at times without one."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not (found := condition()):
                assert time.monotonic() < deadline, f"not within {seconds} s; reports: {dict(self.reports)}"
                self.changed.wait(0.1)
        return found

    def final(self, instance: str, seconds: float = 60) -> Report:
        """The report of the instance's end."""
        report: Report = self.until(lambda: self._final(instance), seconds)
        return report

    def _final(self, instance: str) -> Report | None:
        return next((report for report in self.reports[instance] if report.kind == "finished"), None)

    # ---- the wire

    def serve(self, method: str, path: str, token: str, session: str, body: Any) -> Answer:
        if found := re.fullmatch(r"/imds/([^/]+)/latest/(.+)", path):
            return self._metadata(method, found[1], found[2], session)
        if found := re.fullmatch(r"/v1/instances/([^/]+)/(assignment|claim)", path):
            return self._refused(found[2]) or self._instance(found[1], found[2], token, body)
        if path == "/v1/callback":
            self.callbacks.append(token)
            return 200, {}
        found = re.fullmatch(r"/v1/attempts/([^/]+)/1/(report|heartbeat)(?:\?wait=(\d+))?", path)
        assert found, path
        if found[2] == "heartbeat":
            self.waits[found[1]].append(time.monotonic())
        self.hung[found[1]] += found[2] in self.hang
        self.changed.wait_for(lambda: found[2] not in self.hang, 60)
        return self._refused(found[2]) or self._attempt(found[1], found[2], token, body, int(found[3] or 0))

    def _refused(self, call: str) -> Answer | None:
        if call in self.pages:
            return self.pages[call], "<html>a proxy's page</html>"
        return (self.refusals[call], {"title": "as the test wants it"}) if call in self.refusals else None

    def _metadata(self, method: str, instance: str, item: str, session: str) -> Answer:
        if item == "api/token":
            return (200, f"session-{instance}") if method == "PUT" else (405, "")
        if session != f"session-{instance}":
            return 401, ""
        if item == "meta-data/instance-id":
            return 200, instance
        if item == "meta-data/events/recommendations/rebalance" and instance in self.advice:
            return 200, self.advice[instance]
        if item == "meta-data/spot/instance-action" and instance in self.reclaims:
            return 200, json.dumps({"action": "terminate", "time": f"{self.reclaims[instance]:%Y-%m-%dT%H:%M:%SZ}"})
        return 404, ""

    def _instance(self, instance: str, call: str, token: str, body: Any) -> Answer:
        if token != LAUNCH_TOKEN:
            return 401, {"title": "wrong token"}
        job = self.jobs.get(instance)
        if call == "assignment":
            return (204, "") if job is None else (200, Assignment(**job.model_dump()).wire())
        claim = ClaimRequest.model_validate(body)
        known = self.claims[instance]
        if job is None or (known and known[0].nonce != claim.nonce):
            return 409, {"title": "refused"}
        known.append(claim)
        return 200, job.wire()

    def _attempt(self, uid: str, call: str, token: str, body: Any, wait: int) -> Answer:
        if token != AGENT_TOKEN:
            return 401, {"title": "wrong token"}
        if call == "report":
            self.reports[uid].append(Report.model_validate(body))
            return 200, {}
        self.heartbeats[uid].append(Heartbeat.model_validate(body))
        self.changed.wait_for(lambda: uid in self.orders or "heartbeat" in self.refusals, wait)
        return 200, self.orders.get(uid, HeartbeatAnswer()).wire()


def a_job(image: str, uid: str, script: str | None = None, hours: float = 1, **more: Any) -> ClaimedJob:
    """A claimed job; `script` is for the image's shell."""
    return ClaimedJob(
        namespace="default",
        name="job",
        uid=uid,
        attempt=1,
        image=image,
        power_off_at=datetime.now(UTC) + timedelta(hours=hours),
        agent_token=AGENT_TOKEN,
        **({"command": ["/bin/sh", "-c", script]} if script else {}),
        **more,
    )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: World

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        session = self.headers.get("X-aws-ec2-metadata-token", "")
        with self.server.changed:
            status, given = self.server.serve(self.command, self.path, token, session, json.loads(text or b"null"))
            self.server.changed.notify_all()
        content = given.encode() if isinstance(given, str) else json.dumps(given).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if status != 204:
            self.wfile.write(content)

    do_GET = do_PUT = do_POST

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

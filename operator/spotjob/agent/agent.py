"""The SpotJob agent: runs one container on one EC2 instance, says how it went, and powers the instance off.

It travels inside the user data, so it is one file of standard library for Python 3.9 (Amazon Linux 2023). It speaks the
Engine API over docker's socket: no shell and no process argument lies between the job's environment and the container.

It may be killed at any line. What must not happen twice is on disk before it happens (`remember`), and the container's
name is a lock that the engine keeps: the next agent finds its claim, its container and its result, and carries on.
Loops without a bound end with the kill timer, a systemd unit that is on disk before this program is.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import os
import queue
import random
import re
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterable
from urllib.parse import quote, urlsplit

Json = dict[str, Any]


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


ROOT = Path(setting("SPOTJOB_ROOT", "/"))  # a simulated instance has its own
STATE, SHARED = ROOT / "var/lib/spotjob", ROOT / "run/spotjob"
TIMER = ROOT / "etc/systemd/system/spotjob-deadline.timer"
BOOT_ID = ROOT / "proc/sys/kernel/random/boot_id"
BEGUN, RESULT, INTERRUPTION = STATE / "begun.json", STATE / "result.json", SHARED / "interruption.json"
# In memory: they count in one boot only, and the disk may be full.
SIGNALLED, DRILL = ROOT / "run/spotjob-signalled.json", ROOT / "run/spotjob-drill.json"
IMDS = setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/") + "/latest/"
API = setting("SPOTJOB_API_URL").rstrip("/")
LAUNCH_TOKEN = setting("SPOTJOB_LAUNCH_TOKEN")
DOCKER = setting("SPOTJOB_DOCKER_SOCKET", "/var/run/docker.sock")
WINDOW_SECONDS = float(setting("SPOTJOB_WINDOW_SECONDS", "300"))  # an instance that nobody binds goes
POLL_SECONDS = float(setting("SPOTJOB_POLL_SECONDS", "5"))  # AWS asks for every 5 s
PULL_SECONDS = float(setting("SPOTJOB_PULL_SECONDS", "30"))  # half of it passes between three tries to pull
REPORT_SECONDS = float(setting("SPOTJOB_REPORT_SECONDS", "600"))
STARTED_SECONDS, HOLD_SECONDS, LOG_TAIL_BYTES, MESSAGE_CHARS, NEVER = 2.0, 20, 2048, 1024, float("inf")
# What a broken connection or a cut answer raises: IncompleteRead and BadStatusLine are no OSErrors.
BROKEN = (OSError, ValueError, http.client.HTTPException)
FINAL = (400, 401, 403, 409, 410, 413, 422)  # asking again would not change these answers
# What dockerd and containerd say of an image that no later try will find.
HOPELESS = re.compile(
    r"(?i)manifest unknown|name.unknown|repository name not known|does not exist|\bnot found\b|no matching manifest"
    r"|invalid reference format|denied|403 forbidden"
)
_secrets = [LAUNCH_TOKEN]  # never in a log line, a message or a log tail


class Over(Exception):
    """Nothing more to do here: a final no of the API, out of time, or not wanted any more. The instance goes."""


class EngineError(Exception):
    """The engine answered, and the answer is no: (HTTP status, message)."""


def blank(text: str) -> str:
    """`text` without the secrets; longest first, since one may contain another."""
    for secret in sorted(filter(None, _secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def log(message: str) -> None:
    print(f"spotjob-agent: {blank(message)}\n", end="", flush=True)  # in one piece: two threads log


def tolerate(what: str, action: Callable[[], Any]) -> Any:
    """What `action` gives, or None and a log line: for all that the result does not depend on."""
    try:
        return action()
    except (*BROKEN, EngineError) as error:
        log(f"{what}: {error!r}")
        return None


def epoch(text: str) -> float:
    """RFC 3339 in UTC to epoch seconds; 3.9's fromisoformat knows neither Z nor nanoseconds."""
    whole, _, fraction = re.sub(r"Z$|\+00:00$", "", text).partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def stamp(seconds: float) -> str:
    """Epoch seconds to RFC 3339 as EC2 writes it."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")


def time_in(document: str, field: str) -> float:
    """The epoch second that EC2 names in a JSON object; now, if it cannot be read."""
    try:
        return epoch(json.loads(document)[field])
    except (ValueError, LookupError, TypeError):
        return time.time()


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all, and on the disk itself when this returns."""
    new = path.with_name(path.name + ".new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    os.replace(new, path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def remember(path: Path, make: Callable[[], Json]) -> Any:
    """What `path` holds; made and put there first if no earlier agent has done so."""
    if not path.exists():
        write(path, json.dumps(make()))
    return json.loads(path.read_text(encoding="utf-8"))


def ask(what: str, action: Callable[[], Any], until: float) -> Any:
    """Call `action` until it gives something, at least once and until the epoch second `until`. Raises Over."""
    pause = 1.0  # from one call's beginning to the next: one that the API has held open is repeated at once
    while True:
        begun = time.monotonic()
        try:
            answer = action()
            if answer is not None:
                return answer
            pause = 1.0
        except BROKEN as error:
            log(f"{what}: {error!r}")
            pause = min(pause * 1.7, 10.0)
        if time.time() + pause > until:
            raise Over(f"no answer in time: {what}")
        jitter = random.uniform(0.75, 1.25)  # noqa: S311 -- so that a hundred do not ask at once
        time.sleep(max(0.0, begun + pause * jitter - time.monotonic()))


def exchange(base: str, method: str, path: str, headers: Json, body: Any, timeout: Any) -> tuple[int, bytes]:
    """One request to a URL or a unix socket, never through a proxy, never redirected. Raises BROKEN."""
    url = urlsplit(base)
    # Which authorities HTTPS trusts, SSL_CERT_FILE says.
    kind: Any = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    connection = kind(url.netloc or "docker", timeout=timeout)
    try:
        if not url.netloc:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(timeout)
            connection.sock.connect(base)
        target = url.path + path if url.netloc else path
        connection.request(method, target, None if body is None else json.dumps(body).encode(), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def metadata(path: str) -> str | None:
    """The text at `path` of the instance metadata (IMDSv2), or None when there is none (404). Raises BROKEN."""
    _, token = exchange(IMDS, "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, None, 2)
    session = {"X-aws-ec2-metadata-token": token.decode()}
    status, text = exchange(IMDS, "GET", f"meta-data/{path}", session, None, 2)
    if status not in (200, 404):
        raise ConnectionError(f"the metadata service answered {status} to {path}")
    return text.decode() if status == 200 else None


def api(method: str, path: str, token: str, body: Any = None, timeout: float = 10) -> Any:
    """The JSON of a 2xx answer, None without one. Raises Over for a final no, BROKEN for all that may pass."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    status, text = exchange(API, method, path, headers, body, timeout)
    if status in FINAL and text.startswith(b"{"):  # a proxy's page is no word of the API
        raise Over(f"{method} {path}: {status} {text[:300].decode(errors='replace')}")
    if not 200 <= status < 300:
        raise ConnectionError(f"{method} {path}: the API answered {status}")
    return json.loads(text.decode(errors="replace")) if text else None  # a decoder's error would quote all of it


def post(job: Json, what: str, body: Json, timeout: float = 10) -> Any:
    """A `report` or `heartbeat` of this attempt. Raises as `api`."""
    return api("POST", f"/v1/attempts/{job['uid']}/{job['attempt']}/{what}", job["agentToken"], body, timeout)


def engine(method: str, path: str, body: Any = None, timeout: float | None = 60, auth: str = "") -> bytes:
    """One Engine API call; what a GET does not find is b"". Raises EngineError; BROKEN: nothing is known then."""
    headers = {"Content-Type": "application/json", "X-Registry-Auth": auth}
    status, text = exchange(DOCKER, method, path, headers, body, timeout)
    if method == "GET" and status in (400, 404):  # 400: no such thing can be, such as an image reference with blanks
        return b""
    if status >= 400:
        raise EngineError(status, str(json.loads(text).get("message", "")))
    return text


def with_tag(image: str) -> str:
    """The reference that `docker pull` means; without a tag the engine would pull all of them."""
    return image if "@" in image or ":" in image.rsplit("/", 1)[-1] else image + ":latest"


def registry_auth(image: str, logins: dict[str, dict[str, str]]) -> str:
    """The X-Registry-Auth header for this image's registry."""
    host, slash, _ = image.partition("/")
    named = slash and ("." in host or ":" in host or host == "localhost")
    return base64.urlsafe_b64encode(json.dumps(logins.get(host if named else "docker.io", {})).encode()).decode()


def patiently(action: Callable[[], Any]) -> Any:
    """Repeat while the daemon does not answer: it is starting, or being restarted."""
    return ask("docker", lambda: (action(),), NEVER)[0]


def container_spec(job: Json, instance: str, boot: str) -> Json:
    """The body of POST /containers/create. Zero and null mean: no limit, the engine's or the image's own."""
    env = {**job.get("env", {}), "SPOTJOB_INTERRUPTION_FILE": "/run/spotjob/interruption.json"}
    labels = {"instance": instance, "uid": job["uid"], "attempt": str(job["attempt"]), "boot": boot}
    extra = json.loads(setting("SPOTJOB_CONTAINER_LABELS", "{}"))
    limits = {name: job.get("limits", {}).get(name) or 0 for name in ("nanoCpus", "memoryBytes", "gpus")}
    return {
        "Image": with_tag(job["image"]),
        "Entrypoint": job.get("command") or None,
        "Cmd": job.get("args") or None,
        "Env": [f"{name}={value}" for name, value in env.items()],
        "Labels": {**{f"spotjob.{name}": value for name, value in labels.items()}, **extra},
        "HostConfig": {
            "Init": True,  # a program that is PID 1 itself and has no handler would ignore SIGTERM
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
            "Mounts": [{"Type": "bind", "Source": str(SHARED), "Target": "/run/spotjob", "ReadOnly": True}],
            "NetworkMode": setting("SPOTJOB_CONTAINER_NETWORK", "default"),
            # The engine refuses more CPUs than the host has.
            "NanoCpus": min(limits["nanoCpus"], (os.cpu_count() or 1) * 1_000_000_000),
            "Memory": limits["memoryBytes"],
            "MemorySwap": limits["memoryBytes"],
            "DeviceRequests": [{"Count": limits["gpus"], "Capabilities": [["gpu"]]}] if limits["gpus"] else [],
        },
    }


def ending(container: Json | None, boot: str) -> Json:
    """The part of the final report that an inspect document proves. Only its State counts."""
    if container is None:
        return {"finishedAs": "Exited", "message": "the container was removed and nobody saw its exit code"}
    state = container["State"]
    if state["Status"] == "created":  # it never ran: 126 and 127 are the engine's own words here
        return {"finishedAs": "StartFailed", "message": state.get("Error") or "the container did not start"}
    # Who ended it, its program or the host's shutdown? And 255 is all that an engine knows after a crash.
    if container["Config"]["Labels"].get("spotjob.boot") != boot:
        return {"finishedAs": "HostRebooted", "startedAt": state["StartedAt"]}
    out_of_memory = state["ExitCode"] == 137 and bool(state.get("OOMKilled"))  # it alone may be about a child process
    facts = {"exitCode": state["ExitCode"], "outOfMemory": out_of_memory, "message": state.get("Error") or ""}
    return {"finishedAs": "Exited", "startedAt": state["StartedAt"], "at": state["FinishedAt"], **facts}


def log_tail(stream: bytes) -> str:
    """The end of an engine's log stream. A frame's header: one byte stream number, three zero, four length."""
    payload, at = b"", 0
    while at + 8 <= len(stream):
        end = at + 8 + int.from_bytes(stream[at + 4 : at + 8], "big")
        payload, at = payload + stream[at + 8 : end], end
    # Blanked before it is cut, or half a secret could be left at the edge.
    return blank(payload.decode("utf-8", "replace")).encode()[-LOG_TAIL_BYTES:].decode("utf-8", "ignore")


def deliver(job: Json, reports: Iterable[Json], until: float) -> None:
    """In their order, each until the API has it or refuses it for good."""
    for report in reports:
        try:
            ask("report", lambda: (post(job, "report", report),), until)  # noqa: B023 -- called before the next one
        except Over as error:
            log(f"{error}")


def notice() -> Json:
    """The report of the notice in INTERRUPTION."""
    return {"kind": "notice", "at": stamp(time_in(INTERRUPTION.read_text(), "time"))}


class Life:
    """Runs the claimed attempt's container, or finds the one that an earlier agent left.

    What may take long has threads. The main one looks at the metadata, obeys, and alone sends signals.
    """

    def __init__(self, instance: str, job: Json) -> None:
        self._instance, self._job = instance, job
        self._orders: Json = {"signal": "SIGTERM", "secondsBefore": 15, **job.get("interruption", {})}
        self._path = f"/containers/spotjob-{instance}"
        self._boot = BOOT_ID.read_text().strip()
        self._heard, self._unsent = queue.SimpleQueue[Any](), queue.SimpleQueue[Any]()
        self._advised, self._wanted = False, True
        self._look_at, self._reclaim_at = 0.0, NEVER  # on the monotonic clock, which nobody can set back; epoch seconds
        self._signals: dict[str, float] = {}  # when each is due, on the monotonic clock; NEVER once it was sent

    def live(self) -> Json:
        """Until the container has ended; returns the final report. Raises Over."""
        SHARED.mkdir(parents=True, exist_ok=True)
        if DRILL.exists():  # of an earlier agent; once its notice is reported the API does not repeat the order
            self._heard.put({"order": "drill"})
        facts: list[Json] = []
        speak = (deliver, self._job, iter(self._unsent.get, None), NEVER)
        for work, *args in (speak, (ask, "heartbeat", self._hear, NEVER), (lambda: facts.append(self._run()),)):
            thread = threading.Thread(target=work, args=args, daemon=True)
            thread.start()
        while thread.is_alive():  # the last one
            thread.join(self._duties())
        return self._report(facts[0])

    def _report(self, facts: Json) -> Json:
        report = {"kind": "finished", "at": stamp(time.time()), **facts}
        signalled_at = json.loads(SIGNALLED.read_text())["at"] if SIGNALLED.exists() else NEVER
        message = blank(report.get("message", ""))[:MESSAGE_CHARS]
        return {**report, "signalled": epoch(report["at"]) >= signalled_at, "message": message}

    def _run(self) -> Json:
        """Returns the part of the final report that is known of the container."""
        if self._inspect(self._path) is None and not BEGUN.exists() and (failure := self._make()):
            return failure
        container = self._inspect(self._path)
        if container and container["State"]["Status"] == "created" and not container["State"]["ExitCode"]:
            remember(BEGUN, dict)  # from here on a container that is missing has run: it is never made again
            if self._wanted:
                tolerate("start", lambda: patiently(lambda: engine("POST", f"{self._path}/start")))  # inspect decides
                move_kill_timer(self._job["powerOffAt"])
        container = self._watch()
        logs = tolerate("logs", lambda: engine("GET", f"{self._path}/logs?stdout=1&stderr=1&tail=200"))
        return {**ending(container, self._boot), "logTail": log_tail(logs or b"")}

    def _make(self) -> Json | None:
        """Image and container; None, or the report's words for why not."""
        image = quote(with_tag(self._job["image"]))
        if self._inspect(f"/images/{image}") is None and (failure := self._pull()):
            return failure
        spec = container_spec(self._job, self._instance, self._boot)
        try:
            patiently(lambda: engine("POST", f"/containers/create?name=spotjob-{self._instance}", spec))
        except EngineError as error:
            if error.args[0] != 409:  # 409: the name is taken, by the container of an earlier agent
                return {"finishedAs": "StartFailed", "message": error.args[1]}
        return None

    def _pull(self) -> Json | None:
        """The engine answers 200 at first and tells of errors at the end."""
        image, auth = self._job["image"], registry_auth(self._job["image"], self._job.get("registryAuth", {}))
        for pause in (0.0, PULL_SECONDS / 6, PULL_SECONDS / 3):
            time.sleep(pause)
            try:
                stream = engine("POST", f"/images/create?fromImage={quote(with_tag(image), safe='')}", None, 1800, auth)
                said = [event["error"] for event in map(json.loads, stream.splitlines()) if "error" in event]
            except (*BROKEN, EngineError) as error:
                said = [error.args[-1] if isinstance(error, EngineError) else repr(error)]
            if not said:
                return None
            log(f"pull: {said[0]}")
            if HOPELESS.search(said[0]):
                return {"finishedAs": "ImagePullFailed", "message": said[0]}
        return {"finishedAs": "RegistryUnavailable", "message": said[0]}

    def _watch(self) -> Any:
        """The inspect document of the container that has ended, None if it was removed."""
        while True:
            container = self._inspect(self._path)
            if container is None or container["State"]["Status"] in ("created", "exited", "dead"):
                return container
            started = {"kind": "started", "at": container["State"]["StartedAt"]}
            telling = threading.Timer(STARTED_SECONDS, self._unsent.put, [started])
            telling.start()
            if tolerate("wait", lambda: engine("POST", f"{self._path}/wait", timeout=None)) is None:
                time.sleep(1)
            telling.cancel()

    def _inspect(self, path: str) -> Any:
        """The engine's document about a container or an image, None if there is no such thing."""
        return json.loads(patiently(lambda: engine("GET", f"{path}/json")) or "null")

    def _hear(self) -> Any:
        """One heartbeat, whose answer the API holds back until there is an order, or a while. After `stop` no more."""
        body = {"container": "running" if BEGUN.exists() else "pulling"}
        try:
            order = post(self._job, f"heartbeat?wait={HOLD_SECONDS}", body, HOLD_SECONDS + 10)
            self._heard.put({"order": order["order"], **order})
        except (Over, LookupError, TypeError) as error:
            raise ConnectionError(f"{error!r}") from error
        return order if order["order"] == "stop" else None

    def _duties(self) -> float:
        """Do what is due; returns the seconds until the next duty, or less: so soon an order is obeyed. Raises Over."""
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + POLL_SECONDS
            tolerate("metadata", self._look)
        while not self._heard.empty():
            tolerate("order", lambda: self._obey(self._heard.get()))
        for name in [name for name, due in self._signals.items() if time.monotonic() >= due]:
            self._signals[name] = NEVER if self._signal(name) else time.monotonic() + 1
        return min(self._look_at, *self._signals.values(), time.monotonic() + 0.5) - time.monotonic()

    def _look(self) -> None:
        """Does EC2 want the instance back? A metadata service that cannot be reached is not a notice."""
        if (document := metadata("spot/instance-action")) is not None:
            self._expect(document)
        if not self._advised and (advice := metadata("events/recommendations/rebalance")) is not None:
            write(SHARED / "rebalance.json", advice, 0o644)
            self._unsent.put({"kind": "rebalance", "at": stamp(time_in(advice, "noticeTime"))})
            self._advised = True

    def _expect(self, document: str) -> None:
        """EC2, or a drill, takes the instance back. Of two notices the earlier time counts."""
        at = time_in(document, "time")
        if at < self._reclaim_at:
            self._plan(self._orders["signal"], at - time.time() - self._orders["secondsBefore"])
            write(INTERRUPTION, document, 0o644)
            self._unsent.put(notice())
            self._reclaim_at = at

    def _obey(self, order: Json) -> None:
        """May be called again: the API repeats an order, also to an agent that was started again."""
        if order["order"] == "stop":
            self._plan(self._orders["signal"], 0)
            self._plan("SIGKILL", order["graceSeconds"])
        if order["order"] == "drill":
            at = remember(DRILL, lambda: {"action": "terminate", "time": order["reclaimAt"]})["time"]
            self._plan("SIGKILL", epoch(at) - time.time())  # as EC2 would
            self._expect(DRILL.read_text())

    def _plan(self, signal: str, seconds: float) -> None:
        """Have it sent in so many seconds, unless it is due earlier or was sent before."""
        if self._signals.get(signal) != NEVER:
            self._signals[signal] = min(self._signals.get(signal, NEVER), time.monotonic() + seconds)

    def _signal(self, name: str) -> bool:
        """Noted on disk first, since an exit after it proves less than one before it. False: try again."""
        self._wanted = False  # from here on no container is started
        if not BEGUN.exists():
            raise Over("told to stop before the container began")
        remember(SIGNALLED, lambda: {"at": time.time()})
        log(f"sending {name}")
        return tolerate(name, lambda: engine("POST", f"{self._path}/kill?signal={name}", timeout=5)) is not None


def move_kill_timer(power_off_at: str) -> None:
    """From the window of an unclaimed instance to when its container must have begun, and from there to its limit."""
    date = datetime.fromtimestamp(epoch(power_off_at), timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if date not in TIMER.read_text():  # else it was moved before, and the container may have filled the disk
        write(TIMER, re.sub(r"(?m)^OnCalendar=.*$", f"OnCalendar={date}", TIMER.read_text()), 0o644)
    for command in (["daemon-reload"], ["restart", TIMER.name]):
        subprocess.run(["systemctl", *command], check=True)


def announce(instance: str, job: Json, report: Json) -> Json:
    """The result on the serial console, in case that the API cannot be reached. Never the log."""
    ended = [report["finishedAs"], str(report.get("exitCode", "-")), "signalled" if report["signalled"] else "free"]
    words = " ".join([instance, job["uid"], str(job["attempt"]), *ended])
    proof = hmac.new(job["agentToken"].encode(), words.encode(), "sha256").hexdigest()
    console = Path(setting("SPOTJOB_CONSOLE", "/dev/console"))
    tolerate("console", lambda: console.open("a").write(f"SPOTJOB-RESULT {words} {proof}\n"))
    return report


def serve() -> None:
    """All of it, each step on disk before the next one. Raises Over."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = remember(STATE / "first.json", lambda: {"nonce": os.urandom(16).hex(), "at": time.time()})
    until = first["at"] + WINDOW_SECONDS
    instance = ask("metadata", lambda: metadata("instance-id"), until)
    path = f"/v1/instances/{instance}/assignment"  # the API may hold the answer back for a while
    pair = remember(STATE / "pair.json", lambda: ask(path, lambda: api("GET", path, LAUNCH_TOKEN, timeout=40), until))
    claim = {"uid": pair["uid"], "attempt": pair["attempt"], "nonce": first["nonce"]}
    path = f"/v1/instances/{instance}/claim"  # the job comes with its secrets: its file is for root only
    job = remember(STATE / "claim.json", lambda: ask(path, lambda: api("POST", path, LAUNCH_TOKEN, claim), until))
    _secrets.extend([job["agentToken"], job.get("env", {}).get("SPOTJOB_CALLBACK_TOKEN", ""), *job.get("mask", [])])
    _secrets.extend(login["password"] for login in job.get("registryAuth", {}).values())
    move_kill_timer(job["powerOffAt" if BEGUN.exists() or "startBy" not in job else "startBy"])
    report = json.loads(RESULT.read_text()) if RESULT.exists() else announce(instance, job, Life(instance, job).live())
    tolerate("result", lambda: write(RESULT, json.dumps(report)))  # the container may have filled the disk
    # Without the notice the API would not know why the container was signalled.
    deliver(job, [notice(), report] if INTERRUPTION.exists() else [report], time.time() + REPORT_SECONDS)


def main() -> None:
    try:
        serve()
    except Over as error:
        log(f"nothing more to do here: {error}")
    while True:  # systemd ends this process when it powers off; a power-off that failed is asked for again
        subprocess.run(["systemctl", "poweroff"], check=False)
        time.sleep(30)


if __name__ == "__main__":
    main()

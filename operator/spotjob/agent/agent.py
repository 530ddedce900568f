"""The SpotJob agent: runs one container on one EC2 instance, says how it went, and powers the instance off.

It travels inside the user data, so it is one file of standard library for Python 3.9 (Amazon Linux 2023). It speaks the
Engine API over docker's socket: no shell and no process argument lies between the job's environment and the container.

It may be killed at any line. What must not happen twice is on disk before it happens (`remember`), and the container's
name is a lock that the engine keeps: the next agent finds its claim, its container and its result, and carries on.
Loops without a bound of their own end with the kill timer, a systemd unit that is on disk before this program is.
"""

from __future__ import annotations

import base64
import hmac
import http.client
import json
import os
import random
import re
import socket
import subprocess
import threading
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable
from urllib.parse import quote, urlsplit

Json = dict[str, Any]


def setting(name: str, default: str = "") -> str:
    return os.environ.get(name) or default


ROOT = Path(setting("SPOTJOB_ROOT", "/"))  # a simulated instance has its own
STATE, SHARED = ROOT / "var/lib/spotjob", ROOT / "run/spotjob"
TIMER = ROOT / "etc/systemd/system/spotjob-deadline.timer"
BOOT_ID = ROOT / "proc/sys/kernel/random/boot_id"
BEGUN, RESULT = STATE / "begun.json", STATE / "result.json"
SIGNALLED = ROOT / "run/spotjob-signalled.json"  # in memory: it counts in one boot only, and the disk may be full
IMDS = setting("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/") + "/latest/"
API = setting("SPOTJOB_API_URL").rstrip("/")
LAUNCH_TOKEN = setting("SPOTJOB_LAUNCH_TOKEN")
DOCKER = setting("SPOTJOB_DOCKER_SOCKET", "/var/run/docker.sock")
WINDOW_SECONDS = float(setting("SPOTJOB_WINDOW_SECONDS", "300"))  # an instance that nobody binds goes
POLL_SECONDS = float(setting("SPOTJOB_POLL_SECONDS", "5"))  # AWS asks for every 5 s
HEARTBEAT_SECONDS = float(setting("SPOTJOB_HEARTBEAT_SECONDS", "30"))
PULL_SECONDS = float(setting("SPOTJOB_PULL_SECONDS", "30"))  # no pull is begun again later than this
REPORT_SECONDS = float(setting("SPOTJOB_REPORT_SECONDS", "600"))
STARTED_SECONDS, LOG_TAIL_BYTES, MESSAGE_CHARS, NEVER = 2.0, 2048, 1024, float("inf")
INSIDE = "/run/spotjob"  # where the container sees SHARED
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
    print(f"spotjob-agent: {blank(message)}", flush=True)


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
    pause = 1.0
    while True:
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
        time.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311 -- so that a hundred do not ask at once


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


_session = {"X-aws-ec2-metadata-token": ""}  # IMDSv2's; renewed when it is refused


def metadata(path: str) -> str | None:
    """The text at `path` of the instance metadata, or None when there is none (404). Raises BROKEN."""
    for _ in range(2):
        status, text = exchange(IMDS, "GET", f"meta-data/{path}", _session, None, 2)
        if status != 401:
            break
        _, token = exchange(IMDS, "PUT", "api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "21600"}, None, 2)
        _session["X-aws-ec2-metadata-token"] = token.decode()
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
    """One Engine API call; what a GET does not find is b"". Without a version in its path every daemon takes it.

    Raises EngineError, or BROKEN when the daemon does not answer: then nothing is known about the container.
    """
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


def pull(image: str, auth: str) -> str:
    """Pull once; "" or what went wrong. The engine answers 200 at first and tells of errors at the end."""
    try:
        stream = engine("POST", f"/images/create?fromImage={quote(with_tag(image), safe='')}", None, 1800, auth)
        events = [json.loads(line) for line in stream.splitlines() if line.strip()]
    except (*BROKEN, EngineError) as error:
        return str(error.args[-1]) if isinstance(error, EngineError) else repr(error)
    return next((str(event["error"]) for event in events if "error" in event), "")


def container_spec(job: Json, instance: str, boot: str) -> Json:
    """The body of POST /containers/create. Zero and null mean: no limit, the engine's or the image's own."""
    env = {**job.get("env", {}), "SPOTJOB_INTERRUPTION_FILE": f"{INSIDE}/interruption.json"}
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
            "Mounts": [{"Type": "bind", "Source": str(SHARED), "Target": INSIDE, "ReadOnly": True}],
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
    code, message = state["ExitCode"], state.get("Error") or ""
    out_of_memory = code == 137 and bool(state.get("OOMKilled"))  # the flag alone may be about a child process
    facts = {"exitCode": code, "outOfMemory": out_of_memory, "message": message}
    return {"finishedAs": "Exited", "startedAt": state["StartedAt"], "at": state["FinishedAt"], **facts}


def log_tail(stream: bytes) -> str:
    """The end of an engine's log stream. A frame's header: one byte stream number, three zero, four length."""
    payload, at = b"", 0
    while at + 8 <= len(stream):
        end = at + 8 + int.from_bytes(stream[at + 4 : at + 8], "big")
        payload, at = payload + stream[at + 8 : end], end
    # Blanked before it is cut, or half a secret could be left at the edge.
    return blank(payload.decode("utf-8", "replace")).encode()[-LOG_TAIL_BYTES:].decode("utf-8", "ignore")


class Life:
    """Runs the claimed attempt's container, or finds the one that an earlier agent left."""

    def __init__(self, instance: str, job: Json) -> None:
        self._instance, self._job = instance, job
        self._orders: Json = {"signal": "SIGTERM", "secondsBefore": 15, **job.get("interruption", {})}
        self._path = f"/containers/spotjob-{instance}"
        self._boot = BOOT_ID.read_text().strip()
        self._unsent: list[Json] = []
        self._noticed = self._stopping = False
        self._look_at, self._send_at, self._beat_at = 0.0, 0.0, time.monotonic() + HEARTBEAT_SECONDS
        self._signal_at = self._kill_at = NEVER  # all on the monotonic clock, which nobody can set back

    def live(self) -> Json:
        """Until the container has ended; returns the final report. Raises Over."""
        SHARED.mkdir(parents=True, exist_ok=True)
        container = self._inspect(self._path)
        if container is None and not BEGUN.exists():
            if failure := self._make():
                return self._report(failure)
            container = self._inspect(self._path)
        if container and container["State"]["Status"] == "created" and not container["State"]["ExitCode"]:
            self._start()
        container = self._watch()
        logs = tolerate("logs", lambda: engine("GET", f"{self._path}/logs?stdout=1&stderr=1&tail=200"))
        return self._report({**ending(container, self._boot), "logTail": log_tail(logs or b"")})

    def _report(self, facts: Json) -> Json:
        report = {"kind": "finished", "at": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%fZ}", **facts}
        signalled_at = json.loads(SIGNALLED.read_text())["at"] if SIGNALLED.exists() else NEVER
        message = blank(facts.get("message", ""))[:MESSAGE_CHARS]
        return {**report, "signalled": epoch(report["at"]) >= signalled_at, "message": message}

    def _make(self) -> Json | None:
        """Image and container; None, or the report's words for why not."""
        image = quote(with_tag(self._job["image"]))
        if self._inspect(f"/images/{image}") is None and (failure := self._pull()):
            return failure
        spec = container_spec(self._job, self._instance, self._boot)
        try:
            self._patiently(lambda: engine("POST", f"/containers/create?name=spotjob-{self._instance}", spec))
        except EngineError as error:
            if error.args[0] != 409:  # 409: the name is taken, by the container of an earlier agent
                return {"finishedAs": "StartFailed", "message": error.args[1]}
        return None

    def _pull(self) -> Json | None:
        image, answers, until = self._job["image"], [""], time.monotonic() + PULL_SECONDS
        auth = registry_auth(image, self._job.get("registryAuth", {}))
        for pause in (PULL_SECONDS / 6, PULL_SECONDS / 3, NEVER):
            self._attend(in_background(lambda: answers.append(pull(image, auth))))
            if not answers[-1]:
                return None
            log(f"pull: {answers[-1]}")
            if HOPELESS.search(answers[-1]):
                return {"finishedAs": "ImagePullFailed", "message": answers[-1]}
            if time.monotonic() + pause > until:
                break
            self._attend(in_background(time.sleep, pause))
        return {"finishedAs": "RegistryUnavailable", "message": answers[-1]}

    def _start(self) -> None:
        """From here on a container that is missing has run: it is never made again."""
        self._duties()
        remember(BEGUN, dict)
        tolerate("start", lambda: self._patiently(lambda: engine("POST", f"{self._path}/start")))  # inspect decides

    def _watch(self) -> Any:
        """The inspect document of the container that has ended, None if it was removed."""
        told = False
        while True:
            container = self._inspect(self._path)
            if container is None or container["State"]["Status"] in ("created", "exited", "dead"):
                return container
            ended = in_background(self._wait)
            if not told and not self._attend(ended, STARTED_SECONDS):
                told = True
                self._unsent.append({"kind": "started", "at": container["State"]["StartedAt"]})
            self._attend(ended)

    def _wait(self) -> None:
        """Until the engine says that the container has ended, or falls silent: inspect tells which."""
        if tolerate("wait", lambda: engine("POST", f"{self._path}/wait", timeout=None)) is None:
            time.sleep(1)

    def _inspect(self, path: str) -> Any:
        """The engine's document about a container or an image, None if there is no such thing."""
        return json.loads(self._patiently(lambda: engine("GET", f"{path}/json")) or "null")

    def _patiently(self, action: Callable[[], Any]) -> Any:
        """Repeat while the daemon does not answer: it is starting, or being restarted."""
        while True:
            try:
                return action()
            except BROKEN as error:
                log(f"docker: {error!r}")
                self._attend(in_background(time.sleep, 1))

    def _attend(self, work: threading.Thread, seconds: float = NEVER) -> bool:
        """Do what is due until `work` has ended (True), or for `seconds` (False). Raises Over."""
        end = time.monotonic() + seconds
        while work.is_alive() and time.monotonic() < end:
            send_at = self._send_at if self._unsent else NEVER
            due = min(self._look_at, self._beat_at, send_at, self._signal_at, self._kill_at, end)
            work.join(max(0.0, min(due - time.monotonic(), 5.0)))
            if work.is_alive():
                self._duties()
        return not work.is_alive()

    def _duties(self) -> None:
        if time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + POLL_SECONDS
            tolerate("metadata", self._look)
        if time.monotonic() >= self._signal_at:
            self._signal_at = NEVER if self._signal(self._orders["signal"]) else time.monotonic() + 1
        if time.monotonic() >= self._kill_at:
            self._kill_at = NEVER if self._signal("SIGKILL") else time.monotonic() + 1
        if self._unsent and time.monotonic() >= self._send_at:
            self._send_at = time.monotonic() + POLL_SECONDS
            while self._unsent and self._tell("report", self._unsent[0]) is not None:
                self._unsent.pop(0)
        if time.monotonic() >= self._beat_at:
            self._beat_at = time.monotonic() + HEARTBEAT_SECONDS
            self._heartbeat()

    def _look(self) -> None:
        """Does EC2 want the instance back? A metadata service that cannot be reached is not a notice."""
        advice = metadata("events/recommendations/rebalance")
        if advice is not None and not (SHARED / "rebalance.json").exists():
            log("EC2 recommends to leave this instance")
            write(SHARED / "rebalance.json", advice, 0o644)
        notice = None if self._noticed else metadata("spot/instance-action")
        if notice is not None:
            when = json.loads(notice).get("time", "")
            left = epoch(when) - time.time() - self._orders["secondsBefore"]
            self._signal_at = min(self._signal_at, time.monotonic() + left)
            write(SHARED / "interruption.json", notice, 0o644)
            self._unsent.append({"kind": "notice", "at": when})
            self._send_at, self._noticed = 0.0, True

    def _signal(self, name: str) -> bool:
        """Noted on disk first, since an exit after it proves less than one before it. False: try again."""
        if not BEGUN.exists():
            raise Over("told to stop before the container began")
        remember(SIGNALLED, lambda: {"at": time.time()})
        log(f"sending {name}")
        return tolerate(name, lambda: engine("POST", f"{self._path}/kill?signal={name}", timeout=5)) is not None

    def _heartbeat(self) -> None:
        answer = self._tell("heartbeat", {"container": "running" if BEGUN.exists() else "pulling"}) or {}
        if answer.get("order") == "stop" and not self._stopping:
            self._stopping, self._signal_at = True, time.monotonic()
            self._kill_at = time.monotonic() + float(answer.get("graceSeconds", 10))

    def _tell(self, what: str, body: Json) -> Any:
        """The answer; {} when it is a final no, None when the API is away. Never so patient that a signal is late."""
        timeout = min(5.0, max(0.2, self._signal_at - time.monotonic()))
        try:
            return tolerate(what, lambda: post(self._job, what, body, timeout) or {})
        except Over as error:
            log(f"{error}")
            return {}


def in_background(work: Callable[..., Any], *args: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=args, daemon=True)
    thread.start()
    return thread


def claim(instance: str, pair: Json, nonce: str) -> Json:
    """The job, with its secrets: they lie in a file for root only, as the engine's own copy of them does."""
    body = {"uid": pair["uid"], "attempt": pair["attempt"], "nonce": nonce}
    job: Json = api("POST", f"/v1/instances/{instance}/claim", LAUNCH_TOKEN, body)
    if (job["uid"], job["attempt"]) != (pair["uid"], pair["attempt"]):
        raise Over("the API answered with another attempt than the claimed one")
    return job


def move_kill_timer(power_off_at: str) -> None:
    """From the window of an unclaimed instance to this attempt's own limit."""
    date = datetime.fromtimestamp(epoch(power_off_at), timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    if date not in TIMER.read_text():  # else it was moved before, and the container may have filled the disk
        write(TIMER, re.sub(r"(?m)^OnCalendar=.*$", f"OnCalendar={date}", TIMER.read_text()), 0o644)
    for command in (["daemon-reload"], ["restart", TIMER.name]):
        subprocess.run(["systemctl", *command], check=True)


def announce(instance: str, job: Json, report: Json) -> Json:
    """The result on the serial console, in case that the API cannot be reached. Never the log."""
    words = [instance, job["uid"], str(job["attempt"]), str(report.get("exitCode", "-"))]
    proof = hmac.new(job["agentToken"].encode(), " ".join(words).encode(), "sha256").hexdigest()
    console = Path(setting("SPOTJOB_CONSOLE", "/dev/console"))
    tolerate("console", lambda: console.open("a").write(" ".join(["SPOTJOB-RESULT", *words, proof]) + "\n"))
    return report


def serve() -> None:
    """All of it, each step on disk before the next one. Raises Over."""
    STATE.mkdir(mode=0o700, parents=True, exist_ok=True)
    first = remember(STATE / "first.json", lambda: {"nonce": os.urandom(16).hex(), "at": time.time()})
    until = first["at"] + WINDOW_SECONDS
    instance = ask("metadata", lambda: metadata("instance-id"), until)
    path = f"/v1/instances/{instance}/assignment"  # the API may hold the answer back for a while
    pair = remember(STATE / "pair.json", lambda: ask(path, lambda: api("GET", path, LAUNCH_TOKEN, timeout=40), until))
    job = remember(STATE / "claim.json", lambda: ask("claim", lambda: claim(instance, pair, first["nonce"]), until))
    _secrets.extend([job["agentToken"], job.get("env", {}).get("SPOTJOB_CALLBACK_TOKEN", ""), *job.get("mask", [])])
    _secrets.extend(login["password"] for login in job.get("registryAuth", {}).values())
    move_kill_timer(job["powerOffAt"])
    report = json.loads(RESULT.read_text()) if RESULT.exists() else announce(instance, job, Life(instance, job).live())
    tolerate("result", lambda: write(RESULT, json.dumps(report)))  # the container may have filled the disk
    ask("result", lambda: (post(job, "report", report),), time.time() + REPORT_SECONDS)


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

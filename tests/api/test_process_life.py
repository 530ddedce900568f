"""How the API's own process starts, ends, comes back and logs, against the real kube-apiserver."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
import time

import httpx
import pytest

from spotjob.local import probes
from spotjob.local.control_plane import ControlPlane
from tests.api.process import FROM_SECRET, TIMEOUT, Api, Scene, arrived
from tests.api.world import bearer

pytestmark = pytest.mark.cluster


async def test_after_kill_9_the_same_agent_goes_on(api: Api, scene: Scene) -> None:
    job = await scene.bound()
    (port,) = probes.free_ports(1)
    second = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = second.start()
    try:
        async with httpx.AsyncClient(base_url=second.url, timeout=TIMEOUT) as http:
            scene.http, first_http = http, scene.http
            first = await scene.claim(job)
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = second.start()
            scene.http = http
            again = await scene.claim(job)
            scene.http = first_http
            other_replica = await scene.claim(job)
    finally:
        process.terminate()
        process.wait(60)
    assert first.json() == again.json() == other_replica.json()
    assert first.status_code == 200


async def test_a_claim_whose_agent_has_hung_up_is_not_made(api: Api, scene: Scene) -> None:
    """An API that stood still finds such requests when it goes on; their instances may be dead by then."""
    job = await scene.bound()
    (port,) = probes.free_ports(1)
    second = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = second.start()
    asked = httpx.Request(
        "POST",
        f"{second.url}/v1/instances/{scene.instance}/claim",
        json={"uid": job.metadata.uid, "attempt": 1, "nonce": "nonce-of-16-chars"},
        headers=scene.launch,
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in asked.headers.items())
    before = api.log.read_text().count("/claim 503")
    try:
        process.send_signal(signal.SIGSTOP)
        with socket.create_connection(("127.0.0.1", port)) as agent:
            agent.sendall(f"POST {asked.url.path} HTTP/1.1\r\n{head}\r\n".encode() + asked.read())
        process.send_signal(signal.SIGCONT)
        await asyncio.to_thread(
            probes.wait_until, lambda: api.log.read_text().count("/claim 503") > before, 60, "the claim to be refused"
        )
    finally:
        process.terminate()
        process.wait(60)
    assert (await scene.job()).status.attempts[-1].claimed_at is None
    assert (await scene.claim(job, nonce="nonce-of-another")).status_code == 200


async def test_sigterm_ends_it_at_once_although_a_question_is_held_open(api: Api, scene: Scene) -> None:
    (port,) = probes.free_ports(1)
    second = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = second.start()
    async with httpx.AsyncClient(base_url=second.url, timeout=TIMEOUT) as http:
        url = f"/v1/instances/{scene.instance}/assignment"
        question = http.build_request("GET", url, params={"wait": 30}, headers=scene.launch)
        (asking,) = await arrived(http, [question])
        await asyncio.sleep(0.5)
        assert not asking.done()
        process.terminate()
        # One that was held up to the end of the grace of 10 s would be cut off: only at once there is an answer.
        assert (await asking).status_code == 204
        assert await asyncio.to_thread(process.wait, 60) == 0


async def test_a_hundred_heartbeats_held_open_do_not_hold_up_the_exit(api: Api, scene: Scene) -> None:
    job = await scene.bound()
    agent = bearer((await scene.claim(job)).json()["agentToken"])
    url = f"/v1/attempts/{job.metadata.uid}/1/heartbeat"
    alone = await seconds_to_the_exit(api, url, agent, 0)
    # Twice: the machine may stand still for a while, which is no fault; a heartbeat that is kept is kept both times.
    took = min([await seconds_to_the_exit(api, url, agent, 100) for _ in range(2)])
    print(f"SIGTERM to the exit: {alone:.2f} s, with 100 heartbeats held open {took:.2f} s")
    assert took - alone < 5  # a held heartbeat would keep it for its grace of 10 s


async def seconds_to_the_exit(api: Api, url: str, agent: dict[str, str], heartbeats: int) -> float:
    """From SIGTERM on, of a process that holds so many heartbeats open."""
    (port,) = probes.free_ports(1)
    other = Api({**api.environ, "SPOTJOB_API_PORT": str(port)}, f"http://127.0.0.1:{port}", api.log)
    process = other.start()
    async with httpx.AsyncClient(base_url=other.url, timeout=TIMEOUT) as http:
        held = [http.build_request("POST", url, params={"wait": 30}, json={}, headers=agent) for _ in range(heartbeats)]
        asking = await arrived(http, held)
        assert not any(task.done() for task in asking)
        begun = time.monotonic()
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0
        took = time.monotonic() - begun
        assert {answer.json()["order"] for answer in await asyncio.gather(*asking)} <= {"continue"}
    return took


async def test_no_token_and_no_secret_is_in_the_log(api: Api, scene: Scene, control_plane: ControlPlane) -> None:
    password = ("create", "secret", "generic", "database", "--from-literal=password=hunter2")
    control_plane.kubectl(*password, "-n", scene.namespace)
    assert (await scene.claim(await scene.bound(env=[FROM_SECRET]))).json()["env"]["PASSWORD"] == "hunter2"
    text = api.log.read_text()
    assert "GET /readyz 200" in text
    for secret in ("Bearer", "v1.k1.", "eyJ", "hunter2", control_plane.admin_token):
        assert secret not in text


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"AWS_ENDPOINT_URL": ""}, "not part of this version"),
        ({"AWS_ENDPOINT_URL_EC2": "https://ec2.us-east-1.amazonaws.com"}, "not a loopback address"),
        ({"SPOTJOB_TOKEN_KEY_DIR": "/nonexistent"}, "head -c 32 /dev/urandom"),
        ({"KUBECONFIG": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_it_does_not_start_with_what_it_must_not_use(api: Api, changed: dict[str, str], words: str) -> None:
    command = [sys.executable, "-m", "spotjob", "api"]
    ended = subprocess.run(command, env={**api.environ, **changed}, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr

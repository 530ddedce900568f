"""What instances do with the API's own process, against the real kube-apiserver."""

from __future__ import annotations

import asyncio
import time

import pytest

from spotjob.core.reasons import Phase, Reason
from spotjob.core.states import Drilled, Started, Stopping
from spotjob.local.control_plane import ControlPlane
from tests.api.process import FROM_SECRET, Scene
from tests.api.test_claiming import assert_problem
from tests.api.world import bearer
from tests.builders import NOW

pytestmark = pytest.mark.cluster


async def test_a_job_goes_from_its_assignment_to_its_verdict(scene: Scene, control_plane: ControlPlane) -> None:
    control_plane.kubectl(
        "create", "secret", "generic", "database", "--from-literal=password=hunter2", "-n", scene.namespace
    )
    asking = asyncio.create_task(scene.assignment(wait=30))
    job = await scene.bound(env=[FROM_SECRET])
    assigned = await asking
    assert assigned.json()["uid"] == job.metadata.uid

    handed = (await scene.claim(job)).json()
    assert handed["env"]["PASSWORD"] == "hunter2"
    agent, container = bearer(handed["agentToken"]), bearer(handed["env"]["SPOTJOB_CALLBACK_TOKEN"])
    attempt = f"/v1/attempts/{job.metadata.uid}/1"
    at = NOW.isoformat()
    ended = {"kind": "finished", "at": at, "finishedAs": "Exited", "exitCode": 0}
    for path, body, token in [
        (f"{attempt}/report", {"kind": "started", "at": at}, agent),
        (f"{attempt}/heartbeat", {}, agent),
        ("/v1/callback", {"status": "ok"}, container),
        (f"{attempt}/report", ended, agent),
        (f"{attempt}/report", ended, agent),
    ]:
        answer = await scene.http.post(path, json=body, headers=token)
        assert answer.status_code == 200, answer.text
    assert (await scene.job()).status.phase is Phase.FINISHED_OK
    assert (await scene.http.post(f"{attempt}/heartbeat", json={}, headers=agent)).json()["order"] == "stop"


async def test_of_two_claims_at_once_one_wins(scene: Scene) -> None:
    job = await scene.bound()
    answers = await asyncio.gather(*(scene.claim(job, nonce=f"nonce-number-{n:04}") for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


async def test_a_missing_secret_shows_in_the_status_until_it_is_there(
    scene: Scene, control_plane: ControlPlane
) -> None:
    job = await scene.bound(env=[FROM_SECRET])
    assert_problem(await scene.claim(job), 503, "Secret database does not exist")
    assert (await scene.job()).status.message == "Secret database does not exist"
    control_plane.kubectl("create", "secret", "generic", "database", "--from-literal=password=p", "-n", scene.namespace)
    assert (await scene.claim(job)).status_code == 200
    assert (await scene.job()).status.reason is Reason.PULLING_IMAGE


async def test_an_order_arrives_on_a_heartbeat_that_is_held_open(scene: Scene, control_plane: ControlPlane) -> None:
    job = await scene.bound()
    agent = bearer((await scene.claim(job)).json()["agentToken"])
    url, held = f"/v1/attempts/{job.metadata.uid}/1/heartbeat", {"wait": 30}
    await scene.change(Started(NOW))
    for change, order in ((Drilled(NOW), "drill"), (Stopping(NOW, "stopped"), "stop")):
        asking = asyncio.create_task(scene.http.post(url, params=held, json={}, headers=agent))
        await asyncio.sleep(0.5)
        assert not asking.done()
        begun = time.monotonic()
        await scene.change(change)
        answer = await asking
        print(f"status written -> {order} heard: {(time.monotonic() - begun) * 1000:.0f} ms")
        assert answer.json()["order"] == order
        assert time.monotonic() - begun < held["wait"] - 5  # not only when the wait was over
        if order == "drill":  # by the API, which knows its own writes: it would hear of ours a moment later
            notice = {"kind": "notice", "at": NOW.isoformat()}
            answer = await scene.http.post(f"/v1/attempts/{job.metadata.uid}/1/report", json=notice, headers=agent)
            assert answer.status_code == 200, answer.text

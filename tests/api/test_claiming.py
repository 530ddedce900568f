from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from spotjob.core.ports import KubeError
from spotjob.core.reasons import Reason
from spotjob.core.states import Bound, Claimed
from tests.api.world import CLASS, NONCE, World, bearer, launched, of_attempt
from tests.builders import a_job, after, an_instance, booting, deleted, running

FROM_SECRET = {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "database", "key": "password"}}}


def assert_problem(answer: httpx.Response, status: int, words: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert words in problem["detail"]


# ---- assignment ----


async def test_an_instance_learns_its_attempt_and_nothing_is_written(world: World) -> None:
    world.add(booting("i-1"))
    answer = await world.assignment()
    assert (answer.status_code, answer.json()) == (
        200,
        {"namespace": "batch", "name": "night", "uid": "uid-of-night", "attempt": 1},
    )
    assert world.kube.writes == 0


async def test_an_unknown_instance_is_told_not_yet(world: World) -> None:
    assert (await world.assignment()).status_code == 204


async def test_a_question_is_held_open_until_the_instance_is_bound(world: World) -> None:
    world.add(a_job())
    asking = asyncio.create_task(world.assignment(wait=30))
    await asyncio.sleep(0.05)
    assert not asking.done()
    world.add(booting("i-1"))
    assert (await asyncio.wait_for(asking, 25)).json()["attempt"] == 1


async def test_the_object_decides_when_the_index_is_late(world: World) -> None:
    world.add(booting("i-1"))
    world.kube.store(deleted(booting("i-1")))
    assert (await world.assignment()).status_code == 204
    world.kube.jobs.clear()
    assert (await world.assignment()).status_code == 204


# ---- claim ----


async def test_a_claim_hands_the_job_over_and_is_written_once(world: World) -> None:
    world.add(booting("i-1", env=[{"name": "A", "value": "1"}]))
    answer = await world.claim()
    assert answer.status_code == 200
    assert answer.json()["env"]["A"] == "1"
    assert answer.json()["image"] == "busybox:1"
    assert world.job().status.reason is Reason.PULLING_IMAGE
    assert world.kube.writes == 1


async def test_an_agent_that_lost_the_answer_gets_it_again_without_a_write(world: World) -> None:
    world.add(booting("i-1"))
    first, second = await world.claim(), await world.claim()
    assert first.json() == second.json()
    assert world.kube.writes == 1


async def test_another_nonce_is_refused_for_good(world: World) -> None:
    world.add(booting("i-1"))
    await world.claim()
    assert_problem(await world.claim(nonce="another-nonce-of-16"), 409, "claimed already")


async def test_of_many_claims_at_once_exactly_one_nonce_wins(world: World) -> None:
    world.add(booting("i-1"))
    answers = await asyncio.gather(*(world.claim(nonce=f"nonce-number-{n:04}") for n in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 19
    assert world.kube.writes == 1


async def test_a_job_that_is_deleted_under_the_claim_is_not_handed_over(world: World) -> None:
    world.add(booting("i-1"))
    world.kube.before_write.append(lambda: world.kube.store(deleted(world.job())) and None)
    assert_problem(await world.claim(), 409, "is being deleted")


async def test_a_claim_whose_write_was_not_answered_is_looked_up_and_handed_over(world: World) -> None:
    world.add(booting("i-1"))
    world.kube.lose_replies = 1
    assert (await world.claim()).status_code == 200
    assert world.kube.writes == 1


async def test_a_claim_that_others_overtake_again_and_again_is_put_off(world: World) -> None:
    world.add(booting("i-1"))
    world.kube.before_write = [lambda: world.kube.store(world.job()) and None] * 50
    answer = await world.claim()
    assert_problem(answer, 503)
    assert answer.headers["retry-after"]


async def test_the_instance_of_another_attempt_is_refused(world: World) -> None:
    world.add(booting("i-1"))
    assert_problem(await world.claim("i-2"), 409, "another instance")


async def test_a_claim_finds_a_job_that_the_index_has_not_seen_yet(world: World) -> None:
    world.kube.store(booting("i-1"))
    assert (await world.claim()).status_code == 200


async def test_a_claim_of_a_job_that_is_gone_is_refused_for_good(world: World) -> None:
    assert_problem(await world.claim(), 409, "no such job")


# ---- secrets ----


async def test_secrets_are_read_from_the_jobs_own_namespace(world: World) -> None:
    world.add(booting("i-1", env=[FROM_SECRET]))
    world.kube.secrets["elsewhere", "database"] = {"password": b"wrong"}
    world.kube.secrets["batch", "database"] = {"password": b"hunter2"}
    answer = await world.claim()
    assert answer.json()["env"]["PASSWORD"] == "hunter2"
    assert "hunter2" in answer.json()["mask"]


async def test_a_missing_secret_is_told_to_the_agent_and_shown_in_the_status_once(world: World) -> None:
    world.add(booting("i-1", env=[FROM_SECRET]))
    answers = [await world.claim() for _ in range(3)]
    for answer in answers:
        assert_problem(answer, 503, "Secret database does not exist")
        assert answer.headers["retry-after"] == "10"
    assert world.job().status.message == "Secret database does not exist"
    assert world.job().status.reason is Reason.BOOTING
    assert world.kube.writes == 1


async def test_the_claim_succeeds_as_soon_as_the_secret_is_there(world: World) -> None:
    world.add(booting("i-1", env=[FROM_SECRET]))
    await world.claim()
    world.kube.secrets["batch", "database"] = {"password": b"hunter2"}
    assert (await world.claim()).status_code == 200
    assert world.job().status.reason is Reason.PULLING_IMAGE


async def test_a_secret_that_the_api_may_not_read_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(namespace: str, name: str) -> dict[str, bytes]:
        raise KubeError(403, "secrets is forbidden")

    world.add(booting("i-1", env=[FROM_SECRET]))
    monkeypatch.setattr(world.kube, "secret_values", forbidden)
    assert_problem(await world.claim(), 503, "may not read Secret database")


@pytest.mark.parametrize("count", [0, 2])
async def test_a_job_without_a_class_needs_exactly_one_default(world: World, count: int) -> None:
    world.add(booting("i-1"))
    world.kube.classes = [CLASS] * count
    assert_problem(await world.claim(), 503, f"{count} SpotJobClasses are marked as default")


async def test_a_class_that_is_gone_is_named(world: World) -> None:
    world.add(booting("i-1", className="big"))
    assert_problem(await world.claim(), 503, "SpotJobClass big does not exist")


# ---- tokens ----


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("nonsense"), {"Authorization": "Basic eDp5"}, of_attempt("agent"), of_attempt("container")],
    ids=["none", "nonsense", "basic", "agent", "container"],
)
@pytest.mark.parametrize(("method", "what"), [("GET", "assignment"), ("POST", "claim")])
async def test_only_a_launch_token_may_ask_and_claim(
    world: World, method: str, what: str, headers: dict[str, str]
) -> None:
    world.add(booting("i-1"))
    body = {"uid": "uid-of-night", "attempt": 1, "nonce": NONCE}
    answer = await world.client.request(method, f"/v1/instances/i-1/{what}", json=body, headers=headers)
    assert_problem(answer, 401)
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert world.kube.writes == 0


async def test_the_launch_token_of_another_cluster_is_forbidden(world: World) -> None:
    answer = await world.client.get("/v1/instances/i-1/assignment", headers=launched("uid-of-another"))
    assert_problem(answer, 403, "another cluster")


async def test_no_token_and_no_secret_reaches_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    world.add(booting("i-1", env=[FROM_SECRET]))
    world.kube.secrets["batch", "database"] = {"password": b"hunter2"}
    job = (await world.claim()).json()
    await world.claim(nonce="another-nonce-of-16")
    for secret in ("hunter2", job["agentToken"], job["env"]["SPOTJOB_CALLBACK_TOKEN"], NONCE, "another-nonce"):
        assert secret not in caplog.text
    assert "POST /v1/instances/{instance}/claim 200" in caplog.text


# ---- two jobs, one instance ----


async def test_two_jobs_that_name_one_instance_can_both_ask_but_each_pair_is_claimed_for_itself(world: World) -> None:
    world.add(booting("i-1"))
    other = after(a_job(name="other"), Bound(an_instance("i-1")))
    world.add(other)
    assigned = (await world.assignment()).json()
    answer = await world.claim(uid=assigned["uid"], attempt=assigned["attempt"])
    assert answer.status_code == 200
    assert (await world.assignment()).json() == assigned


async def test_a_running_attempt_cannot_be_claimed_anew(world: World) -> None:
    world.add(after(booting("i-1"), Claimed("0" * 64)))
    assert_problem(await world.claim(), 409)
    world.add(running("i-1"))
    assert_problem(await world.claim(), 409)

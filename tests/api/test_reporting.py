from __future__ import annotations

from typing import Any

import pytest

from spotjob.core.reasons import Outcome, Phase, Reason
from spotjob.core.resources import SpotJob
from spotjob.core.states import Bound, Ended, Stopping
from tests.api.test_claiming import assert_problem
from tests.api.world import World, bearer, of_attempt
from tests.builders import NOW, after, an_instance, claimed, deleted, running, suspended

STARTED = {"kind": "started", "at": NOW.isoformat()}
NOTICE = {"kind": "notice", "at": NOW.isoformat()}


def finished(exit_code: int = 0, **fields: Any) -> dict[str, Any]:
    return {"kind": "finished", "at": NOW.isoformat(), "finishedAs": "Exited", "exitCode": exit_code, **fields}


def in_its_second_attempt() -> SpotJob:
    failed = after(running(backoffLimit=3), Ended(Outcome.CONTAINER_FAILED, exit_code=1))
    return after(failed, Bound(an_instance("i-2")))


# ---- reports ----


async def test_started_makes_the_job_running(world: World) -> None:
    world.add(claimed("i-1"))
    assert (await world.say("report", STARTED)).status_code == 200
    assert world.job().status.reason is Reason.CONTAINER_RUNNING


async def test_a_notice_is_shown(world: World) -> None:
    world.add(running("i-1"))
    await world.say("report", NOTICE)
    assert world.job().status.reason is Reason.INTERRUPTION_NOTICE


async def test_exit_code_7_is_a_failed_container_with_its_last_lines(world: World) -> None:
    world.add(running("i-1"))
    await world.say("report", finished(7, logTail="last words"))
    job = world.job()
    assert (job.status.phase, job.status.reason) == (Phase.FINISHED_NOK, Reason.CONTAINER_FAILED)
    assert job.current is not None
    assert (job.current.exit_code, job.current.log_tail) == (7, "last words")


@pytest.mark.parametrize("body", [STARTED, NOTICE, finished(0), finished(7)])
async def test_a_repeated_report_gets_the_same_answer_and_writes_nothing(world: World, body: dict[str, Any]) -> None:
    world.add(claimed("i-1"))
    first, second = await world.say("report", body), await world.say("report", body)
    assert (first.status_code, first.json()) == (second.status_code, second.json()) == (200, {})
    assert world.kube.writes == 1


async def test_a_failed_attempt_is_told_once_and_a_success_not_at_all(world: World) -> None:
    world.add(running("i-1", backoffLimit=1))
    for _ in range(2):
        await world.say("report", finished(7))
    assert world.kube.events == [("batch/night", "ContainerFailed", "The container exited with code 7")]
    world.kube.events.clear()
    world.add(running("i-1"))
    await world.say("report", finished(0))
    assert world.kube.events == []


async def test_the_verdict_does_not_change_with_a_second_report(world: World) -> None:
    world.add(running("i-1"))
    await world.say("report", finished(0))
    assert (await world.say("report", finished(7))).status_code == 200
    assert world.job().status.phase is Phase.FINISHED_OK


async def test_a_report_survives_a_faster_writer_and_a_lost_answer(world: World) -> None:
    world.add(running("i-1"))
    world.kube.before_write.append(lambda: world.kube.store(world.job()) and None)
    world.kube.lose_replies = 1
    assert (await world.say("report", finished(0))).status_code == 200
    assert world.job().status.phase is Phase.FINISHED_OK
    assert world.kube.writes == 1


async def test_the_index_knows_of_an_own_write_before_the_watch_does(world: World) -> None:
    world.add(running("i-1"))
    await world.say("report", finished(0))
    assert (await world.say("heartbeat", {})).json()["order"] == "stop"


# ---- whose token ----


@pytest.mark.parametrize("headers", [{}, bearer("x"), of_attempt("container"), of_attempt("launch")])
@pytest.mark.parametrize(("what", "body"), [("report", STARTED), ("heartbeat", {})])
async def test_only_an_agent_token_may_report(
    world: World, headers: dict[str, str], what: str, body: dict[str, Any]
) -> None:
    world.add(claimed("i-1"))
    answer = await world.client.post(f"/v1/attempts/uid-of-night/1/{what}", json=body, headers=headers)
    assert_problem(answer, 401)


@pytest.mark.parametrize("path", ["uid-of-other/1", "uid-of-night/2"])
@pytest.mark.parametrize(("what", "body"), [("report", STARTED), ("heartbeat", {})])
async def test_a_token_serves_the_attempt_in_its_path_only(
    world: World, path: str, what: str, body: dict[str, Any]
) -> None:
    world.add(claimed("i-1"))
    answer = await world.client.post(f"/v1/attempts/{path}/{what}", json=body, headers=of_attempt("agent"))
    assert_problem(answer, 403, "another attempt")
    assert world.kube.writes == 0


async def test_the_token_of_an_earlier_attempt_reports_no_more(world: World) -> None:
    world.add(in_its_second_attempt())
    assert_problem(await world.say("report", finished(0)), 403, "no longer the current one")
    assert world.kube.writes == 0


async def test_a_report_about_a_job_that_is_gone_is_final(world: World) -> None:
    assert_problem(await world.say("report", finished(0)), 403, "the job is gone")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "ended", "at": NOW.isoformat()}, "body.kind"),
        ({"kind": "started"}, "body.at"),
        (finished(256), "body.exitCode"),
        (finished(0) | {"exitcode": 0}, "body.exitcode"),
        (finished(0) | {"logTail": "x" * 2049}, "body.logTail"),
        (STARTED | {"at": "yesterday"}, "body.at"),
        (STARTED | {"at": "2026-11-22T01:00:00"}, "body.at: Input should have timezone info"),
        (finished(0) | {"startedAt": "2026-11-22T01:00:00"}, "body.startedAt: Input should have timezone info"),
    ],
)
async def test_a_bad_report_is_refused_by_field(world: World, body: dict[str, Any], field: str) -> None:
    world.add(running("i-1"))
    assert_problem(await world.say("report", body), 422, field)


# ---- heartbeats ----


async def test_a_heartbeat_of_a_running_job_says_continue_and_costs_the_api_server_nothing(world: World) -> None:
    world.add(running("i-1"))
    answer = await world.say("heartbeat", {"container": "running"})
    assert answer.json()["order"] == "continue"
    assert (world.kube.reads, world.kube.writes) == (0, 0)


@pytest.mark.parametrize(
    "job",
    [
        deleted(running("i-1")),
        after(suspended(running("i-1")), Stopping(NOW, "The job was suspended")),
        after(running("i-1"), Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED)),
        after(running("i-1", backoffLimit=2), Ended(Outcome.ATTEMPT_DEADLINE_EXCEEDED)),
    ],
    ids=["deleted", "suspended", "finished by its deadline", "attempt over"],
)
async def test_a_heartbeat_brings_the_order_to_stop(world: World, job: SpotJob) -> None:
    world.add(job)
    answer = (await world.say("heartbeat", {})).json()
    assert answer["order"] == "stop"
    assert answer["graceSeconds"] > 0


async def test_a_heartbeat_before_the_index_knows_the_job_is_answered_from_the_object(world: World) -> None:
    world.kube.store(running("i-1"))
    assert (await world.say("heartbeat", {})).json()["order"] == "continue"


async def test_the_agent_of_an_earlier_attempt_or_of_a_job_that_is_gone_is_told_to_stop(world: World) -> None:
    assert (await world.say("heartbeat", {})).json()["order"] == "stop"
    world.add(in_its_second_attempt())
    assert (await world.say("heartbeat", {})).json()["order"] == "stop"


async def test_an_agent_whose_attempt_the_index_does_not_know_yet_goes_on(world: World) -> None:
    world.add(running("i-1", backoffLimit=3))
    world.kube.store(in_its_second_attempt())
    answer = await world.say("heartbeat", {}, attempt=2, instance="i-2")
    assert answer.json()["order"] == "continue"


# ---- callbacks ----


async def called_back(world: World, body: dict[str, Any], **claims: Any) -> Any:
    return await world.client.post("/v1/callback", json=body, headers=of_attempt("container", **claims))


async def test_a_callback_is_noted_and_the_container_runs_on(world: World) -> None:
    world.add(running("i-1"))
    answer = await called_back(world, {"status": "ok", "message": "done", "uid": "uid-of-night", "attempt": 1})
    assert answer.status_code == 200
    job = world.job()
    assert job.status.phase is Phase.RUNNING
    assert job.current is not None
    assert job.current.callback is not None
    assert job.current.callback.ok


async def test_the_first_callback_counts(world: World) -> None:
    world.add(running("i-1"))
    await called_back(world, {"status": "ok"})
    assert (await called_back(world, {"status": "nok"})).status_code == 200
    assert world.kube.writes == 1


@pytest.mark.parametrize("body", [{"uid": "uid-of-other"}, {"attempt": 2}])
async def test_a_callback_for_another_jobs_attempt_is_forbidden(world: World, body: dict[str, Any]) -> None:
    world.add(running("i-1"))
    assert_problem(await called_back(world, {"status": "ok", **body}), 403, "another attempt")
    assert world.kube.writes == 0


async def test_a_callback_with_the_token_of_an_old_instance_is_forbidden(world: World) -> None:
    world.add(in_its_second_attempt())
    assert_problem(await called_back(world, {"status": "ok"}), 403, "no longer the current one")


async def test_an_agent_token_is_no_container_token(world: World) -> None:
    world.add(running("i-1"))
    answer = await world.client.post("/v1/callback", json={"status": "ok"}, headers=of_attempt("agent"))
    assert_problem(answer, 401)

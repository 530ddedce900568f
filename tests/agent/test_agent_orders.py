"""What the agent does when the API orders it to stop or to drill, when EC2 gives advice, and when the API is away."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from spotjob.agent import agent
from spotjob.core.contract import HeartbeatAnswer, Report
from tests.agent.fleet import AGENT, UNTIL_GO, Fleet, an_agent

DEAF = 'trap "echo not yet" TERM; while :; do sleep 0.1; done'
PATIENT = an_agent(HOLD_SECONDS=120)
"""Its heartbeats are held so long that a stall of the machine cannot pass for one that had to come first."""
OBEDIENT = 'trap "echo bye; exit 0" TERM; while :; do sleep 0.1; done'


def started(fleet: Fleet, source: str = AGENT, **job: Any) -> str:
    instance = fleet.run(source, **job)
    fleet.world.until(lambda: kinds(fleet, instance)[:1] == ["started"])
    return instance


def kinds(fleet: Fleet, instance: str) -> list[str]:
    return [report.kind for report in fleet.world.reports[instance]]


def a_drill(seconds: float) -> HeartbeatAnswer:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    return HeartbeatAnswer(order="drill", reclaim_at=at)


def stop(grace: int = 10) -> HeartbeatAnswer:
    return HeartbeatAnswer(order="stop", grace_seconds=grace)


# ---- stop ----


def test_an_order_to_stop_does_not_wait_for_the_next_heartbeat(fleet: Fleet, image: str) -> None:
    instance = started(fleet, PATIENT, image=image, script=OBEDIENT)
    begun = datetime.now(UTC)
    fleet.world.order(instance, stop())
    report = fleet.world.final(instance)
    latency = (report.at - begun).total_seconds()
    print(f"order to stop -> end of the container: {latency:.2f} s")
    assert (report.exit_code, report.signalled, report.log_tail) == (0, True, "bye\n")
    assert latency < 40
    assert len(fleet.world.waits[instance]) == 1
    assert fleet.halted[instance].wait(60)


def test_a_container_that_does_not_stop_is_killed_after_the_grace(fleet: Fleet, image: str) -> None:
    instance = started(fleet, image=image, script=DEAF)
    begun = datetime.now(UTC)
    fleet.world.order(instance, stop(grace=1))
    report = fleet.world.final(instance)
    assert (report.exit_code, report.signalled, report.out_of_memory) == (137, True, False)
    log = fleet.agent_log(instance)
    unanswered = log.count("spotjob-agent: SIGTERM: ")  # by an engine that is stalled: the signal is sent again
    assert log.count("sending SIGTERM") == 1 + unanswered, "one signal, then the kill"
    # A container that is stalled itself may be killed before its shell says a word.
    assert report.log_tail.splitlines() in [["not yet"] * said for said in range(unanswered + 2)]
    assert 1 <= (report.at - begun).total_seconds() < 29  # of the 30 s without an order's own grace


def test_the_signal_is_the_one_that_the_job_names(fleet: Fleet, image: str) -> None:
    script = 'trap "echo int; exit 9" INT; while :; do sleep 0.1; done'
    instance = started(fleet, image=image, script=script, interruption={"signal": "SIGINT", "seconds_before": 15})
    fleet.world.order(instance, stop())
    assert fleet.world.final(instance).exit_code == 9


def test_no_heartbeat_follows_the_order_to_stop(fleet: Fleet, image: str) -> None:
    instance = started(fleet, PATIENT, image=image, script=DEAF)
    fleet.world.order(instance, stop(grace=3))
    fleet.world.final(instance)
    assert len(fleet.world.waits[instance]) == 1


def test_an_instance_whose_container_has_not_begun_powers_off_without_one(fleet: Fleet) -> None:
    instance = fleet.new_id()
    fleet.world.order(instance, stop())
    # A registry that is silent: one that refuses might have failed the job before the order is heard.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        fleet.world.assign(instance, image=f"{host}:{port}/patience")
        fleet.boot(instance)
        assert fleet.off[instance].wait(60)
    assert kinds(fleet, instance) == []
    assert fleet.containers(instance) == 0


def test_an_agent_that_was_killed_after_the_order_hears_it_again(fleet: Fleet, image: str) -> None:
    instance = started(fleet, image=image, script=DEAF)
    fleet.world.order(instance, stop(grace=600))  # so that the first agent cannot carry it out
    signalled = fleet.folder(instance) / "disk/run/spotjob-signalled.json"
    fleet.world.until(signalled.exists)
    fleet.world.order(instance, stop(grace=2))  # it asks no more, so only the next one hears this
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.signalled) == (137, True)


# ---- drill ----


def test_a_drill_is_to_the_container_what_a_notice_is(fleet: Fleet, image: str) -> None:
    script = 'trap "cat $SPOTJOB_INTERRUPTION_FILE; exit 0" TERM; while :; do sleep 0.1; done'
    orders = {"signal": "SIGTERM", "seconds_before": 50}  # far from the 15 s of a job that says nothing
    instance = started(fleet, image=image, script=script, interruption=orders)
    drill = a_drill(54)
    assert drill.reclaim_at is not None
    fleet.world.order(instance, drill)
    report = fleet.world.final(instance)
    assert set(kinds(fleet, instance)) == {"started", "notice", "finished"}
    assert {known.at for known in fleet.world.reports[instance] if known.kind == "notice"} == {drill.reclaim_at}
    assert (report.exit_code, report.signalled) == (0, True)
    assert -50.2 < (report.at - drill.reclaim_at).total_seconds() < -16
    assert json.loads(report.log_tail) == {"action": "terminate", "time": f"{drill.reclaim_at:%Y-%m-%dT%H:%M:%SZ}"}


def test_a_container_that_outlives_the_drill_is_killed_when_ec2_would_have_done_it(fleet: Fleet, image: str) -> None:
    instance = started(fleet, image=image, script=DEAF)
    drill = a_drill(4)
    assert drill.reclaim_at is not None
    fleet.world.order(instance, drill)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.signalled) == (137, True)
    assert -0.1 < (report.at - drill.reclaim_at).total_seconds() < 40


def test_a_killed_agent_goes_on_with_a_drill_whose_notice_was_reported(fleet: Fleet, image: str) -> None:
    """The API does not repeat the order then."""
    instance = started(fleet, image=image, script=DEAF)
    fleet.world.order(instance, a_drill(600))  # so that the first agent cannot end it
    fleet.world.until(lambda: "notice" in kinds(fleet, instance))
    fleet.world.order(instance, HeartbeatAnswer())
    first, drill = fleet.agent_pid(instance), fleet.folder(instance) / "disk/run/spotjob-drill.json"
    drill.write_text(json.dumps({"action": "terminate", "time": agent.stamp(time.time() + 4)}))
    os.kill(first, signal.SIGKILL)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.signalled) == (137, True)


# ---- the notice, the advice ----


def test_the_notice_is_told_before_the_end_also_when_the_api_was_away(fleet: Fleet, image: str) -> None:
    """Else the API would take the signalled exit for a stop by order."""
    instance = started(fleet, image=image, script=OBEDIENT)
    fleet.world.refusals["report"] = 503
    fleet.world.reclaims[instance] = datetime.now(UTC) + timedelta(seconds=10)
    result = fleet.folder(instance) / "disk/var/lib/spotjob/result.json"
    fleet.world.until(result.exists)
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    del fleet.world.refusals["report"]
    report = fleet.world.final(instance)
    assert report.signalled
    assert kinds(fleet, instance)[-2:] == ["notice", "finished"]


@pytest.mark.parametrize("advice", ['{"noticeTime": "2026-11-22T01:02:03Z"}', "{}", "soon", '{"noticeTime": 7}'])
def test_a_rebalance_recommendation_is_reported_once_and_nobody_is_signalled(
    fleet: Fleet, image: str, advice: str
) -> None:
    instance = fleet.new_id()
    fleet.world.advice[instance] = advice
    # In the last second it would be reported again, five times.
    script = f"{UNTIL_GO}; sleep 1; cat ${{SPOTJOB_INTERRUPTION_FILE%/*}}/rebalance.json"
    fleet.world.assign(instance, image=image, script=script)
    before = datetime.now(UTC)
    fleet.boot(instance)
    fleet.world.until(lambda: "rebalance" in kinds(fleet, instance))
    fleet.go(instance)
    report = fleet.world.final(instance)
    (told,) = [known for known in fleet.world.reports[instance] if known.kind == "rebalance"]
    known = datetime(2026, 11, 22, 1, 2, 3, tzinfo=UTC)
    assert told.at == known if "2026" in advice else before <= told.at <= report.at
    assert (report.exit_code, report.signalled) == (0, False)
    assert report.log_tail == advice


# ---- the API is away ----


@pytest.mark.parametrize("trouble", ["hangs", "fails", "says no", "breaks off"])
def test_a_heartbeat_without_an_answer_is_asked_again_and_the_job_runs_on(
    fleet: Fleet, image: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = fleet.world
    if trouble == "hangs":
        world.hang.add("heartbeat")
    elif trouble == "breaks off":
        monkeypatch.setattr(type(world), "_attempt", breaking_off(type(world)._attempt))
    else:
        world.refusals["heartbeat"] = 500 if trouble == "fails" else 403
    begun = time.monotonic()
    instance = started(fleet, image=image, script=OBEDIENT)
    world.until(lambda: len(world.waits[instance]) >= (1 if trouble == "hangs" else 3))
    # From the beginning, not from one to the next: a call that was held up comes close before the one that was not.
    assert all(at - begun > 0.7 * number for number, at in enumerate(world.waits[instance]))
    world.order(instance, stop())
    world.release()
    world.refusals.clear()
    monkeypatch.undo()
    assert world.final(instance).exit_code == 0


def breaking_off(attempt: Any) -> Any:
    """The connection breaks instead of an answer to a heartbeat."""

    def serve(self: Any, uid: str, call: str, *args: Any) -> Any:
        return attempt(self, uid, call, *args) if call == "report" else (999, None)

    return serve


def test_an_api_that_hangs_on_reports_delays_no_order(fleet: Fleet, image: str) -> None:
    fleet.world.hang.add("report")
    # A report that is given a minute, which no stall can pass for.
    source = AGENT.replace("timeout: float = 10)", "timeout: float = 100)")
    assert source != AGENT
    instance = fleet.run(source, image=image, script=OBEDIENT)
    fleet.world.until(lambda: fleet.world.hung[instance])
    console = fleet.folder(instance) / "console"
    begun = time.monotonic()
    fleet.world.order(instance, stop())
    fleet.world.until(lambda: "SPOTJOB-RESULT" in console.read_text())
    assert time.monotonic() - begun < 40
    fleet.world.release()
    assert fleet.world.final(instance).exit_code == 0


# ---- its parts ----


@pytest.fixture
def life(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> agent.Life:
    for name in ("BOOT_ID", "BEGUN", "SIGNALLED", "INTERRUPTION", "DRILL"):
        monkeypatch.setattr(agent, name, tmp_path / name.lower())
    agent.BOOT_ID.write_text("this-boot")
    return agent.Life("i-1", {"uid": "u", "attempt": 1, "image": "a:1", "agentToken": "t"})


def test_of_a_drill_and_a_notice_the_earlier_time_counts(life: agent.Life) -> None:
    now = time.time()
    life._obey({"order": "drill", "reclaimAt": agent.stamp(now + 1000)})
    begun = time.monotonic()
    for seconds, signalled_in in ((2000, 985), (500, 485), (600, 485)):
        life._expect(json.dumps({"time": agent.stamp(now + seconds)}))
        assert life._signals["SIGTERM"] - begun == pytest.approx(signalled_in, abs=40)
    reports = [Report.model_validate(life._unsent.get_nowait()) for _ in range(life._unsent.qsize())]
    assert [round(report.at.timestamp() - now) for report in reports] == [1000, 500]


def test_a_signal_that_was_sent_is_not_sent_again(life: agent.Life, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(life, "_look", lambda: None)
    monkeypatch.setattr(life, "_signal", lambda name: sent.append(name) is None)
    for order in ({"order": "stop", "graceSeconds": 30}, {"order": "stop", "graceSeconds": 0}):
        life._heard.put(order)
        life._duties()
    life._duties()
    assert sent == ["SIGTERM", "SIGKILL"]


def test_a_notice_whose_time_cannot_be_read_is_one_for_now(life: agent.Life) -> None:
    life._expect("{}")
    assert life._signals["SIGTERM"] <= time.monotonic()

"""Whole lives of instances: the rendered user data, the real agent, real containers where docker answers."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import signal
from datetime import UTC, datetime, timedelta

import pytest

from spotjob.core.contract import Limits, RegistryAuth
from spotjob.local.registry import LOGIN, Registry
from tests.agent.fleet import UNTIL_GO, Fleet, an_agent
from tests.agent.world import AGENT_TOKEN, LAUNCH_TOKEN, World


def test_a_container_that_exits_with_0_is_reported_and_the_instance_powers_off(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image)
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code, report.log_tail) == ("Exited", 0, "hello\n")
    assert not report.signalled
    assert fleet.halted[instance].wait(60)
    assert fleet.containers(instance) == 0


def test_a_container_that_ends_within_two_seconds_is_only_reported_as_finished(fleet: Fleet, image: str) -> None:
    # With a minute instead: a stalled engine may need more than two seconds to say that a container has ended.
    instance = fleet.run(an_agent(STARTED_SECONDS=60), image=image)
    report = fleet.world.final(instance)
    assert [known.kind for known in fleet.world.reports[instance]] == ["finished"]
    assert report.started_at is not None
    # Of a container that ends at once, docker may note the start after the end, by as long as it was stalled.
    assert report.at - report.started_at > timedelta(seconds=-30)


def test_the_exit_code_and_the_last_lines_reach_the_api(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="echo to stdout; echo to stderr >&2; exit 7")
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) == ("Exited", 7)
    assert sorted(report.log_tail.splitlines()) == ["to stderr", "to stdout"]


def test_the_result_is_on_the_serial_console_and_proves_who_wrote_it(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="exit 3")
    fleet.world.final(instance)
    (line,) = [text for text in fleet.machines.console(instance).splitlines() if text.startswith("SPOTJOB-RESULT")]
    _, *words, proof = line.split()
    assert words == [instance, instance, "1", "Exited", "3", "free"]
    assert proof == hmac.new(AGENT_TOKEN.encode(), " ".join(words).encode(), hashlib.sha256).hexdigest()


NASTY = {
    "QUOTES": """it's "quoted" \\ and 'twice'""",
    "LINES": "one\ntwo\r\n\n\tlast \n",
    "SHELL": "$(id) `id` ${HOME} $$ ; rm -rf / && *",
    "UTF8": "grün, 日本語, 🦊, e\u0301",
    "EMPTY": "",
    "DOCKER_HOST": "tcp://nowhere:1",
    "LD_PRELOAD": "/nowhere.so",
    "LARGE": "8 kB of text. " * 585,
}


def test_values_of_variables_reach_the_container_byte_for_byte(fleet: Fleet, image: str) -> None:
    lines = [f'printf %s "${name}" | sha256sum | cut -c1-64' for name in NASTY]
    instance = fleet.run(image=image, script="\n".join(lines), env=NASTY)
    seen = fleet.world.final(instance).log_tail.split()
    assert dict(zip(NASTY, seen, strict=True)) == {
        name: hashlib.sha256(value.encode()).hexdigest() for name, value in NASTY.items()
    }


def test_words_of_a_command_are_not_split_or_expanded(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, command=["/bin/printf", "[%s]"], args=["a b", "$(id)", "", "*"])
    assert fleet.world.final(instance).log_tail == "[a b][$(id)][][*]"


@pytest.mark.parametrize(
    ("repository", "finished_as"),
    [
        ("missing:1", "ImagePullFailed"),
        ("spotjob-test:no-such-tag", "ImagePullFailed"),
        ("denied:1", "ImagePullFailed"),
        ("broken:1", "RegistryUnavailable"),
        ("limited:1", "RegistryUnavailable"),
    ],
)
def test_what_the_registry_says_decides_how_a_pull_failed(
    fleet: Fleet, registry: Registry, repository: str, finished_as: str
) -> None:
    instance = fleet.run(image=f"{registry.host}/{repository}")
    report = fleet.world.final(instance)
    assert report.finished_as == finished_as
    assert report.exit_code is None
    assert report.message
    tries = fleet.agent_log(instance).count("spotjob-agent: pull:")
    assert tries == (1 if finished_as == "ImagePullFailed" else 3)


def test_a_registry_that_does_not_listen_is_unavailable(fleet: Fleet) -> None:
    instance = fleet.run(image="127.0.0.1:1/spotjob-test:1")
    assert fleet.world.final(instance).finished_as == "RegistryUnavailable"


def test_the_login_of_a_registry_is_used(fleet: Fleet, private_registry: Registry) -> None:
    user, password = LOGIN
    login = {private_registry.host: RegistryAuth(username=user, password=password)}
    without = fleet.run(image=f"{private_registry.host}/spotjob-test:latest")
    having = fleet.run(image=private_registry.image_name, registry_auth=login)
    assert fleet.world.final(having).exit_code == 0
    assert fleet.world.final(without).finished_as == "RegistryUnavailable"
    assert password not in fleet.agent_log(having)


def test_a_program_that_the_image_does_not_have_is_no_success(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, command=["/no/such/program"])
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) in [("Exited", 127), ("StartFailed", None)]
    assert "/no/such/program" in report.log_tail + report.message


def test_a_killed_agent_finds_its_container_and_reports_its_code(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script=f"echo run; {UNTIL_GO}; exit 5")
    fleet.world.until(lambda: fleet.running(instance))
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    fleet.go(instance)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.log_tail) == (5, "run\n")
    assert len(fleet.world.claims[instance]) == 1


def test_an_agent_that_is_killed_again_and_again_runs_the_container_once(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script=f"echo run; {UNTIL_GO}; exit 6")
    for step in ("pair.json", "begun.json"):
        fleet.world.until(lambda step=step: step in _state(fleet, instance))  # type: ignore[misc]
        os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    fleet.go(instance)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.log_tail) == (6, "run\n")
    assert len({claim.nonce for claim in fleet.world.claims[instance]}) == 1


def test_after_a_notice_the_container_is_signalled_in_time_and_its_exit_counts_as_signalled(
    fleet: Fleet, image: str
) -> None:
    script = f'trap "{UNTIL_GO}; cat $SPOTJOB_INTERRUPTION_FILE; exit 0" TERM; while :; do sleep 0.1; done'
    # A minute, so that a signal at the reclaim itself cannot pass for one that a stall has delayed.
    orders = {"signal": "SIGTERM", "seconds_before": 60}
    instance = fleet.run(image=image, script=script, interruption=orders)
    fleet.world.until(lambda: _kinds(fleet.world, instance) == ["started"])
    reclaim = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=62)
    fleet.world.reclaims[instance] = reclaim
    # The end comes after the first notice has arrived: two threads tell of them.
    fleet.world.until(lambda: "notice" in _kinds(fleet.world, instance))
    fleet.go(instance)
    report = fleet.world.final(instance)
    assert _kinds(fleet.world, instance) == ["started", "notice", "notice", "finished"]
    assert {known.at for known in fleet.world.reports[instance][1:3]} == {reclaim}
    assert (report.exit_code, report.signalled) == (0, True)
    assert -0.2 < (report.at - (reclaim - timedelta(seconds=60))).total_seconds() < 40
    assert json.loads(report.log_tail) == {"action": "terminate", "time": f"{reclaim:%Y-%m-%dT%H:%M:%SZ}"}


def test_an_exit_before_the_signal_is_not_signalled(fleet: Fleet, image: str) -> None:
    script = "until [ -s $SPOTJOB_INTERRUPTION_FILE ]; do sleep 0.1; done; exit 0"
    instance = fleet.run(image=image, script=script)
    fleet.world.reclaims[instance] = datetime.now(UTC) + timedelta(seconds=100)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.signalled) == (0, False)
    assert "notice" in _kinds(fleet.world, instance)


def test_secrets_are_blanked_out_of_the_log_tail_and_never_logged(fleet: Fleet, image: str) -> None:
    secret, callback = "s3cret-value", "callback-token-0123"
    env = {"PASSWORD": secret, "SPOTJOB_CALLBACK_TOKEN": callback}
    instance = fleet.run(image=image, script="env", env=env, mask=[secret])
    tail = fleet.world.final(instance).log_tail
    assert "PASSWORD=***" in tail
    seen = tail + fleet.agent_log(instance) + fleet.machines.console(instance)
    assert not [word for word in (secret, callback, AGENT_TOKEN, LAUNCH_TOKEN) if word in seen]


def test_a_log_tail_has_at_most_2048_bytes_of_whole_characters(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="for i in $(seq 2000); do printf ü; done; echo .")
    tail = fleet.world.final(instance).log_tail
    assert tail == "ü" * 1023 + ".\n"


def test_an_api_that_is_away_at_the_end_gets_the_result_later(fleet: Fleet, image: str) -> None:
    fleet.world.refusals["report"] = 503
    instance = fleet.run(image=image, script="exit 4")
    fleet.world.until(lambda: "result.json" in _state(fleet, instance))
    del fleet.world.refusals["report"]
    assert fleet.world.final(instance).exit_code == 4


def test_a_stored_result_is_reported_by_the_next_agent(fleet: Fleet, image: str) -> None:
    fleet.world.refusals["report"] = 503
    instance = fleet.run(image=image, script="exit 4")
    fleet.world.until(lambda: "result.json" in _state(fleet, instance))
    _reboot(fleet, instance)
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    del fleet.world.refusals["report"]
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) == ("Exited", 4)


def test_a_host_that_rebooted_under_the_container_leaves_no_exit_code(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 600")
    fleet.world.until(lambda: fleet.running(instance))
    _reboot(fleet, instance)
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    fleet.machines.docker.call("POST", f"/containers/spotjob-{instance}/kill")
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) == ("HostRebooted", None)


def test_a_container_that_somebody_removed_is_not_made_again(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 600")
    fleet.world.until(lambda: fleet.running(instance))
    fleet.machines.docker.call("DELETE", f"/containers/spotjob-{instance}?force=1")
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) == ("Exited", None)


def test_the_next_agent_does_not_make_a_removed_container_again_either(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 600")
    fleet.world.until(lambda: fleet.running(instance))
    os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    fleet.machines.docker.call("DELETE", f"/containers/spotjob-{instance}?force=1")
    report = fleet.world.final(instance)
    assert (report.finished_as, report.exit_code) == ("Exited", None)


def test_limits_are_set_on_the_container(fleet: Fleet, image: str) -> None:
    limits = Limits(nano_cpus=64_000_000_000, memory_bytes=64 * 1024 * 1024)
    instance = fleet.run(image=image, script="sleep 600", limits=limits)
    if not fleet.real:
        assert "NO CONTAINER" in fleet.world.final(instance).message
        return
    fleet.world.until(lambda: fleet.containers(instance))
    host = json.loads(fleet.machines.docker.call("GET", f"/containers/spotjob-{instance}/json"))["HostConfig"]
    assert host["Memory"] == 64 * 1024 * 1024
    assert host["NanoCpus"] == (os.cpu_count() or 1) * 1_000_000_000


def test_memory_that_runs_out_is_told_from_a_kill(fleet: Fleet, image: str) -> None:
    limits = Limits(memory_bytes=8 * 1024 * 1024)
    instance = fleet.run(image=image, script="exec tail /dev/zero", limits=limits)
    report = fleet.world.final(instance)
    if fleet.real:
        assert (report.exit_code, report.out_of_memory) == (137, True)
    else:
        assert "NO CONTAINER" in report.message


@pytest.mark.parametrize(("call", "status"), [("claim", 409), ("claim", 403), ("assignment", 401)])
def test_an_instance_that_is_refused_powers_itself_off(fleet: Fleet, image: str, call: str, status: int) -> None:
    fleet.world.refusals[call] = status
    instance = fleet.run(image=image)
    assert fleet.off[instance].wait(60)
    assert fleet.world.reports[instance] == []


def test_an_instance_waits_for_its_assignment(fleet: Fleet, image: str) -> None:
    instance = fleet.new_id()
    fleet.boot(instance)
    fleet.world.until(lambda: "first.json" in _state(fleet, instance))
    fleet.world.assign(instance, image=image)
    assert fleet.world.final(instance).exit_code == 0


def _kinds(world: World, instance: str) -> list[str]:
    return [report.kind for report in world.reports[instance]]


def _state(fleet: Fleet, instance: str) -> list[str]:
    """The files that the agent has written."""
    folder = fleet.folder(instance) / "disk/var/lib/spotjob"
    return os.listdir(folder) if folder.exists() else []


def _reboot(fleet: Fleet, instance: str) -> None:
    """The next agent finds another boot id. To be called before this one, which has read its own, is killed."""
    (fleet.folder(instance) / "disk/proc/sys/kernel/random/boot_id").write_text("another\n")

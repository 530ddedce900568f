"""The machines under simulated instances: boot, power-off, kill timer, halt, and that nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spotjob.core.userdata import render
from spotjob.local.docker import Docker
from spotjob.local.processes import MARKER
from tests.agent.fleet import AGENT, Fleet
from tests.agent.world import LAUNCH_TOKEN


def processes_of(fleet: Fleet, instance: str) -> list[int]:
    """Every process of this host that has the machine's disk in its environment."""
    mark = f"SPOTJOB_ROOT={fleet.folder(instance) / 'disk'}".encode()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in environment_of(pid)]


def until_no_process(fleet: Fleet, instance: str) -> None:
    """What the agent had started was killed with it, and may be on its way out."""
    fleet.world.until(lambda: not processes_of(fleet, instance))


def environment_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended meanwhile
        return []


def boot(fleet: Fleet, user_data: str) -> str:
    instance = fleet.new_id()
    fleet.off[instance], fleet.halted[instance] = threading.Event(), threading.Event()
    fleet.machines.boot(instance, user_data, fleet.world.imds(instance), fleet.off[instance].set)
    return instance


def test_a_halt_asks_the_container_to_end_and_leaves_nothing_behind(
    fleet: Fleet, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet.machines, "_grace_seconds", 40.0)  # of which this container needs one, if nothing stalls
    call = (
        f'wget -q -O /dev/null --header "Authorization: Bearer term" --post-data "{{}}" {fleet.world.url}/v1/callback'
    )
    script = f"trap 'sleep 0.7; {call}; exit 0' TERM; while :; do sleep 0.1; done"
    instance = fleet.run(image=image, script=script)
    fleet.world.until(lambda: fleet.running(instance))
    assert processes_of(fleet, instance)
    fleet.halt(instance)
    assert fleet.world.callbacks == ["term"]
    assert fleet.containers(instance) == 0
    until_no_process(fleet, instance)


def test_a_halted_agent_does_not_report_what_the_halt_did(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 60")
    fleet.world.until(lambda: fleet.running(instance))
    fleet.halt(instance)
    assert [report.kind for report in fleet.world.reports[instance] if report.kind == "finished"] == []


def test_a_container_that_does_not_listen_is_killed_after_the_grace(
    fleet: Fleet, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the engine is asked for: its own grace, should ours get lost, could pass for a stall of the machine.
    ended: list[float] = []
    end = fleet.machines.docker.end
    monkeypatch.setattr(fleet.machines.docker, "end", lambda *given: (ended.append(given[1]), end(*given)))
    instance = fleet.run(image=image, script='trap "" TERM; while :; do sleep 0.1; done')
    fleet.world.until(lambda: fleet.running(instance))
    fleet.halt(instance)
    assert set(ended) == {fleet.machines._grace_seconds}
    assert fleet.containers(instance) == 0


def test_a_halt_during_the_boot_leaves_nothing_behind(fleet: Fleet, image: str) -> None:
    instances = [fleet.run(image=image, script="sleep 60") for _ in range(5)]
    for instance, seconds in zip(instances, (0, 0.05, 0.2, 0.3, 0.4), strict=True):
        fleet.halted[instance].wait(seconds)  # so that they are at different steps
        fleet.halt(instance)
    assert [fleet.containers(instance) for instance in instances] == [0] * 5
    for instance in instances:
        until_no_process(fleet, instance)


def test_an_instance_that_never_booted_halts(fleet: Fleet) -> None:
    halted = threading.Event()
    fleet.machines.halt("i-never", halted.set)
    assert halted.wait(60)
    assert fleet.machines.console("i-never") == ""


def test_the_disk_goes_with_the_instance_and_the_console_stays(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image)
    fleet.world.final(instance)
    assert fleet.halted[instance].wait(60)
    fleet.halt(instance)
    assert not (fleet.folder(instance) / "disk").exists()
    assert "SPOTJOB-RESULT" in fleet.machines.console(instance)


def test_the_kill_timer_moves_to_the_limit_of_the_attempt(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 60", hours=3 / 3600)
    limit = fleet.world.jobs[instance].power_off_at
    assert fleet.off[instance].wait(60)  # of the 300 s that the window has
    assert datetime.now(UTC) > limit - timedelta(seconds=1.1)  # a calendar has whole seconds
    assert fleet.world.reports[instance][1:] == []  # it may have reported the start


def test_the_kill_timer_ends_an_instance_whose_image_never_comes(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host, port = silent.getsockname()
        instance = fleet.run(image=f"{host}:{port}/patience", start_by=datetime.now(UTC) + timedelta(seconds=3))
        assert fleet.off[instance].wait(60)
    assert fleet.world.reports[instance] == []


@pytest.mark.parametrize("killed", [False, True], ids=["an agent that lives", "an agent that is killed"])
def test_the_kill_timer_lets_a_container_that_has_begun_run_on(fleet: Fleet, image: str, killed: bool) -> None:
    start_by = datetime.now(UTC) + timedelta(seconds=25)  # it takes about 2 s, and lawfully fails after start_by
    script = f"until [ $(date +%s) -gt {start_by.timestamp() + 1:.0f} ]; do sleep 0.2; done"
    instance = fleet.run(image=image, script=script, start_by=start_by)
    if killed:
        fleet.world.until(lambda: fleet.running(instance))
        os.kill(fleet.agent_pid(instance), signal.SIGKILL)
    report = fleet.world.final(instance)
    assert (report.exit_code, report.at > start_by) == (0, True)


def test_the_kill_timer_closes_the_window_without_an_agent(fleet: Fleet) -> None:
    instance = boot(fleet, render("import time; time.sleep(60)", fleet.world.url, 1))
    assert fleet.off[instance].wait(60)


def test_a_machine_whose_units_cannot_be_read_powers_off(fleet: Fleet) -> None:
    instance = boot(fleet, "systemctl start spotjob-agent.service; sleep 60")
    assert fleet.off[instance].wait(60)


def test_an_agent_that_nobody_gives_a_job_powers_the_instance_off_by_itself(fleet: Fleet) -> None:
    without_kill_timer = render(AGENT, fleet.world.url, 2, LAUNCH_TOKEN).replace("+2 seconds", "+300 seconds")
    instance = boot(fleet, without_kill_timer)
    assert fleet.off[instance].wait(60)
    assert "no answer in time" in fleet.agent_log(instance)


def test_a_bootstrap_that_fails_powers_the_instance_off(fleet: Fleet) -> None:
    good = render(AGENT, fleet.world.url, 300)
    instance = boot(fleet, good.replace("install -m 600", "false"))
    assert fleet.off[instance].wait(60)
    assert "SPOTJOB-BOOTSTRAP failed in line" in fleet.machines.console(instance)


def test_an_agent_that_dies_is_started_again(fleet: Fleet) -> None:
    agent = "import os, pathlib\nwith open(os.environ['SPOTJOB_ROOT'] + '/lives', 'a') as f: f.write('x')\nos.abort()\n"
    instance = boot(fleet, render(agent, fleet.world.url, 300))
    lives = fleet.folder(instance) / "disk/lives"
    fleet.world.until(lambda: lives.exists() and len(lives.read_text()) >= 2)


def test_every_process_carries_the_platforms_mark(fleet: Fleet, image: str) -> None:
    instance = fleet.run(image=image, script="sleep 60")
    mark = f"{MARKER}={fleet.machines._platform}".encode()
    agent = fleet.agent_pid(instance)
    fleet.world.until(lambda: mark in environment_of(agent))  # empty while it becomes its program


def test_the_agents_settings_are_for_its_user_only(fleet: Fleet) -> None:
    instance = fleet.new_id()
    fleet.boot(instance)
    fleet.agent_pid(instance)
    settings = fleet.folder(instance) / "disk/etc/spotjob/agent.env"
    assert settings.stat().st_mode & 0o777 == 0o600


def test_twenty_instances_at_once_each_run_their_container_once(fleet: Fleet, image: str) -> None:
    instances = [fleet.run(image=image, script=f"echo run {number}; exit {number}") for number in range(20)]
    reports = [fleet.world.final(instance, 200) for instance in instances]
    assert [report.exit_code for report in reports] == list(range(20))
    assert [report.log_tail for report in reports] == [f"run {number}\n" for number in range(20)]
    assert all(fleet.halted[instance].wait(60) for instance in instances)


def test_an_engine_that_breaks_off_in_its_answer_has_not_answered(tmp_path: Path) -> None:
    """Else the machine would never be halted: who halts it waits out an OSError, and nothing else."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "engine.sock"))
        listener.listen()

        def break_off() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[]")

        thread = threading.Thread(target=break_off)
        thread.start()
        with pytest.raises(OSError, match="IncompleteRead"):
            Docker(tmp_path / "engine.sock").containers("spotjob.instance=i-1")
        thread.join()

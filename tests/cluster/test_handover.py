"""Two operators on the real API server: one is killed, told to end or frozen while fifty jobs are launched."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from spotjob.local.laptop import Platform
from tests.cluster.replicas import LEASE_SECONDS, NAMES, WINDOW_SECONDS, Replicas, Runs, replicas
from tests.e2e.platform import DONE, Person

pytestmark = pytest.mark.e2e

JOBS, AT_ONCE = 50, 5
EXIT_SECONDS = 4.0
"""kopf alone would take five: so long it waits for tasks that it does not know."""
TRIES = 3
"""Of which one must be so quick: a neighbour on this machine may slow down any of them, and never speeds one up."""
STUCK_SECONDS = 40
"""How long the launch of the last test has no answer."""
LAUNCHED = "Requested/Booting"
"""What an operator logs when it has bound an instance."""
GIVEN_BACK = ""
"""The holder of a Lease that nobody holds."""
FROZEN_SECONDS = 2.0 * LEASE_SECONDS
BEGUN = {"Running", "FinishedOK", "TerminatedOK"}
"""Phases of a job whose container has begun; the shortest are never seen to run."""


@pytest.fixture(scope="module")
def both(laptop: Platform) -> Iterator[Replicas]:
    with replicas(laptop) as both:
        yield both


@pytest.fixture
def person(both: Replicas) -> Iterator[Person]:
    both.start_missing()
    person = Person(both.platform)
    yield person
    person.aws("DELETE", "faults")
    person.kubectl("delete", "spotjobs", "--all", "--wait=false", seconds=120)
    person.until(lambda: not person.jobs(), 120, "the last object is gone")


@pytest.fixture
def runs() -> Iterator[Runs]:
    with Runs() as runs:
        yield runs


def apply_in_drips(person: Person, runs: Runs, gone: threading.Event) -> list[str]:
    """Fifty jobs of 1 to 3 s, a few at a time; their names. The last come when the leader is gone, on any machine."""
    names = [f"job-{n:02}" for n in range(JOBS)]
    jobs = [person.manifest(name, runs.script(f"sleep {1 + n % 3}")) for n, name in enumerate(names)]
    for first in range(0, JOBS, AT_ONCE):
        if first == JOBS - 3 * AT_ONCE:
            gone.wait(300)
        person.apply(*jobs[first : first + AT_ONCE])
        time.sleep(0.5)
    return names


def end(both: Replicas, leader: str, number: signal.Signals) -> tuple[float, float]:
    """When it was sent, and in how many seconds the process had ended; one that is frozen does not."""
    sent = both.send(leader, number)
    return sent, 0.0 if number is signal.SIGSTOP else both.ends(leader, 60)


def quickest_exit(both: Replicas, ended: float) -> float:
    """Of the leader, told to end, in seconds; `ended` is what the first try took."""
    for _ in range(TRIES - 1):
        if ended >= EXIT_SECONDS:
            both.start_missing()
            ended = end(both, both.leader(), signal.SIGTERM)[1]
    return ended


WAYS = {"kill -9": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGSTOP": signal.SIGSTOP}


def bound_at(status: dict[str, Any]) -> float:
    """Unix time at which its one attempt got its instance, by the clock of the operator that bound it."""
    (attempt,) = status["attempts"]
    return datetime.fromisoformat(attempt["boundAt"]).timestamp()


@pytest.mark.parametrize("way", WAYS)
def test_when_the_leader_goes_the_other_one_carries_on_and_every_container_runs_once(
    both: Replicas, person: Person, runs: Runs, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    gone = threading.Event()
    with ThreadPoolExecutor(1) as other_person:
        applying = other_person.submit(apply_in_drips, person, runs, gone)
        person.until(lambda: len(person.jobs()) >= JOBS / 3 and BEGUN & {*person.phases()}, 60, "jobs to run")
        leader = both.leader()
        (other,) = {*NAMES} - {leader}
        sent, ended_in = end(both, leader, WAYS[way])
        gone.set()
        taken = both.holders.taken(lambda holder: holder == other, after=sent, seconds=60) - sent
        if way == "SIGSTOP":
            time.sleep(max(0.0, sent + FROZEN_SECONDS - time.time()))
            woken = both.send(leader, signal.SIGCONT)
        names = applying.result()
    person.until(lambda: all(phase in DONE for phase in person.phases()), 240, "all to end")
    learnt, bound = (both.log(other, text, after=sent)[0] - sent for text in ("leading:", LAUNCHED))
    exit_ = "" if way == "SIGSTOP" else f"; the process ended after {ended_in:.2f} s"
    with capsys.disabled():
        print(
            f"\n{way} of the leader: Lease taken after {taken:.2f} s, ledger built after {learnt:.2f} s, "
            f"first instance bound after {bound:.2f} s{exit_}"
        )
    # How long each may take stands in tests/simulation/test_lease.py, where no neighbour can slow the clock down.
    assert both.holders.until(other, after=sent) == ([GIVEN_BACK] if way == "SIGTERM" else [])
    ended = {name: job["status"] for name, job in person.jobs().items()}
    assert [status for status in ended.values() if status["phase"] != "TerminatedOK"] == []
    assert runs.counted == dict.fromkeys(names, 1)
    assert {name: len(status["attempts"]) for name, status in ended.items()} == dict.fromkeys(names, 1)
    if way == "SIGSTOP":
        assert both.holders.now == other
        assert both.log(leader, "leading:", after=woken) == []
        # A bind that it logs now was under way when it was frozen: its time is from before.
        frozen = woken - FROZEN_SECONDS / 2
        assert [job for job in both.jobs(leader, LAUNCHED, after=woken) if bound_at(ended[job]) > frozen] == []
    if way == "SIGTERM":
        assert quickest_exit(both, ended_in) < EXIT_SECONDS
    # An instance that the old leader launched and nobody needs any more powers itself off at W.
    person.until(lambda: not person.alive(), WINDOW_SECONDS + 90, "no instance to be alive")


def test_a_launch_without_an_answer_does_not_hold_up_the_exit_and_serves_the_next_leader(
    both: Replicas, person: Person, runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    person.aws("POST", "fault", {"action": "CreateFleet", "delaySeconds": STUCK_SECONDS})
    leader, launches = both.leader(), person.calls("CreateFleet")
    person.apply(person.manifest("patient", runs.script("true")))
    person.until(lambda: person.calls("CreateFleet") > launches, 30, "the launch to be under way")
    both.send(leader, signal.SIGTERM)
    ended = both.ends(leader, 60)
    with capsys.disabled():
        print(f"\nSIGTERM with a CreateFleet under way: the process ended after {ended:.2f} s")
    status = person.finished("patient")
    # By far not as long as the call has no answer. How quick an exit is, the test above asks more than once.
    assert ended < STUCK_SECONDS / 2
    assert (status["phase"], len(status["attempts"]), runs.counted["patient"]) == ("TerminatedOK", 1, 1)
    assert person.calls("CreateFleet") == launches + 1
    person.until(lambda: not person.alive(), 60, "no instance to be alive")

"""The main job, seen from kubectl: what is promised of it, each as one test."""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from spotjob.local.layout import API, OPERATOR
from tests.e2e.platform import UNTIL_LET_GO, Person

NASTY = {
    "QUOTES": """it's "quoted" \\ and \\"escaped\\" """,
    "SPACES": "  two  spaces  ",
    "NEWLINES": "first\nsecond\r\nthird\n",
    "COMMANDS": "$(id) `id` ${HOME} $HOME %s %% ; rm -rf / && true | cat > x",
    "UNICODE": "ÄÖÜ ☃ 漢字 🚀",
    "LONG": "0123456789abcdef" * 512,
    "EMPTY": "",
}


def test_a_hundred_jobs_at_once_cost_few_launches_and_few_writes(person: Person):
    launches, writes = person.calls("CreateFleet"), person.writes()
    jobs = [person.manifest(f"job-{n:03}", "echo $SPOTJOB_NAME; sleep 3") for n in range(100)]
    begun = time.monotonic()
    person.apply(*jobs)
    applied = time.monotonic() - begun
    person.until(
        lambda: person.phases() == ["TerminatedOK"] * 100 and not any(_finalizers(person)), 240, "all to end well"
    )
    launched = person.calls("CreateFleet") - launches
    print(f"{launched} launches; kubectl needed {applied:.1f} s for the jobs")
    # A launch waits a quarter of a second for company: kubectl on a busy machine may bring some that late.
    assert launched <= max(10, 4 * applied)
    made = person.writes() - writes
    print(f"requests to write SpotJobs, 100 creations among them: {dict(made)}")
    # Seven a job, which is 700. A job whose first launch failed, or that lost its lease for a moment, costs one more.
    assert made["written"] - 100 <= 720
    # Refused or broken off: 0 on a quiet machine. On a loaded one the lease may lapse and calls are given up.
    assert made.total() - made["written"] <= 50
    held = {job["metadata"]["uid"] for job in person.jobs().values()}
    assert held <= {item["id"] for item in person.items()}
    person.leave_no_instance(30)
    names = {name: job["status"]["attempts"][-1]["logTail"] for name, job in person.jobs().items()}
    assert all(output == f"{name}\n" for name, output in names.items())


def _finalizers(person: Person) -> list[str]:
    return [f for job in person.jobs().values() for f in job["metadata"].get("finalizers", [])]


def test_a_failing_container_shows_its_exit_code_and_last_lines(person: Person):
    person.apply(person.manifest("seven", "echo something went wrong; exit 7"))
    status = person.finished("seven")
    assert (status["phase"], status["reason"], status["exitCode"]) == ("TerminatedNOK", "ContainerFailed", 7)
    assert status["attempts"][0]["logTail"] == "something went wrong\n"


def test_an_image_that_does_not_exist_fails_the_job_at_once(person: Person):
    person.apply(person.manifest("nothing", image=f"{person.layout.registry}/missing:1", backoffLimit=3))
    status = person.finished("nothing")
    assert (status["phase"], status["reason"], len(status["attempts"])) == ("TerminatedNOK", "ImagePullFailed", 1)


def test_a_registry_that_fails_is_a_launch_error_and_is_tried_again(person: Person):
    person.apply(
        person.manifest("broken", image=f"{person.layout.registry}/broken:1"),
        person.manifest("silent", image="127.0.0.1:9/nobody/listens:1"),
    )
    for name in ("broken", "silent"):
        # It backs off for seconds only: whoever looks late sees it in a later round, or between two.
        status = person.reason(name, "BackingOff", seconds=90)
        assert status["phase"] == "Requested"
        ended = [attempt["outcome"] for attempt in status["attempts"]]
        assert ended == ["RegistryUnavailable"] * status["counts"]["launchErrors"]
        assert ended
        assert status["nextAttemptTime"] is not None


def test_environment_values_reach_the_container_byte_for_byte(person: Person):
    script = (
        "\n".join(f'printf %s "${name}" | md5sum | cut -c1-32' for name in NASTY) + '\nprintf %s "$UNICODE" | base64'
    )
    env = [{"name": name, "value": value} for name, value in NASTY.items()]
    person.apply(person.manifest("bytes", script, env=env))
    *sums, unicode = person.finished("bytes")["attempts"][-1]["logTail"].split()
    assert sums == [hashlib.md5(value.encode()).hexdigest() for value in NASTY.values()]
    assert base64.b64decode(unicode).decode() == NASTY["UNICODE"]


def test_a_deleted_job_goes_when_its_container_has_stopped_and_its_instance_goes(person: Person):
    person.apply(person.manifest("long", "sleep 300"))
    instance = person.reason("long", "ContainerRunning")["instanceID"]
    # The container has 10 s, its last report 30 s more; then the instance is terminated.
    person.kubectl("delete", "spotjob", "long", "--wait", "--timeout=180s", seconds=200)
    [known] = [i for i in person.instances() if i["id"] == instance]
    assert known["state"] in ("shutting-down", "terminated")
    person.leave_no_instance(30)
    [item] = [i for i in person.items() if i["name"] == "long"]
    assert (item["jobStatus"], item["reason"]) == ("TerminatedNOK", "Cancelled")


@pytest.mark.parametrize("part", [OPERATOR, API])
def test_a_killed_process_is_continued_and_every_container_runs_once(person: Person, part: str):
    jobs = [person.manifest(f"kill-{n:02}", f"echo ran; {UNTIL_LET_GO}") for n in range(20)]
    person.apply(*jobs)
    person.until(lambda: person.phases().count("Running") >= 10, 90, "half of the jobs to run")
    person.laptop.kill(part)
    ending: set[str] = set()
    _let_go(person, ending)  # containers end meanwhile, and nobody is there to hear of it
    person.until(lambda: all("SPOTJOB-RESULT" in person.console(i) for i in ending), 30, "their results")
    person.laptop.start(part)
    let_go = set(ending)
    person.until(lambda: _let_go(person, let_go) and person.phases() == ["TerminatedOK"] * 20, 120, "all to end well")
    attempts = {name: job["status"]["attempts"] for name, job in person.jobs().items()}
    assert {name: [a.get("logTail") for a in tried] for name, tried in attempts.items()} == {
        name: ["ran\n"] for name in attempts
    }
    person.leave_no_instance(30)


def _let_go(person: Person, already: set[str]) -> bool:
    """Every container that is known to run, once: its instance is gone soon after."""
    running = [job["status"] for job in person.jobs().values() if job.get("status", {}).get("phase") == "Running"]
    for instance in {status["instanceID"] for status in running} - already:
        person.let_go(instance)
        already.add(instance)
    return True


def test_one_empty_pool_of_three_sends_jobs_to_the_others(person: Person):
    person.capacity(0, zone="us-east-1a")
    person.apply(*[person.manifest(f"pool-{n}", instanceTypes=["m7i.large"]) for n in range(12)])
    person.until(lambda: person.phases() == ["TerminatedOK"] * 12, 90, "all to end well")
    used = {tried["availabilityZone"] for job in person.jobs().values() for tried in job["status"]["attempts"]}
    assert used
    assert "us-east-1a" not in used


def test_without_capacity_a_job_says_so_and_runs_when_there_is_some(person: Person):
    person.capacity(0)
    person.apply(person.manifest("patient"))
    status = person.reason("patient", "InsufficientCapacity")
    assert (status["phase"], bool(status["nextAttemptTime"])) == ("Requested", True)
    assert not person.alive()
    person.capacity(None)
    assert person.finished("patient", seconds=90)["phase"] == "TerminatedOK"


def test_an_interrupted_job_goes_on_with_a_second_attempt(person: Person):
    person.apply(person.manifest("reclaimed", "[ $SPOTJOB_ATTEMPT = 2 ] || sleep 300"))
    instance = person.reason("reclaimed", "ContainerRunning")["instanceID"]
    person.aws("POST", "interrupt", {"instanceId": instance, "warningSeconds": 3})
    status = person.finished("reclaimed", seconds=90)
    assert [a["outcome"] for a in status["attempts"]] == ["Interrupted", "Succeeded"]
    assert status["phase"] == "TerminatedOK"
    assert status["counts"] == {"failures": 0, "interruptions": 1, "launchErrors": 0}


def test_a_container_cannot_call_back_for_another_attempt(person: Person):
    call = (
        'wget -O - --header "Authorization: Bearer $SPOTJOB_CALLBACK_TOKEN" --header "Content-Type: application/json" '
        """--post-data '{"status": "ok", "uid": "somebody-else"}' "$SPOTJOB_CALLBACK_URL" 2>&1; true"""
    )
    person.apply(person.manifest("meddler", call))
    status = person.finished("meddler")
    assert "403" in status["attempts"][0]["logTail"]
    assert "callback" not in status["attempts"][0]

"""What the command line offers beyond the first Sequencer's: signals, resuming, parts, records, output."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess

import pytest

from tests.sequencer.account import AT_ONCE, FIXTURE, LOOKS, Account, a_step, ended, kill, said, until

THREE = "".join(a_step(name) for name in ("one", "two", "three"))


def tell(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)


# ---- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_s3_a_signal_stops_the_running_task_and_ends_with_its_own_exit_code(
    account: Account, number: signal.Signals, code: int
) -> None:
    account.rule(seconds=None)
    process = account.start(account.write(THREE))
    said(process, LOOKS)
    tell(process, number)
    end = ended(process)
    assert end.code == code
    assert end.texts[-1] == f"failure... exiting with code {code}"
    assert [(task["lastStatus"], task["stopCode"]) for task in account.tasks] == [("STOPPED", "UserInitiated")]
    assert [step["state"] for step in account.record()["steps"]] == ["Stopped", "Skipped", "Skipped"]


def test_s3_a_second_signal_leaves_at_once_and_names_what_still_runs(account: Account) -> None:
    account.rule(seconds=None, sigtermExitCode=None)
    process = account.start(account.write(THREE))
    said(process, LOOKS)
    tell(process, signal.SIGTERM)
    said(process, "is being stopped")
    until(lambda: account.calls.get("StopTask"))
    tell(process, signal.SIGINT)
    end = ended(process, seconds=AT_ONCE)
    assert end.code == 143
    assert f"one may still run: {account.tasks[0]['arn']}" in end.errors
    assert any(f"--resume {account.run_id()}" in text for text in end.texts)


def test_a_detached_run_leaves_its_task_running_and_can_be_taken_up(account: Account) -> None:
    account.rule(seconds=None, times=1)
    file = account.write(THREE)
    process = account.start(file, "--detach")
    said(process, f"{LOOKS}: RUNNING")
    tell(process, signal.SIGTERM)
    end = ended(process, seconds=AT_ONCE)
    assert end.code == 143
    assert "StopTask" not in account.calls
    (task,) = account.tasks
    assert task["lastStatus"] == "RUNNING"
    account.exits(task["arn"])
    assert account.run(file, "--resume", account.run_id()).code == 0
    assert account.effects == 3


def test_a_stopped_run_goes_on_with_the_step_that_was_stopped(account: Account) -> None:
    account.rule(seconds=None)
    file = account.write(THREE)
    process = account.start(file)
    said(process, LOOKS)
    tell(process, signal.SIGTERM)
    ended(process)
    account.rule(seconds=0.1)
    assert account.run(file, "--resume", account.run_id()).code == 0
    assert account.effects == 4


# ---- resuming -------------------------------------------------------------------------------------------------------


def test_a_failed_run_goes_on_with_the_step_that_failed(account: Account) -> None:
    account.rule(family="test-task-def", exitCode=0, times=1)
    account.rule(exitCode=1, times=1)
    file = account.write(THREE)
    assert account.run(file).code == 1
    assert account.run(file, "--resume", account.run_id()).code == 0
    assert account.effects == 4


def test_a_run_that_succeeded_is_not_run_again(account: Account) -> None:
    file = account.write(THREE)
    assert account.run(file).code == 0
    assert account.run(file, "--resume", account.run_id()).code == 0
    assert account.effects == 3


def test_a_task_that_finished_while_nobody_looked_is_read_and_not_run_again(account: Account) -> None:
    account.rule(seconds=0.5)
    file = account.write(THREE)
    process = account.start(file)
    said(process, LOOKS)
    kill(process)
    until(lambda: account.tasks[0]["lastStatus"] == "STOPPED")
    end = account.run(file, "--resume", account.run_id())
    assert (end.code, account.effects) == (0, 3)


def test_a_run_is_not_taken_up_with_another_file(account: Account) -> None:
    file = account.write(THREE)
    account.run(file)
    account.write(THREE + a_step("four"))
    end = account.run(file, "--resume", account.run_id())
    assert (end.code, account.effects) == (2, 3)
    assert "the file is not the one that this run was started with" in end.errors[0]


@pytest.mark.parametrize("run_id", ["20261122-080312-5f2c9a", "../../etc/passwd", "a/b"])
def test_a_run_without_a_record_is_an_error(account: Account, run_id: str) -> None:
    end = account.run(account.write(THREE), "--resume", run_id)
    assert (end.code, account.calls) == (2, {})


def test_two_processes_never_drive_one_run(account: Account) -> None:
    account.rule(seconds=None)
    file = account.write(THREE)
    first = account.start(file)
    said(first, LOOKS)
    second = account.run(file, "--resume", account.run_id())
    assert second.code == 1
    assert "another process drives the run" in second.errors[0]
    tell(first, signal.SIGTERM)
    assert ended(first).code == 143
    assert account.effects == 1


# ---- parts ----------------------------------------------------------------------------------------------------------


def test_a_part_of_the_steps_is_run_by_names_or_places(account: Account) -> None:
    file = account.write(THREE)
    end = account.run(file, "--from", "two", "--until", "2")
    assert (end.code, account.effects) == (0, 1)
    assert "starting ECS task two" in end.texts


def test_a_name_that_several_steps_have_is_no_place(account: Account) -> None:
    end = account.run(account.write(THREE + a_step("one")), "--from", "one")
    assert (end.code, account.calls) == (2, {})
    assert end.errors == ["--from one: several steps have this name; give one of the places 1, 4"]


@pytest.mark.parametrize("part", [("--from", "4"), ("--until", "0"), ("--from", "three", "--until", "one")])
def test_a_part_that_there_is_not_is_an_error(account: Account, part: tuple[str, ...]) -> None:
    assert account.run(account.write(THREE), *part).code == 2
    assert account.calls == {}


# ---- output ---------------------------------------------------------------------------------------------------------


def test_a_dry_run_prints_the_requests_and_calls_nobody(account: Account) -> None:
    end = account.run(account.write(FIXTURE), "--dry-run", "--from", "turkey_fingers")
    assert end.code == 0
    (step,) = json.loads(end.out)["steps"]
    assert step["request"] == {
        "cluster": "yourcluster2",
        "taskDefinition": "test-task-def:2",
        "count": 1,
        "launchType": "FARGATE",
        "startedBy": "sequencer/RUN/2/1",
    }
    assert account.calls == {}
    assert not account.state.exists()


def test_the_record_is_printed_as_one_document_and_the_log_goes_to_stderr(account: Account) -> None:
    account.rule(exitCode=5, log=["row 7 is bad"])
    end = account.run(account.write(THREE), "--output", "json")
    record = json.loads(end.out)
    assert end.code == 1
    assert record == account.record()
    assert record["steps"][0]["containers"][0]["exitCode"] == 5
    assert "row 7 is bad" in record["steps"][0]["message"]
    assert "SEQUENCER_ERROR: task failed error" in end.err


def test_log_lines_can_be_json(account: Account) -> None:
    end = account.run(account.write(THREE), "--log-format", "json")
    lines = [json.loads(line) for line in end.out.splitlines()]
    assert {"level": "INFO", "message": "starting ECS task one"}.items() <= lines[2].items()


def test_values_are_put_in_by_set_and_from_results(account: Account) -> None:
    account.rule(times=1, log=["begun", '{"rows": 42}', "done"])
    account.rule()
    later = a_step("load", parameters={"group": "${GROUP}-${steps.extract.result.rows}"})
    end = account.run(account.write(a_step("extract") + later), "--set", "GROUP=nightly")
    assert end.code == 0, end
    assert account.record()["steps"][0]["result"] == {"rows": 42}


@pytest.mark.parametrize("arguments", [("--set", "novalue"), ("--no-such-option",), ("--output", "yaml")])
def test_wrong_usage_is_told_in_the_log_with_exit_code_2(account: Account, arguments: tuple[str, ...]) -> None:
    end = account.run(account.write(THREE), *arguments)
    assert end.code == 2
    assert end.texts[-1].startswith("SEQUENCER_ERROR: ")
    assert account.calls == {}


def test_a_file_that_is_not_there_is_named(account: Account) -> None:
    end = account.run("nowhere.yml")
    assert (end.code, end.errors) == (2, ["nowhere.yml: No such file or directory"])


# ---- records --------------------------------------------------------------------------------------------------------


def test_a_record_is_readable_by_its_owner_only(account: Account) -> None:
    account.run(account.write(THREE))
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in account.state.iterdir()}
    assert modes == {0o600}


def test_a_record_may_be_one_named_file_in_which_a_new_run_follows_one_that_is_over(account: Account) -> None:
    file, record = account.write(THREE), account.folder / "record.json"
    assert [account.run(file, "--state", str(record)).code for _ in range(2)] == [0, 0]
    assert account.effects == 6


def test_a_new_run_does_not_write_over_one_that_is_open(account: Account) -> None:
    account.rule(seconds=None)
    file, record = account.write(THREE), account.folder / "record.json"
    process = account.start(file, "--state", str(record))
    said(process, LOOKS)
    kill(process)
    end = account.run(file, "--state", str(record))
    assert (end.code, account.effects) == (2, 1)
    assert f"--resume {json.loads(record.read_text())['run']['id']} takes it up" in end.errors[0]


def test_without_a_place_for_the_record_nothing_is_started(account: Account) -> None:
    (account.folder / "file").write_text("")
    end = account.run(account.write(THREE), "--state", str(account.folder / "file" / "runs"))
    assert (end.code, account.calls) == (2, {})
    assert "cannot be written, so nothing was started" in end.errors[0]


def test_runs_are_kept_in_dynamodb_and_resumed_from_there(account: Account) -> None:
    account.rule(seconds=1.0)
    file, there = account.write(THREE), ("--state", "dynamodb:SequenceRuns-cli")
    refused = account.run(file, *there)
    assert (refused.code, account.effects) == (2, 0)
    assert "SEQUENCER_STATE_CREATE_TABLE=true" in refused.errors[0]
    process = account.start(file, *there, SEQUENCER_STATE_CREATE_TABLE="true")
    run_id = said(process, "two: arn")[1].split("starting run ")[1].split(",")[0]
    kill(process)
    end = account.run(file, *there, "--resume", run_id)
    assert (end.code, account.effects) == (0, 3)

"""The first Sequencer's files, variables, texts and exit codes, and what was wrong with it (S1 to S15)."""

from __future__ import annotations

import re

import pytest

from tests.sequencer.account import FIXTURE, README, Account, Put, a_step, kill, said

ARN = "arn:aws:ecs:us-east-1:123456789012:"
GOOD_STEP = [
    r"starting ECS task {name}",
    rf"{{name}} task created {ARN}task/{{cluster}}/[0-9a-f]+ on cluster {{cluster}}",
    rf"({{name}}: {ARN}task/{{cluster}}/[0-9a-f]+ current status: [A-Z]+\n)+",
    r"{name} completed in [0-9.]+ seconds",
    rf"{{name}}: container main {ARN}container/{{cluster}}/[0-9a-f-]+/[0-9a-f-]+ completed with exit_code 0",
]


def good(name: str, cluster: str) -> str:
    return "".join(
        line.format(name=name, cluster=cluster) + ("" if line.endswith(")+") else "\n") for line in GOOD_STEP
    )


def a_whole_run(*steps: tuple[str, str]) -> str:
    return (
        r"sequencer version \S+\n"
        r"starting run \S+, record in \S+\n"
        + "".join(good(*step) for step in steps)
        + r"all steps succeeded\.\.\. exiting with code 0\n"
    )


# ---- what works as it did -------------------------------------------------------------------------------------------


def test_the_old_fixture_runs_unchanged_with_the_old_texts(account: Account) -> None:
    end = account.run(account.write(FIXTURE))
    log = "".join(f"{text}\n" for text in end.texts)
    assert re.fullmatch(a_whole_run(("chicken_butter", "yourcluster"), ("turkey_fingers", "yourcluster2")), log), log
    assert (end.code, end.err, account.effects) == (0, "", 2)


def test_the_example_of_the_old_readme_runs_unchanged_although_its_steps_share_a_name(account: Account) -> None:
    end = account.run(account.write(README))
    log = "".join(f"{text}\n" for text in end.texts)
    assert re.fullmatch(a_whole_run(("first_task", "yourcluster"), ("first_task", "yourcluster2")), log), log
    assert (end.code, account.effects) == (0, 2)


def test_an_empty_list_succeeds(account: Account) -> None:
    end = account.run(account.write("[]"))
    assert (end.code, end.texts[-1]) == (0, "all steps succeeded... exiting with code 0")


def test_without_a_file_the_old_words_are_said_and_the_exit_code_is_1(account: Account) -> None:
    end = account.run()
    assert end.lines[-1] == ("ERROR", "SEQUENCER_ERROR: YAML file not provided... exiting with error code 1")
    assert end.code == 1


def test_a_failing_task_ends_the_run_with_the_old_words_and_exit_code_1(account: Account) -> None:
    account.rule(exitCode=3)
    end = account.run(account.write(FIXTURE))
    assert end.code == 1
    assert account.effects == 1
    assert ("ERROR", "SEQUENCER_ERROR: task failed error") in end.lines
    assert end.lines[-1] == ("ERROR", "failure... exiting with code 1")
    assert any(text.endswith("completed with exit_code 3") for text in end.texts)


def test_the_file_comes_from_s3_with_one_call_as_the_variable_says(account: Account, put: Put) -> None:
    put("bucket-of-variable", "a/nightly.yml", FIXTURE)
    end = account.run(SEQUENCER_YAML_S3_PATH="s3://bucket-of-variable/a/nightly.yml")
    assert end.code == 0
    assert end.texts[1] == "downloading from S3: bucket-of-variable/a/nightly.yml"
    assert re.fullmatch(r"file last modified on: \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", end.texts[2])
    assert account.calls["GET object"] == 1


def test_a_version_of_an_object_is_read(account: Account, put: Put) -> None:
    first = put("bucket-of-versions", "nightly.yml", "[]", versions=True)
    put("bucket-of-versions", "nightly.yml", FIXTURE)
    end = account.run(f"s3://bucket-of-versions/nightly.yml?versionId={first}")
    assert (end.code, account.effects) == (0, 0)


@pytest.mark.parametrize("path", ["s3://b", "s3://b/", "S3://b/k", "s3://b/k?versionid=3", "http://b/k"])
def test_what_is_no_s3_path_is_named_and_nothing_is_called(account: Account, path: str) -> None:
    end = account.run(path)
    assert end.code == 2
    assert end.errors == [f"{path} is no S3 path: write s3://BUCKET/KEY, or s3://BUCKET/KEY?versionId=VERSION"]
    assert account.calls == {}


@pytest.mark.parametrize("text", ["abc", "-1", "0", "", "inf", "nan", "3601"])
def test_a_pause_that_is_no_number_of_seconds_is_refused(account: Account, text: str) -> None:
    end = account.run(account.write(FIXTURE), SEQUENCER_SLEEP_BETWEEN_CHECKS=text)
    assert end.code == 2
    assert f"SEQUENCER_SLEEP_BETWEEN_CHECKS: {text!r}" in end.errors[0]


# ---- what was wrong with it -----------------------------------------------------------------------------------------


def test_s1_a_run_that_was_killed_is_resumed_where_it_was(account: Account) -> None:
    file = account.write("".join(a_step(name) for name in ("one", "two", "three")))
    account.rule(seconds=1.0)
    process = account.start(file)
    said(process, "two: arn")
    kill(process)
    end = account.run(file, "--resume", account.run_id())
    assert (end.code, account.effects) == (0, 3)
    assert not any("starting ECS task one" in text or "starting ECS task two" in text for text in end.texts)


def test_s2_a_step_ends_when_its_time_is_over_and_its_task_is_stopped(account: Account) -> None:
    account.rule(seconds=None)
    end = account.run(account.write(a_step("endless", timeout_seconds=1) + a_step("next")))
    assert (end.code, account.effects) == (1, 1)
    assert account.tasks[0]["lastStatus"] == "STOPPED"
    assert "endless failed: TimedOut" in end.errors


def test_s4_what_ecs_did_not_place_for_want_of_room_is_asked_for_again(account: Account) -> None:
    account.lever("POST", "ecs-failures", reason="RESOURCE:CPU")
    end = account.run(account.write(a_step("one")))
    assert (end.code, account.effects) == (0, 1)
    assert any("RESOURCE:CPU" in text for level, text in end.lines if level == "WARN")


def test_s4_what_ecs_will_never_place_fails_the_step_with_its_reason(account: Account) -> None:
    account.lever("POST", "ecs-failures", reason="ATTRIBUTE", detail="gpu")
    end = account.run(account.write(a_step("one")))
    assert (end.code, account.effects) == (1, 0)
    assert "response from ECS ATTRIBUTE" in end.errors
    assert "one: RunTask: ATTRIBUTE gpu" in end.errors


def test_s5_every_task_of_a_count_must_succeed(account: Account) -> None:
    account.rule(exitCode=0)
    account.rule(exitCode=4, times=1)
    end = account.run(account.write(a_step("three", parameters={"count": 3})))
    assert end.code == 1
    codes = sorted(text[-1] for text in end.texts if "completed with exit_code" in text)
    assert codes == ["0", "0", "4"]


def test_s6_the_error_shows_reason_stop_code_and_the_last_lines_of_the_log(account: Account) -> None:
    reason = "OutOfMemoryError: Container killed due to memory usage"
    account.rule(exitCode=137, reason=reason, log=["loading", "no room for row 7"])
    end = account.run(account.write(a_step("one")))
    assert end.code == 1
    shown = "\n".join(end.errors)
    assert reason in shown
    assert "EssentialContainerExited" in shown
    assert "one: no room for row 7" in end.errors


def test_s7_checks_that_fail_do_not_end_the_run_while_its_task_goes_on(account: Account) -> None:
    account.fault("DescribeTasks", code="InvalidParameterException", message="injected", status=400, times=4)
    end = account.run(account.write(a_step("one")))
    assert (end.code, account.effects) == (0, 1)
    tries = [text for level, text in end.lines if level == "WARN" and "task completion check failed" in text]
    assert tries == [f"task completion check failed, trying again #{n}" for n in range(4)]


def test_s8_a_step_that_is_not_active_is_skipped_and_a_failure_can_be_ignored(account: Account) -> None:
    account.rule(exitCode=1, times=1)
    steps = a_step("off", active=False) + a_step("may_fail", ignore_failure=True) + a_step("last")
    end = account.run(account.write(steps))
    assert (end.code, account.effects) == (0, 2)
    assert "off is skipped: not active" in end.texts
    assert end.errors == []


def test_s9_the_argument_says_what_is_read_also_when_the_variable_is_set(account: Account) -> None:
    end = account.run(account.write(FIXTURE), SEQUENCER_YAML_S3_PATH="s3://dummy/prefix")
    assert (end.code, account.effects) == (0, 2)
    assert "GET object" not in account.calls


def test_s10_s3_and_ecs_are_in_one_region(account: Account, put: Put) -> None:
    put("bucket-of-region", "nightly.yml", FIXTURE)
    path = {"SEQUENCER_YAML_S3_PATH": "s3://bucket-of-region/nightly.yml"}
    assert account.run(**path).code == 0
    end = account.run(**path, AWS_REGION=None)
    assert end.code == 2
    assert end.errors == ["no AWS region: set AWS_REGION, or `region` of each step"]
    assert account.effects == 2


def test_s11_a_file_with_errors_runs_nothing_and_all_of_them_are_told_with_their_place(account: Account) -> None:
    good, bad = a_step("one"), "- two:\n    type: ecs_tusk\n    parameters:\n      clutser: c\n- three: {}\n"
    end = account.run(account.write(good + bad))
    assert end.code == 2
    places = [re.match(r"nightly\.yml:(\d+):(\d+): .+", line) for line in end.err.splitlines()]
    assert len(places) >= 3
    assert all(places), end.err
    assert [place[1] for place in places if place] == sorted(place[1] for place in places if place)
    assert end.errors == [f"nightly.yml cannot be run: {len(places)} problems"]
    assert account.calls == {}
    assert not account.state.exists()


def test_s12_the_switch_for_debug_lines_reaches_the_steps(account: Account) -> None:
    file = account.write(FIXTURE)
    assert "DEBUG" not in {level for level, _ in account.run(file).lines}
    debug = account.run(file, SEQUENCER_LOG_DEBUG="").lines
    assert ("DEBUG", "running ECS task chicken_butter...") in debug


def test_s13_a_lost_answer_to_run_task_starts_no_second_task(account: Account) -> None:
    account.fault("RunTask", when="after", lost=True)
    end = account.run(account.write(a_step("one")))
    assert (end.code, account.effects, account.calls["RunTask"]) == (0, 1, 2)


def test_s14_a_second_key_beside_the_name_of_a_step_is_an_error_with_its_place(account: Account) -> None:
    end = account.run(account.write(FIXTURE.replace("- turkey_fingers", "  turkey_fingers")))
    assert (end.code, account.calls) == (2, {})
    assert end.err.startswith("nightly.yml:9:3: ")


def test_s15_a_container_that_is_not_essential_need_not_decide(account: Account, two_containers: str) -> None:
    account.rule(container="sidecar", exitCode=1, seconds=0.05)
    account.rule(container="main", exitCode=0, seconds=0.5)
    parameters = {"task_definition": two_containers}
    strict = account.run(account.write(a_step("one", parameters=parameters)))
    assert strict.code == 1
    lenient = account.run(account.write(a_step("one", parameters=parameters, essential_only=True)))
    assert lenient.code == 0

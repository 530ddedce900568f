"""What ECS does to a run: the verdict is right, and no second task is started that should not be."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from spotjob.local.aws_server import AwsServer
from tests.sequencer.account import LOOKS, Account, a_step, ended, kill, said
from tests.sequencer.conftest import client


def running(account: Account, **fields: Any) -> tuple[subprocess.Popen[str], str]:
    """A run whose only task runs on and on; the task's ARN."""
    account.rule(seconds=None, times=1)
    process = account.start(account.write(a_step("one", **fields)))
    said(process, f"{LOOKS}: RUNNING")
    return process, str(account.tasks[0]["arn"])


def test_three_throttles_in_a_row_are_told_and_waited_out(account: Account) -> None:
    account.fault("RunTask", code="ThrottlingException", message="Rate exceeded", status=400, times=3)
    end = account.run(account.write(a_step("one")))
    assert (end.code, account.effects, len(account.tasks)) == (0, 1, 1)
    assert account.calls["RunTask"] == 4
    assert any("Rate exceeded" in text for level, text in end.lines if level == "WARN")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_lost_reply_starts_no_second_task(account: Account, when: str) -> None:
    account.fault("RunTask", lost=True, when=when, times=2)
    end = account.run(account.write(a_step("one", parameters={"count": 3})))
    assert (end.code, account.effects, len(account.tasks)) == (0, 1, 3)
    assert account.calls["RunTask"] == 3


def test_a_task_that_ecs_does_not_show_for_ten_seconds_is_waited_for(account: Account) -> None:
    account.lever("POST", "ecs-missing", seconds=10)
    end = account.run(account.write(a_step("one", retries=3)))
    assert (end.code, account.effects, len(account.tasks)) == (0, 1, 1)


def test_a_task_that_a_person_stops_has_failed_and_is_not_tried_again(account: Account, aws_server: AwsServer) -> None:
    process, arn = running(account, retries=3)
    ecs = client(aws_server, "ecs")
    ecs.stop_task(cluster="yourcluster", task=arn, reason="not tonight")
    ecs.close()
    end = ended(process)
    assert (end.code, account.effects) == (1, 1)
    assert any("StoppedByUser" in text for text in end.errors)
    assert any("not tonight" in text for text in end.errors)


@pytest.mark.parametrize("lever", ["ecs-interrupt", "ecs-host-lost"])
def test_a_task_that_aws_takes_away_is_run_again_and_uses_up_no_retry(account: Account, lever: str) -> None:
    process, arn = running(account)
    account.lever("POST", lever, arn=arn)
    end = ended(process)
    step = account.record()["steps"][0]
    assert (end.code, account.effects, len(account.tasks)) == (0, 2, 2)
    assert (step["interruptions"], step["failures"], step["tries"]) == (1, 0, 2)


def test_the_end_of_a_task_that_ecs_has_forgotten_is_read_from_the_queue_of_its_events(
    account: Account, aws_server: AwsServer
) -> None:
    process, arn = running(account)
    kill(process)
    account.lever("POST", "ecs-forget", arn=arn)
    ended_well = {"taskArn": arn, "lastStatus": "STOPPED", "containers": [{"name": "main", "exitCode": 0}]}
    sqs = client(aws_server, "sqs")
    queue = sqs.create_queue(QueueName="task-events")["QueueUrl"]
    event = {"detail-type": "ECS Task State Change", "detail": ended_well}
    sqs.send_message(QueueUrl=queue, MessageBody=json.dumps(event))
    sqs.close()
    end = account.run("nightly.yml", "--resume", account.run_id(), SEQUENCER_TASK_EVENTS_QUEUE="task-events")
    assert (end.code, account.effects, len(account.tasks)) == (0, 1, 1)


def test_a_run_goes_on_without_words_when_nobody_reads_them(account: Account) -> None:
    account.rule(seconds=1.0)
    process = account.start(account.write(a_step("one") + a_step("two")))
    said(process, LOOKS)
    assert process.stdout is not None
    process.stdout.close()
    process.wait(timeout=180)
    assert process.stderr is not None
    assert (process.returncode, process.stderr.read(), account.effects) == (0, "", 2)
    process.stderr.close()

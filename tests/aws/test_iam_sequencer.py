"""docs/iam-sequencer.json against the calls that the code makes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
POLICY = json.loads((ROOT / "docs" / "iam-sequencer.json").read_text())
OPERATIONS = re.compile(r'(?:"|\.)((?:create|describe|delete|get|put|update|list|run|stop)_[a-z_]+)["(]')
SERVICES = {"ecs.py": "ecs", "objects.py": "s3", "sequence_runs.py": "dynamodb"}
OF_THE_QUEUE = {"sqs:GetQueueUrl", "sqs:ReceiveMessage"}
"""aws/task_events.py reads by aws/interruptions.py, and deletes nothing; `tests/aws/test_task_events.py`."""
ELSEWHERE = {"ecs:GetLogEvents": "logs:GetLogEvents"}
OUR_OWN = {"s3:GetRequest", "dynamodb:GetWaiter", "ecs:RunTaskModel"}
"""Names of ours that look like operations, and boto3's waiter, which calls DescribeTable."""
CHECKED_WITH_A_CALL = {"iam:PassRole", "s3:GetObjectVersion"}


def granted() -> set[str]:
    actions = [each["Action"] for each in POLICY["Statement"]]
    return {action for each in actions for action in ([each] if isinstance(each, str) else each)}


def called() -> set[str]:
    """Every operation that the sources name, in IAM's spelling."""
    found = set()
    for name, service in SERVICES.items():
        for operation in OPERATIONS.findall((ROOT / "operator" / "spotjob" / "aws" / name).read_text()):
            action = f"{service}:" + "".join(word.title() for word in operation.split("_"))
            found.add(ELSEWHERE.get(action, action))
    return found - OUR_OWN


def statement(sid: str) -> Any:
    return next(each for each in POLICY["Statement"] if each["Sid"] == sid)


def test_the_policy_grants_what_the_sequencer_calls_and_nothing_else() -> None:
    assert granted() - CHECKED_WITH_A_CALL == called() | OF_THE_QUEUE


def test_no_right_to_change_anything_holds_for_every_resource() -> None:
    everywhere = [each["Sid"] for each in POLICY["Statement"] if each["Resource"] == "*"]
    assert everywhere == ["FindThem", "KnowTheirContainers"]
    assert {statement(sid)["Action"] for sid in everywhere} == {"ecs:ListTasks", "ecs:DescribeTaskDefinition"}

"""docs/iam-operator.json against the calls that the code makes and the tags that it sends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from spotjob.core import plan
from spotjob.core.ports import Place
from spotjob.core.resources import SpotJobClass
from spotjob.core.states import CapacityType

ROOT = Path(__file__).parents[2]
POLICY = json.loads((ROOT / "docs" / "iam-operator.json").read_text())
OPERATIONS = re.compile(
    r'"((?:create|describe|delete|terminate|get|put|receive|update|batch|run|list|stop)_[a-z_]+|query)"'
)
CHECKED_BY_CREATE_FLEET = {"ec2:RunInstances", "ec2:CreateTags", "iam:PassRole"}
SERVICES = {
    "ec2.py": "ec2",
    "catalogue.py": "ec2",
    "dynamodb.py": "dynamodb",
    "interruptions.py": "sqs",
    "ecs.py": "ecs",
}
ELSEWHERE = {
    "ec2:GetParameter": "ssm:GetParameter",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "ecs:GetLogEvents": "logs:GetLogEvents",
}
"""Calls that IAM knows by another name than the source file's service and the operation."""


def actions_of(statement: Any) -> list[str]:
    actions = statement["Action"]
    return [actions] if isinstance(actions, str) else list(actions)


def granted() -> set[str]:
    return {action for each in POLICY["Statement"] for action in actions_of(each)}


def called() -> set[str]:
    """Every operation that the sources name, in IAM's spelling."""
    found = set()
    for name, service in SERVICES.items():
        for operation in OPERATIONS.findall((ROOT / "operator" / "spotjob" / "aws" / name).read_text()):
            action = f"{service}:" + "".join(word.title() for word in operation.split("_"))
            found.add(ELSEWHERE.get(action, action))
    return found


def statement(sid: str) -> Any:
    return next(each for each in POLICY["Statement"] if each["Sid"] == sid)


def test_the_policy_grants_what_the_code_calls_and_nothing_else() -> None:
    assert granted() - CHECKED_BY_CREATE_FLEET == called()


def test_no_right_to_change_anything_holds_for_every_resource() -> None:
    everywhere = [each for each in POLICY["Statement"] if each["Resource"] == "*"]
    assert [each["Sid"] for each in everywhere] == ["Look", "FindThem", "KnowTheirContainers"]
    actions = [action for each in everywhere for action in actions_of(each)]
    assert [action for action in actions if not action.startswith(("ec2:Describe", "ecs:Describe", "ecs:List"))] == []


def test_a_role_is_passed_only_to_instances_or_to_tasks() -> None:
    passing = [each for each in POLICY["Statement"] if "iam:PassRole" in actions_of(each)]
    services = [each["Condition"]["StringEquals"]["iam:PassedToService"] for each in passing]
    assert services == ["ec2.amazonaws.com", "ecs-tasks.amazonaws.com"]


def test_everything_that_the_policy_wants_tagged_is_tagged_by_the_template_or_the_fleet() -> None:
    wanted = {arn.rsplit(":", 1)[1].partition("/")[0] for arn in statement("CreateOnlyWithTheClustersTag")["Resource"]}
    (condition,) = statement("CreateOnlyWithTheClustersTag")["Condition"]["StringEquals"]
    job_class = SpotJobClass.model_validate(
        {
            "metadata": {"name": "standard"},
            "spec": {
                "region": "us-east-1",
                "subnets": {"ids": ["subnet-0a"]},
                "securityGroups": ["sg-0a"],
                "apiURL": "https://api.example.com",
            },
        }
    )
    tags = plan.tags_of(job_class, "prod", "uid")
    place = Place("ami-1", (), (), frozenset())
    template = plan.launch_template(
        job_class, place, "amd64", "", user_data_key="", capacity_type=CapacityType.SPOT, tags=tags
    )
    fleet = plan.fleet_request(template.name, [], [], 1, CapacityType.SPOT, "shape", "token", tags)
    tagged = {
        each["ResourceType"]
        for each in [*template.data["TagSpecifications"], *fleet["TagSpecifications"]]
        if {"Key": condition.removeprefix("aws:RequestTag/"), "Value": "prod"} in each["Tags"]
    }
    assert tagged | {"launch-template"} == wanted
    assert template.tags["spotjob.cluster"] == "prod"

"""Every request that changes something has a name, and the same name each time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.crash import naming
from tests.crash.points import Kind, Moment, Write, numbered, points

JOBS = "/apis/spotjob.dev/v1alpha1/namespaces/default/spotjobs"
BIND, PUT = Kind("operator", "bind"), Kind("operator", "PutItem Running")
EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
SEQUENCES = "/apis/spotjob.dev/v1alpha1/namespaces/default/jobsequences"
GUARD, OTHER = {"metadata": {"finalizers": ["spotjob.dev/sequence"]}}, {"metadata": {"finalizers": ["another"]}}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


def named(method: str, path: str, body: Any = None, names: naming.Names | None = None) -> str | None:
    return (names or naming.Names()).of(method, path, json.dumps(body).encode())


@pytest.mark.parametrize(
    ("method", "path", "body", "name"),
    [
        ("GET", f"{JOBS}/x", None, None),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {}, None),
        ("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {}, None),
        ("POST", JOBS, {}, "create spotjob"),
        ("DELETE", f"{JOBS}/x", {}, "delete spotjob"),
        ("PATCH", f"{JOBS}/x", [{"op": "add", "path": "/metadata/finalizers", "value": ["a"]}], "finalizer on"),
        ("PATCH", f"{JOBS}/x", [{"op": "add", "path": "/metadata/finalizers", "value": []}], "finalizer off"),
        ("PATCH", f"{JOBS}/x", [{"op": "remove", "path": "/metadata/annotations/a~1b"}], "remove annotations/a/b"),
        ("PATCH", f"{JOBS}/x", {"metadata": {"annotations": {"spotjob.dev/drill": None}}}, "patch spotjob drill"),
        ("PATCH", f"{JOBS}/x/status", {"status": {"reason": "PullingImage"}}, "status PullingImage (claim)"),
        ("PATCH", f"{JOBS}/x/status", {"status": {"phase": "TerminatedOK"}}, "status TerminatedOK"),
        ("PATCH", f"{JOBS}/x/status", {"status": {"message": "new words"}}, "status +message"),
        ("POST", SEQUENCES, {}, "POST sequence"),
        ("PATCH", f"{SEQUENCES}/x", GUARD, "sequence finalizer on"),
        ("PATCH", f"{SEQUENCES}/x", OTHER, "sequence finalizer off"),
        ("PATCH", f"{SEQUENCES}/x/status", {"status": {"phase": "Pending"}}, "sequence status Pending"),
        ("PATCH", f"{SEQUENCES}/x/status", {"status": {"message": "new words"}}, "sequence status +message"),
        ("POST", EVENTS, {"reason": "Interrupted"}, "event Interrupted"),
        ("PUT", f"{LEASES}/spotjob-operator", {}, "PUT leases"),
        ("POST", LEASES, {}, "POST leases"),
        ("POST", "/api/v1/namespaces/default/secrets", {}, "POST secrets"),
        ("PUT", "/api/v1/namespaces/default", {}, "PUT namespaces"),
    ],
)
def test_a_request_to_the_api_server(method: str, path: str, body: Any, name: str | None):
    assert named(method, path, body) == name


def test_a_status_without_a_new_reason_is_named_by_what_it_adds_to_the_attempt():
    names = naming.Names()
    before = {"number": 1, "claimHash": "x"}
    names.learn(json.dumps({"kind": "SpotJob", "metadata": {"name": "x"}, "status": {"attempts": [before]}}).encode())
    body = {"status": {"attempts": [before | {"callback": {"ok": True}}]}}
    assert named("PATCH", f"{JOBS}/x/status", body, names) == "status +callback"


def test_the_status_of_a_sequence_is_named_by_where_its_run_stands():
    steps = [{"name": "load", "state": "Succeeded", "tries": 1}, {"name": "train", "state": "Requesting", "tries": 2}]
    body = {"status": {"phase": "Running", "run": {"steps": steps}}}
    assert named("PATCH", f"{SEQUENCES}/x/status", body) == "sequence status train, try 2, Requesting"
    steps[1]["state"] = "Failed"
    assert named("PATCH", f"{SEQUENCES}/x/status", body) == "sequence status Running"


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({}, b"Action=CreateFleet&Version=2016-11-15", "CreateFleet"),
        ({}, b"Action=DescribeInstances&Version=2016-11-15", None),
        (
            {"X-Amz-Target": "DynamoDB_20120810.PutItem"},
            b'{"Item": {"jobStatus": {"S": "Running"}}}',
            "PutItem Running",
        ),
        ({"X-Amz-Target": "DynamoDB_20120810.Query"}, b"{}", None),
        ({"X-Amz-Target": "AmazonSQS.DeleteMessageBatch"}, b"{}", "DeleteMessageBatch"),
        ({"X-Amz-Target": "AmazonSQS.ReceiveMessage"}, b"{}", None),
    ],
)
def test_a_request_to_aws(headers: dict[str, str], body: bytes, name: str | None):
    assert naming.aws(headers, body) == name


def test_each_write_has_three_points():
    tried = points("a", [Write(BIND, 1), Write(PUT, 1)])
    assert len(tried) == 6
    assert {point.moment for point in tried if point.write == Write(PUT, 1)} == set(Moment)


def test_of_a_kind_two_are_tried_in_one_life():
    assert numbered([BIND, PUT, BIND, BIND], 2) == [Write(BIND, 1), Write(PUT, 1), Write(BIND, 2)]


def test_a_write_without_context_is_tried_once_in_all_scenarios():
    assert numbered([PUT, PUT], 2) == [Write(PUT, 1)]
    assert numbered([PUT, BIND], 2, known=[PUT, BIND]) == [Write(BIND, 1)]


def test_a_question_is_tried_at_one_moment_and_in_one_scenario():
    look = Kind("sequencer", "DescribeTasks")
    assert [point.moment for point in points("a", [Write(look, 1)])] == [Moment.CALLED]
    assert numbered([look, look], 9) == [Write(look, 1), Write(look, 2)]
    assert numbered([look, BIND], 9, known=[look, BIND]) == [Write(BIND, 1)]

"""Kubernetes objects as the tests send them, and what the API server says to them."""

from __future__ import annotations

import json
from typing import Any

import httpx

from spotjob.core.wire import API_VERSION, GROUP, VERSION

Json = dict[str, Any]
JOBS = f"/apis/{GROUP}/{VERSION}/namespaces/default/spotjobs"
CLASSES = f"/apis/{GROUP}/{VERSION}/spotjobclasses"


def a_job(name: str = "job", **spec: Any) -> Json:
    return {"apiVersion": API_VERSION, "kind": "SpotJob", "metadata": {"name": name}, "spec": {"image": "a:1", **spec}}


def a_class(**spec: Any) -> Json:
    placed = {"region": "us-east-1", "subnets": {"ids": ["subnet-0a"]}, "securityGroups": ["sg-0a"]}
    reached = {"apiURL": "https://spotjob.example.com"}
    metadata = {"name": "gold"}
    return {"apiVersion": API_VERSION, "kind": "SpotJobClass", "metadata": metadata, "spec": placed | reached | spec}


def tried(api: httpx.Client, path: str, document: Json) -> httpx.Response:
    """Everything but the write itself."""
    return api.post(path, json=document, params={"dryRun": "All"})


def refused_fields(answer: httpx.Response) -> set[str]:
    """The fields that the refusal names."""
    assert answer.status_code == 422, answer.text
    return {cause["field"] for cause in answer.json()["details"]["causes"]}


def patch(api: httpx.Client, path: str, body: Json) -> httpx.Response:
    return api.patch(path, content=json.dumps(body), headers={"Content-Type": "application/merge-patch+json"})


def requests(**amounts: Any) -> Json:
    return {"resources": {"requests": amounts}}

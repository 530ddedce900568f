"""Writes kubeconfig files, readable by their owner only."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def with_token(cluster: Mapping[str, Any], user: str, token: str, namespace: str = "default") -> dict[str, Any]:
    """A kubeconfig for one cluster (the value of its `cluster` key) and one user with a bearer token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "spotjob-local", "cluster": dict(cluster)}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [
            {
                "name": "spotjob-local",
                "context": {"cluster": "spotjob-local", "user": user, "namespace": namespace},
            }
        ],
        "current-context": "spotjob-local",
    }


def write(path: Path, config: Mapping[str, Any]) -> Path:
    """Write it as JSON, which is YAML too. The file is private from its first byte on."""
    write_private(path, json.dumps(config, indent=1))
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file with mode 0600; a reader sees all of it or what was there before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)

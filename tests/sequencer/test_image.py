"""The container image: both targets of deploy/Dockerfile start what they should, with the environment only."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from tests.sequencer.account import FIXTURE, Account, Put, ended

DOCKERFILE = (Path(__file__).parents[2] / "deploy" / "Dockerfile").read_text()
PYTHON = "/opt/spotjob/venv/bin/python"


def entry_points() -> dict[str, list[str]]:
    """By name of the stage; the last one, which is built when none is named, has the name of what it is made from."""
    found: dict[str, list[str]] = {}
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE)
    for origin, name, body in stages:
        entry = re.search(r"^ENTRYPOINT (.+)$", body, re.MULTILINE)
        found[name or "default"] = json.loads(entry[1]) if entry else found[origin]
    return found


def test_the_image_that_is_built_without_a_target_is_that_of_the_operator() -> None:
    assert entry_points()["default"] == [PYTHON, "-m", "spotjob"]


def test_the_image_of_the_sequencer_runs_a_sequence_with_the_environment_only(account: Account, put: Put) -> None:
    put("bucket-of-image", "nightly.yml", FIXTURE)
    python, *arguments = entry_points()["sequencer"]
    assert python == PYTHON
    environment = account.environment(SEQUENCER_YAML_S3_PATH="s3://bucket-of-image/nightly.yml")
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=environment,
        cwd=account.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (ended(process).code, account.effects) == (0, 2)

"""The command `sequencer` on the whole local platform: ECS tasks and a SpotJob in one file, with real containers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from spotjob.local import demo, parts
from tests.e2e.platform import Person

ROOT = Path(__file__).parents[2]
NIGHTLY = ROOT / "examples" / "sequences" / "nightly.yml"


def test_a_nights_work_runs_to_its_end_and_hands_the_result_of_a_task_to_a_job(person: Person, tmp_path: Path) -> None:
    file = tmp_path / "nightly.yml"
    file.write_text(demo.for_registry(NIGHTLY.read_text(), person.layout))
    environment = {
        **parts.aws_environment(person.layout),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT / "operator"),
        "KUBECONFIG": str(person.layout.admin_kubeconfig),
        "SEQUENCER_STATE": str(tmp_path / "runs"),
        "SEQUENCER_SLEEP_BETWEEN_CHECKS": "1",
    }
    command = [sys.executable, "-m", "spotjob.sequencer.cli", str(file), "--set", "DAY=2026-11-22", "--output", "json"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 0, ended.stderr
    run = json.loads(ended.stdout)
    assert [(step["name"], step["state"]) for step in run["steps"]] == [
        ("extract", "Succeeded"),
        ("transform", "Succeeded"),
        ("clean_up", "Succeeded"),
    ]
    assert run["steps"][0]["result"] == {"rows": 3}
    (job,) = person.jobs().values()
    assert "3 rows of 2026-11-22" in job["status"]["attempts"][-1]["logTail"]

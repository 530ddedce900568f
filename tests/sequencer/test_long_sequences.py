"""Long lists and wide steps: the looks stay one per interval, and the memory stays flat."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic.alias_generators import to_camel

from spotjob.local.ecs import Timing
from tests.sequencer.account import LOOKS, Account, a_step, ended, said

INTERVAL = 0.1
GROWTH_MIB = 8.0
"""What a process may grow by between its 20th step and its last, without having kept anything of each step."""


DELAYS = [
    field.name for field in fields(Timing) if field.name.endswith("ing_seconds") and field.name != "missing_seconds"
]


def resident_mib(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@pytest.fixture
def at_once(account: Account) -> Iterator[None]:
    """A task is running as soon as it is asked for, and stopped as soon as its container is."""
    usual = {name: getattr(Timing(), name) for name in DELAYS}
    account.lever("POST", "ecs-timing", **{to_camel(name): 0 for name in usual})
    yield
    account.lever("POST", "ecs-timing", **{to_camel(name): seconds for name, seconds in usual.items()})


@pytest.mark.usefixtures("at_once")
def test_a_sequence_of_200_steps_ends_with_one_look_per_interval_and_flat_memory(account: Account) -> None:
    account.rule(seconds=0.0, times=199)
    account.rule(seconds=None)  # the last task waits for us: of a process that has ended there is nothing to measure
    file = account.write("".join(a_step(f"step-{n}") for n in range(200)))
    began = time.monotonic()
    process = account.start(file, SEQUENCER_SLEEP_BETWEEN_CHECKS=str(INTERVAL))
    said(process, "step-20 completed")
    early = resident_mib(process)
    said(process, "step-198 completed")
    late = resident_mib(process)
    said(process, f"{LOOKS}: RUNNING")
    account.exits(account.tasks[-1]["arn"])
    end = ended(process)
    seconds = time.monotonic() - began
    assert (end.code, account.effects) == (0, 200)
    # The first look at a step comes at once, so each step may have one that is not an interval after the one before.
    assert account.calls["DescribeTasks"] - 200 <= seconds / INTERVAL + 2 * seconds / 60
    assert late - early < GROWTH_MIB


def test_ten_steps_of_ten_tasks_cost_one_look_per_interval(account: Account) -> None:
    account.rule(seconds=1.0)
    file = account.write("".join(a_step(f"step-{n}", parameters={"count": 10}) for n in range(10)))
    began = time.monotonic()
    end = ended(account.start(file, SEQUENCER_SLEEP_BETWEEN_CHECKS=str(INTERVAL)))
    seconds = time.monotonic() - began
    assert (end.code, account.effects, len(account.tasks)) == (0, 10, 100)
    assert account.calls["DescribeTasks"] - 10 <= seconds / INTERVAL + 2 * seconds / 60

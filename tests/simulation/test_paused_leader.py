"""A leader that was frozen for longer than its lease (SIGSTOP, a starved machine) and then wakes up.

A rehearsal tells when the leader changes anything; it is then frozen just before each of those moments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from spotjob.local.ec2 import Fault
from tests.simulation.virtual import PROCESS, VirtualLoop
from tests.simulation.world import Operator, World

FROZEN_SECONDS = 40.0
JUST_BEFORE = (0.001, 0.02, 0.1)
CHANGES = {"create_fleet", "create_launch_template", "delete_launch_template", "terminate_instances"}
WRITES = ("write_status", "add_finalizer", "remove_finalizer", "delete_job")
LIFE_SECONDS = 60.0
"""Of six jobs, from their creation to their last finalizer."""


def listen(world: World, operator: Operator, told: Callable[[str], None]) -> None:
    """Tell of everything that this operator sets out to do to EC2, to a job or to the table."""

    def telling(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def tells(*arguments: Any) -> Any:
            if PROCESS.get() is operator.process:
                told(name)
            return call(*arguments)

        return tells

    for name in WRITES:
        setattr(operator.line, name, telling(name, getattr(operator.line, name)))
    world.table.put = telling("put", world.table.put)  # type: ignore[method-assign]
    world.network.leaving.append(
        lambda operation: told(operation) if PROCESS.get() is operator.process and operation in CHANGES else None
    )


async def life(world: World, lost: bool) -> list[str]:
    """Two operators, of which the first leads, and six jobs; their keys."""
    await world.until(lambda: world.operators[0].runtime.working)
    world.start_operator()
    if lost:
        world.ec2.faults.order(Fault("CreateFleet", lost=True, when="after", times=3))
    return [world.cluster.apply(f"night-{n}") for n in range(6)]


async def rehearsal(lost: bool) -> list[tuple[float, str]]:
    """When, in seconds after the beginning of an undisturbed life, the leader does what."""
    async with World() as world:
        done: list[tuple[float, str]] = []
        await life(world, lost)
        began = world.clock.monotonic()
        listen(world, world.operators[0], lambda what: done.append((world.clock.monotonic() - began, what)))
        await asyncio.sleep(LIFE_SECONDS)
        assert world.cluster.phases() == {"TerminatedOK": 6}
    return done


async def frozen_at(moment: float, lost: bool) -> tuple[list[str], dict[str, int]]:
    """What the leader does without leading when it is frozen at this moment, and how often each job runs."""
    async with World() as world:
        keys = await life(world, lost)
        leader, other = world.operators
        done: list[str] = []
        listen(world, leader, lambda what: None if leader.runtime._lease.leading() else done.append(what))
        await asyncio.sleep(moment)
        leader.process.freeze()
        await asyncio.sleep(FROZEN_SECONDS)
        assert other.runtime.working
        leader.process.thaw()
        await asyncio.sleep(30)
        await world.until(lambda: world.cluster.phases() == {"TerminatedOK": len(keys)}, 300)
        return done, dict(world.runs)


def played(story: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)


@pytest.mark.parametrize("lost", [False, True], ids=["answered", "without an answer"])
def test_a_leader_that_wakes_up_changes_nothing_and_every_job_runs_once(lost: bool):
    acts = played(rehearsal(lost))
    assert {"create_fleet", "terminate_instances", "write_status", "remove_finalizer", "put"} <= {a for _, a in acts}
    moments = sorted({round(at - before, 3) for at, _ in acts for before in JUST_BEFORE if at > before})
    outcomes = {moment: played(frozen_at(moment, lost)) for moment in moments}
    assert {moment: done for moment, (done, _) in outcomes.items() if done} == {}
    assert [moment for moment, (_, runs) in outcomes.items() if set(runs.values()) != {1}] == []

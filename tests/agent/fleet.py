"""A few machines with the real agent in them, and the levers that tests need."""

from __future__ import annotations

import json
import threading
import uuid
from pathlib import Path

from spotjob.agent import agent
from spotjob.core.userdata import render
from spotjob.local.docker import DockerError
from spotjob.local.instances import DockerMachines
from tests.agent.world import LAUNCH_TOKEN, World

AGENT = Path(agent.__file__ or "").read_text()
UNTIL_GO = "until [ -e ${SPOTJOB_INTERRUPTION_FILE%/*}/go ]; do sleep 0.1; done"
"""Shell of a container that is not to end before `Fleet.go`, however slow the machine is."""


def an_agent(**constants: float) -> str:
    """The agent with other constants, for a test in which a stalled machine could pass for a slow agent."""
    assert all(hasattr(agent, name) for name in constants)
    lines = "".join(f"{name} = {value}\n" for name, value in constants.items())
    before, main, after = AGENT.partition("\nif __name__ ==")
    return f"{before}\n{lines}{main}{after}"


class Fleet:
    """Boots instances and remembers which of them powered themselves off."""

    def __init__(self, machines: DockerMachines, world: World, real: bool) -> None:
        self.machines, self.world, self.real = machines, world, real
        self.off: dict[str, threading.Event] = {}
        self.halted: dict[str, threading.Event] = {}

    def new_id(self) -> str:
        return f"i-{uuid.uuid4().hex[:17]}"

    def boot(self, instance: str, source: str = AGENT) -> None:
        """Run the user data; when the guest powers off, the hardware halts, as EC2's does."""
        self.off[instance], self.halted[instance] = threading.Event(), threading.Event()
        user_data = render(source, self.world.url, 300, LAUNCH_TOKEN).replace("RestartSec=2", "RestartSec=0.2")
        self.machines.boot(instance, user_data, self.world.imds(instance), lambda: self._powered_off(instance))

    def run(self, source: str = AGENT, **job: object) -> str:
        """Boot an instance for a job, and return its id. `source` is the agent's."""
        instance = self.new_id()
        self.world.assign(instance, **job)
        self.boot(instance, source)
        return instance

    def halt(self, instance: str) -> None:
        """As TerminateInstances: returns when the machine is gone."""
        self.machines.halt(instance, self.halted[instance].set)
        assert self.halted[instance].wait(60)

    def go(self, instance: str) -> None:
        """Let a container that waits with UNTIL_GO go on."""
        (self.folder(instance) / "disk/run/spotjob/go").touch()

    def folder(self, instance: str) -> Path:
        return self.machines._instance(instance)

    def agent_log(self, instance: str) -> str:
        return (self.folder(instance) / "agent.log").read_text()

    def agent_pid(self, instance: str) -> int:
        """The agent's process, once it runs."""

        def pid() -> int:
            agent = self.machines._guests[instance]._agent
            return agent.pid if agent is not None and agent.poll() is None else 0

        return int(self.world.until(pid))

    def containers(self, instance: str) -> int:
        return len(self.machines.docker.containers(f"spotjob.instance={instance}"))

    def running(self, instance: str) -> bool:
        try:
            found = json.loads(self.machines.docker.call("GET", f"/containers/spotjob-{instance}/json"))
        except DockerError:
            return False
        return bool(found["State"]["Status"] == "running")

    def _powered_off(self, instance: str) -> None:
        self.off[instance].set()
        self.machines.halt(instance, self.halted[instance].set)

"""The EC2 simulator as it runs: on the wall clock, for many threads, with machines under its instances.

The simulator is pure; here is what it lacks: one lock, a thread that lets time pass, and the orders to the
machines. Orders are given outside the lock, by that one thread, in the order of the events.
"""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from spotjob.core.states import InstanceState
from spotjob.local.ec2 import Reply, Simulator
from spotjob.local.machines import Machines

_TICK_SECONDS = 0.05
_LAST_HALT_SECONDS = 20.0
"""How long the machines have to go down when the data centre closes."""

log = logging.getLogger(__name__)


class DataCentre:
    """One simulated region in operation, between `start` and `stop`."""

    def __init__(
        self,
        simulator: Simulator,
        machines: Machines,
        imds_root: str,
        deliver: Callable[[Sequence[Mapping[str, Any]]], None] = lambda _: None,
    ) -> None:
        """`imds_root` is the URL that, with an instance id behind it, is that instance's metadata service. `deliver`
        gets every event as EventBridge would, and must return at once."""
        self._deliver = deliver
        self._ec2 = simulator
        self._machines = machines
        self._imds_root = imds_root
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._clockwork = threading.Thread(target=self._run, name="ec2-clock", daemon=True)

    def start(self) -> None:
        self._clockwork.start()

    def stop(self) -> None:
        """Stop the clock and halt every machine."""
        self._closing.set()
        self._clockwork.join()
        halting = [self._last_halt(instance.id) for instance in self._ec2.instances() if _has_machine(instance.state)]
        deadline = time.monotonic() + _LAST_HALT_SECONDS
        for halted in halting:
            halted.wait(max(0.0, deadline - time.monotonic()))

    @contextmanager
    def open(self) -> Iterator[Simulator]:
        """The simulator at the present time, for this thread alone."""
        with self._lock:
            self._ec2.advance(datetime.now(UTC))
            yield self._ec2

    def serve(self, action: str, request: Mapping[str, Any]) -> Reply:
        """One EC2 call."""
        if action == "GetConsoleOutput":
            self._read_console(request.get("InstanceId", ""))
        with self.open() as ec2:
            return ec2.serve(action, request)

    def _read_console(self, instance_id: str) -> None:
        text = self._machines.console(instance_id)
        with self.open() as ec2:
            for instance in ec2.instances():
                if instance.id == instance_id:
                    instance.console = text

    # ---- the machines

    def _run(self) -> None:
        while not self._closing.wait(_TICK_SECONDS):
            with self.open() as ec2:
                events = ec2.take_events()
            self._deliver(events)
            for event in events:
                self._obey(event)

    def _obey(self, event: Mapping[str, Any]) -> None:
        """A machine follows its instance. One that cannot be started or halted must not stop the others' clock."""
        instance_id, state = event["detail"]["instance-id"], event["detail"].get("state")
        try:
            if state == InstanceState.RUNNING:
                self._boot(instance_id)
            elif state in (InstanceState.SHUTTING_DOWN, InstanceState.STOPPING):
                self._machines.halt(instance_id, lambda: self._halted(instance_id))
        except Exception:
            log.exception("the machine of %s does not obey (%s)", instance_id, state)

    def _boot(self, instance_id: str) -> None:
        with self.open() as ec2:
            encoded = ec2.instance(instance_id).data.get("UserData", "")
        user_data = base64.b64decode(encoded).decode("utf-8", "surrogateescape")
        endpoint = f"{self._imds_root}/{instance_id}"
        self._machines.boot(instance_id, user_data, endpoint, lambda: self._powered_off(instance_id))

    def _powered_off(self, instance_id: str) -> None:
        with self.open() as ec2:
            ec2.power_off(instance_id)

    def _halted(self, instance_id: str) -> None:
        """The machine's last words are read before EC2 takes them from the instance."""
        self._read_console(instance_id)
        with self.open() as ec2:
            ec2.halted(instance_id)

    def _last_halt(self, instance_id: str) -> threading.Event:
        halted = threading.Event()
        self._machines.halt(instance_id, halted.set)
        return halted


def _has_machine(state: InstanceState) -> bool:
    return state in (InstanceState.RUNNING, InstanceState.SHUTTING_DOWN, InstanceState.STOPPING)

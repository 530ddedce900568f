"""What the EC2 simulator needs of whatever plays the instances' hardware."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from spotjob.local.ecs.containers import Containers


class Machines(Protocol):
    """Boots and halts simulated instances. Both calls return at once; threads behind them are the callee's own."""

    def boot(self, instance_id: str, user_data: str, imds_endpoint: str, power_off: Callable[[], None]) -> None:
        """The instance is running: execute its (decoded) user data.

        `imds_endpoint` is this instance's metadata service, for AWS_EC2_METADATA_SERVICE_ENDPOINT.
        `power_off` is to be called when the guest itself powers off; it may be called from any thread.
        """

    def halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        """The host shuts down: containers get SIGTERM, a grace, SIGKILL; then call `halted`, also if never booted."""

    def console(self, instance_id: str) -> str:
        """The serial console so far."""

    def containers(self) -> Containers | None:
        """What runs the containers of ECS tasks; None: they follow scripts, and nothing runs."""


class NoMachines:
    """Instances on which nothing ever runs: for tests of the EC2 interface alone."""

    def boot(self, instance_id: str, user_data: str, imds_endpoint: str, power_off: Callable[[], None]) -> None:
        """Nothing runs."""

    def halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        halted()

    def console(self, instance_id: str) -> str:
        return ""

    def containers(self) -> None:
        """Nothing runs."""

"""What the EC2 simulator's instances run on: folders as disks, the real agent, and a real Docker Engine.

Every container of an instance has the labels `spotjob.instance=<id>` and `spotjob.state=<platform's folder>`, and
every process has SPOTJOB_LOCAL_STATE in its environment, so that `spotjob local down` finds what a killed platform
left behind.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread

from spotjob.local import docker
from spotjob.local.containers import LABEL
from spotjob.local.docker import Docker, DockerError
from spotjob.local.ecs.containers import Containers
from spotjob.local.engine import StandIn
from spotjob.local.guest import Guest, install_shims
from spotjob.local.processes import MARKER

_LATE_CONTAINER_SECONDS = 2.0
"""A daemon finishes what a killed client asked of it: a container can still appear for this long."""
_HALT_SECONDS = 60.0
"""How long the engine is asked to remove an instance's containers before we give up."""

log = logging.getLogger(__name__)


class DockerMachines:
    """Plays the hardware of all instances; implements machines.Machines.

    Without a Docker Engine that answers, the stand-in of engine.py takes its place. `state` is a folder for the
    machines' files; `settings` are more variables for every agent, such as SPOTJOB_POLL_SECONDS.
    """

    def __init__(
        self,
        state: Path,
        aws_endpoint: str,
        docker_socket: Path | None = None,
        grace_seconds: float = 2.0,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self._folder = state.resolve()
        self._platform = os.environ.get(MARKER) or str(self._folder)
        self._grace_seconds = grace_seconds
        self._guests: dict[str, Guest] = {}
        self._stand_in: StandIn | None = None
        self.docker = self._engine(docker_socket)
        install_shims(self._folder / "shims")
        self._environment = {
            "PATH": f"{self._folder / 'shims'}:{os.environ.get('PATH', os.defpath)}",
            "AWS_ENDPOINT_URL": aws_endpoint,
            "SPOTJOB_DOCKER_SOCKET": str(self.docker.path),
            # Containers see this host's loopback addresses, where the API is.
            "SPOTJOB_CONTAINER_NETWORK": "host",
            "SPOTJOB_CONTAINER_LABELS": json.dumps({LABEL: self._platform}),
            MARKER: self._platform,
            **(settings or {}),
        }

    @property
    def real(self) -> bool:
        """Containers are containers; otherwise they are plain processes of this host."""
        return self._stand_in is None

    def boot(self, instance_id: str, user_data: str, imds_endpoint: str, power_off: Callable[[], None]) -> None:
        folder = self._instance(instance_id)
        folder.mkdir(parents=True)
        environment = {**self._environment, "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds_endpoint}
        guest = Guest(folder, environment, power_off)
        guest.boot(user_data)
        self._guests[instance_id] = guest

    def halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        Thread(target=self._halt, args=(instance_id, halted), name=f"halt-{instance_id}", daemon=True).start()

    def console(self, instance_id: str) -> str:
        path = self._instance(instance_id) / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def containers(self) -> Containers:
        return Containers(self.docker, {LABEL: self._platform})

    def close(self) -> None:
        """Halt whatever still runs, and return when it is gone."""
        halting = [Thread(target=self._halt, args=(name, lambda: None)) for name in list(self._guests)]
        for thread in halting:
            thread.start()
        for thread in halting:
            thread.join()
        if self._stand_in is not None:
            self._stand_in.close()

    def _engine(self, docker_socket: Path | None) -> Docker:
        found = Docker(docker_socket) if docker_socket else docker.find(os.environ)
        if found is not None:
            return found
        self._stand_in = StandIn(self._folder / "engine")
        self._stand_in.start()
        print(self._stand_in.warning, file=sys.stderr, flush=True)
        return Docker(self._stand_in.path)

    def _instance(self, instance_id: str) -> Path:
        return self._folder / "instances" / instance_id

    def _halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        """The agent goes first, as systemd stops it before docker, so it does not report what the shutdown does."""
        guest = self._guests.get(instance_id)
        if guest is not None:
            guest.halt()
            self._end_containers(instance_id, guest.at_work)
            guest.discard()
            self._guests.pop(instance_id, None)
        halted()

    def _end_containers(self, instance_id: str, at_work: bool) -> None:
        """Return when no container of the instance is left and none can appear. Raises TimeoutError."""
        begun, seen = time.monotonic(), False
        while time.monotonic() < begun + _HALT_SECONDS:
            try:
                found = self.docker.containers(f"spotjob.instance={instance_id}")
                for container in found:
                    self.docker.end(container, self._grace_seconds)
            except (OSError, DockerError) as error:
                log.warning("halting %s: %s", instance_id, error)
                time.sleep(1)
                continue
            # The name is taken once, so after the first container there is no second one.
            seen = seen or bool(found)
            late = time.monotonic() > begun + _LATE_CONTAINER_SECONDS
            if not found and (seen or late or not at_work):
                return
            time.sleep(0.02 if found else 0.2)
        raise TimeoutError(f"the containers of {instance_id} cannot be removed")

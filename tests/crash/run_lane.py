"""One AWS account, and the command line of the Sequencer that reaches it through a proxy and can be killed at any call.

No control plane, no containers: the tasks of the account's ECS are scripted. A killed command line is not started
again by anybody; a trial resumes its run, as a person does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import spotjob
from spotjob.local import probes
from spotjob.local.layout import REGION
from spotjob.local.processes import Processes
from tests.crash import account
from tests.crash.gate import Gate
from tests.crash.proxy import Proxy
from tests.crash.record_gate import RecordGate
from tests.crash.run_naming import RunNames

SEQUENCER, AWS = "sequencer", "aws"
POLL_SECONDS = 0.35
"""Longer than a task lives: the second look sees its end."""
STEP_SECONDS = 0.02
"""A task's way from one status to the next, seven times in its life; its container runs for 0.2 s."""
TIMING = ("provisioning", "pending", "activating", "deactivating", "stopping", "deprovisioning")
PATIENCE_SECONDS = 180.0
"""A process that has not ended by then is stuck; undisturbed ones take 5 to 10 s."""
READY_SECONDS = 60.0

_SOURCES = (Path(spotjob.__file__).parents[1], Path(__file__).parents[2])
_INHERITED_NOT = ("AWS_", "SPOTJOB_", "SEQUENCER_", "KUBE")


class RunLane:
    """An async context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.gate = Gate(self._crash)
        self.crashes = 0
        self._names = RunNames()
        self._processes = Processes(folder)
        self._running: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> RunLane:
        async with AsyncExitStack() as stack:
            (port,) = probes.free_ports(1)
            self.url = f"http://127.0.0.1:{port}"
            await self._start_aws(stack, port)
            names = self._names
            self._proxy = await stack.enter_async_context(
                Proxy(SEQUENCER, self.url, self.gate, names.call, lambda _: None, None)
            )
            self._records = await stack.enter_async_context(RecordGate(SEQUENCER, self.gate, names.write))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.__aexit__(*exc)

    async def _start_aws(self, stack: AsyncExitStack, port: int) -> None:
        arguments = [f"--port={port}", f"--state={self.folder / AWS}", f"--region={REGION}", "--machines=none"]
        command = [sys.executable, "-m", "spotjob.local.aws_server", *arguments]
        self._processes.start(AWS, command, self._environment({}))
        stack.callback(self._processes.stop, [AWS])
        ready = f"{self.url}/_spotjob/ready"
        await asyncio.to_thread(probes.wait_until, lambda: probes.answers(ready), READY_SECONDS, "the AWS server")
        await self.lever("POST", "ecs-timing", **{f"{name}Seconds": STEP_SECONDS for name in TIMING})
        await asyncio.to_thread(account.register, self.url)

    # ---- the command line ----

    async def run(self, arguments: Sequence[str]) -> int | None:
        """One process, until its end: its exit code, -9 when it was killed; None when it did not end by itself."""
        command = [sys.executable, "-m", "tests.crash.held_records", str(self._records.port), *arguments]
        with self.log.open("ab") as log:
            self._running = await asyncio.create_subprocess_exec(
                *command,
                env=self._environment(self._settings),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            return await asyncio.wait_for(self._running.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            return None
        finally:
            await self._kill()

    async def _crash(self, process: str) -> None:
        """kill -9."""
        self.crashes += 1
        await self._kill()

    async def _kill(self) -> None:
        if self._running is not None:
            with contextlib.suppress(ProcessLookupError):
                self._running.kill()
            await self._running.wait()

    @property
    def log(self) -> Path:
        return self._processes.log_file(SEQUENCER)

    @property
    def _settings(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self._proxy.url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "SEQUENCER_SLEEP_BETWEEN_CHECKS": str(POLL_SECONDS),
            "SEQUENCER_STATE_CREATE_TABLE": "true",
        }

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_INHERITED_NOT)}
        own = {"PYTHONPATH": os.pathsep.join(map(str, _SOURCES)), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        return {**kept, **own, **settings}

    # ---- hands ----

    async def lever(self, method: str, name: str, **body: Any) -> Any:
        url = f"{self.url}/_spotjob/{name}"
        status, answer = await asyncio.to_thread(probes.send, method, url, body, timeout_seconds=30)
        assert status < 300, answer
        return json.loads(answer)

    async def tasks(self) -> list[dict[str, Any]]:
        """All tasks that ever were, oldest first."""
        shown: list[dict[str, Any]] = (await self.lever("GET", "ecs-tasks"))["tasks"]
        return shown

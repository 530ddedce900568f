"""One local platform whose operator and API reach their servers through proxies, and can be killed at any write.

The control plane, the AWS server, the registry, the agents and the containers stay up; a killed process is started
again at once, as a kubelet does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from spotjob.clock import RealClock
from spotjob.kube.client import KubeClient
from spotjob.kube.config import from_kubeconfig
from spotjob.local import account, kubeconfig, parts, probes
from spotjob.local.laptop import Platform
from tests.crash import naming
from tests.crash.gate import Gate
from tests.crash.points import API, OPERATOR
from tests.crash.proxy import Proxy
from tests.crash.watching import Watching
from tests.crash.witness import Witness

PROCESSES = (OPERATOR, API)
WINDOW_SECONDS = 120
"""W, as short as the product allows: at the end we wait this long for instances that nobody bound."""
BOOT_SECONDS = 0.2
SEQUENCE_POLL_SECONDS = 0.5
"""Between two looks at the ECS tasks of a JobSequence."""
PERSON = "crash-tester"


class Lane:
    """An async context manager. At its end operator and API are down, and the rest of the platform is as it was."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.gate = Gate(self.crash)
        self.crashes = 0
        self._names = naming.Names()
        self._proxies: dict[str, list[Proxy]] = {}
        self._environments: dict[str, dict[str, str]] = {}
        self._past: set[str] = set()

    async def __aenter__(self) -> Lane:
        async with AsyncExitStack() as stack:
            self.layout = await asyncio.to_thread(self.platform.up)
            self.kube = await stack.enter_async_context(
                KubeClient(from_kubeconfig(Path(self.layout.admin_kubeconfig)), RealClock())
            )
            self.watching = await stack.enter_async_context(Watching(self.kube))
            self.witness = await stack.enter_async_context(Witness())
            await self._interpose(stack)
            await self.aws("POST", "boot-seconds", {"seconds": BOOT_SECONDS})
            await asyncio.to_thread(self._make_person)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self._stack.__aexit__(*exc)

    # ---- the processes ----

    async def _interpose(self, stack: AsyncExitStack) -> None:
        """Start operator and API anew, each with its own proxies."""
        for process in PROCESSES:
            self.platform.processes.stop([process])
            config = json.loads(self.layout.account_kubeconfig(process).read_text())
            cluster = config["clusters"][0]["cluster"]
            kube = Proxy(process, cluster["server"], self.gate, self._kube_name, self._names.learn, _ca(cluster))
            aws = Proxy(process, self.layout.aws_url, self.gate, self._aws_name, lambda _: None, None)
            self._proxies[process] = [await stack.enter_async_context(proxy) for proxy in (kube, aws)]
            config["clusters"][0]["cluster"] = {"server": kube.url}
            path = kubeconfig.write(self.layout.folder / "kubeconfigs" / f"{process}-by-proxy", config)
            self._environments[process] = parts.environment(process, self.layout, os.environ) | {
                "KUBECONFIG": str(path),
                "AWS_ENDPOINT_URL": aws.url,
                "SPOTJOB_LAUNCH_WINDOW_SECONDS": str(WINDOW_SECONDS),
                "SPOTJOB_SEQUENCE_POLL_SECONDS": str(SEQUENCE_POLL_SECONDS),
            }
            stack.callback(self.platform.processes.stop, [process], grace_seconds=0)
            self.start(process)
        for process in PROCESSES:
            await self._ready(process)

    @property
    def home(self) -> str:
        """The namespace of the operator's Lease."""
        return from_kubeconfig(self.layout.account_kubeconfig(OPERATOR)).namespace

    def start(self, process: str) -> None:
        command = parts.command(process, self.layout)
        self.platform.processes.start(process, command, self._environments[process])

    def stop(self, process: str) -> None:
        """kill -9."""
        self.platform.kill(process)
        for proxy in self._proxies[process]:
            proxy.hang_up()

    async def _ready(self, process: str) -> None:
        url = self.layout.ready_url(process)
        await asyncio.to_thread(probes.wait_until, lambda: probes.answers(url), 60, f"{process} to be ready")

    async def crash(self, process: str) -> None:
        """kill -9, and a new process with the same identity."""
        self.stop(process)
        self.crashes += 1
        self.start(process)

    async def steady(self) -> list[str]:
        """Return when both processes are ready: the last words of those that had ended by themselves."""
        ended = []
        for process in PROCESSES:
            if not self.platform.processes.alive(process):
                ended.append(f"the {process} ended by itself: {self.platform.processes.last_lines(process, 5)}")
                self.start(process)
            await self._ready(process)
        return ended

    def _kube_name(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        return self._names.of(method, path, body)

    def _aws_name(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> str | None:
        name = naming.aws(headers, body)
        return f"{name}, of an earlier job" if name and naming.item_id(body) in self._past else name

    def over(self, uid: str) -> None:
        """What is still written about this job is no part of the next one's life."""
        self._past.add(uid)

    # ---- hands ----

    async def aws(self, method: str, name: str, body: Mapping[str, Any] | None = None) -> Any:
        url = f"{self.layout.aws_url}/_spotjob/{name}"
        status, answer = await asyncio.to_thread(probes.send, method, url, body, timeout_seconds=30)
        assert status < 300, answer
        return json.loads(answer) if answer else None

    async def alive(self, *, ending: bool) -> set[str]:
        """Ids of all instances that are not terminated; with or without those that are shutting down."""
        listed = await asyncio.to_thread(account.instances_alive, self.layout.aws_url)
        return {each["id"] for each in listed if ending or each["state"] != "shutting-down"}

    async def item(self, uid: str) -> dict[str, Any]:
        """The item of table Jobs; empty if there is none."""
        items = await asyncio.to_thread(account.items, self.layout.aws_url)
        return next((dict(item) for item in items if item["id"] == uid), {})

    def console(self, instance_id: str) -> str:
        """The serial console so far, as EC2 would show it later."""
        path = self.layout.folder / "aws" / "instances" / instance_id / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    async def rest(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> int:
        """One request of a person to the REST API; its status."""
        url = f"{self.layout.api_url}{path}"
        status, _ = await asyncio.to_thread(probes.send, method, url, body, token=self._token, timeout_seconds=10)
        return status

    def _make_person(self) -> None:
        kubectl = self.layout.cluster.kubectl
        kubectl("create", "serviceaccount", PERSON)
        kubectl("create", "rolebinding", PERSON, "--clusterrole=edit", f"--serviceaccount=default:{PERSON}")
        self._token = kubectl("create", "token", PERSON, "--duration=24h").stdout.strip()


def _ca(cluster: Mapping[str, Any]) -> bytes:
    if "certificate-authority-data" in cluster:
        return base64.b64decode(cluster["certificate-authority-data"])
    return Path(cluster["certificate-authority"]).read_bytes()

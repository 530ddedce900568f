"""The local platform: starts what is missing, tells what runs, and takes everything away again.

`up` leaves its children running and ends; nothing restarts them, so that a test that kills one sees it dead.
Every command finds the platform again by its state folder alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from spotjob.local import binaries, containers, content, control_plane, docker, parts, probes, provision
from spotjob.local import layout as layouts
from spotjob.local.errors import LocalError
from spotjob.local.layout import API, AWS, OPERATOR, REGISTRY, Layout, Rights
from spotjob.local.processes import Processes
from spotjob.local.progress import Progress

_READY_SECONDS = 60.0
_NO_DOCKER = (
    "No Docker Engine answers: containers are played by plain processes, without isolation. "
    "To have real ones, install and start docker, then `spotjob local down` and up again."
)
_RUN_FOLDERS = ("processes", "control-plane", "keys", "kubeconfigs", "aws")


class NotUp(LocalError):
    """There is no platform in this folder."""


class Busy(LocalError):
    """Another command works on this folder."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the first `up` decides; the platform keeps it until `down`."""

    kubeconfig: Path | None = None
    """A cluster of the user's own; None means a control plane of ours."""
    rights: Rights = "base"
    boot_seconds: float | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Of operator and API, by variable, such as SPOTJOB_LAUNCH_WINDOW_SECONDS."""


@dataclass(frozen=True, slots=True)
class PartStatus:
    """One line of `spotjob local status`."""

    name: str
    state: str
    """up, not ready, dead, stopped."""
    pid: int | None = None
    started_at: float | None = None
    """Seconds since the epoch."""
    url: str = ""
    log: str = ""


class Platform:
    """One platform; `state` is its folder, which is made when needed."""

    def __init__(self, state: Path, progress: Progress | None = None) -> None:
        self.processes = Processes(state)
        self.state = self.processes.state
        self._progress = progress or Progress()

    @property
    def layout(self) -> Layout:
        """Raises NotUp."""
        if found := layouts.load(self.state):
            return found
        raise NotUp(f"no local platform in {self.state}: start one with `spotjob local up`")

    @property
    def exists(self) -> bool:
        """Whether there is something for `down` to stop."""
        return layouts.load(self.state) is not None

    # ---- up -------------------------------------------------------------------------------------------------------

    def up(self, options: Options | None = None) -> Layout:
        """Start whatever does not run, and return when all of it is ready. Raises LocalError."""
        with self._alone():
            layout = layouts.load(self.state) or self._found(options or Options())
            # These two take seconds to come up and need nothing of the others.
            for part in (REGISTRY, AWS):
                self._start_missing(part, layout)
            if layout.own_control_plane:
                with self._progress.step("Kubernetes control plane"):
                    self._start_control_plane(layout)
            self._await(AWS, layout, "simulated AWS")
            if docker.find(os.environ) is None:
                self._progress.say(f"  {_NO_DOCKER}")
            self._await(REGISTRY, layout, "image registry")
            with self._progress.step("kinds, rights and the default SpotJobClass"):
                self._fill(layout)
            for part in (OPERATOR, API):
                self._start_missing(part, layout)
            self._await(OPERATOR, layout, "operator")
            self._await(API, layout, "REST API")
            return layout

    def start(self, part: str) -> None:
        """Start one part again as it was, and wait until it is ready."""
        layout = self.layout
        if part in control_plane.PROCESSES:
            self._start_control_plane(layout)
        else:
            self._start_missing(part, layout)
            self._wait_ready(part, layout)

    def kill(self, part: str) -> None:
        """kill -9."""
        self.processes.kill(part)

    def _found(self, options: Options) -> Layout:
        """Decide what the new platform is made of."""
        shutil.rmtree(self.state / "logs", ignore_errors=True)
        wanted = ("kubectl",) if options.kubeconfig else binaries.NAMES
        programs = {name: str(path) for name, path in provision.obtain(self._progress, wanted).items()}
        own = self.state / "control-plane" / "admin.kubeconfig"
        return layouts.save(
            Layout(
                state=str(self.state),
                kubectl=programs["kubectl"],
                programs={} if options.kubeconfig else programs,
                admin_kubeconfig=str((options.kubeconfig or own).absolute()),
                ports=layouts.choose_ports(),
                rights=options.rights,
                boot_seconds=options.boot_seconds,
                settings=dict(options.settings),
            )
        )

    def _start_control_plane(self, layout: Layout) -> None:
        programs = {name: Path(path) for name, path in layout.programs.items()}
        control_plane.start(self.processes, programs, layout.control_plane_ports)

    def _start_missing(self, part: str, layout: Layout) -> None:
        if not self.processes.alive(part):
            self.processes.start(part, parts.command(part, layout), parts.environment(part, layout, os.environ))

    def _fill(self, layout: Layout) -> None:
        content.apply_manifests(layout)
        content.write_account_kubeconfigs(layout)
        content.make_token_key(layout.key_folder)
        content.apply_default_class(layout)

    def _await(self, part: str, layout: Layout, title: str) -> None:
        with self._progress.step(title):
            self._wait_ready(part, layout)

    def _wait_ready(self, part: str, layout: Layout) -> None:
        def ready() -> bool:
            if not self.processes.alive(part):
                log = self.processes.log_file(part)
                raise probes.NotReady(f"{part} ended; last lines of {log}:\n{self.processes.last_lines(part)}")
            return probes.answers(layout.ready_url(part))

        probes.wait_until(ready, _READY_SECONDS, f"{part} (log: {self.processes.log_file(part)})")

    # ---- status ---------------------------------------------------------------------------------------------------

    def status(self) -> list[PartStatus]:
        """Every part in the order of its start. Raises NotUp."""
        layout = self.layout
        return [self._status_of(part, layout) for part in layout.parts]

    def _status_of(self, part: str, layout: Layout) -> PartStatus:
        url, log = layout.ready_url(part), str(self.processes.log_file(part))
        child = self.processes.find(part)
        if child is None:
            return PartStatus(part, "stopped", url=url, log=log)
        state = "dead"
        if child.alive:
            state = "up" if not url or self._answers(part, url) else "not ready"
        return PartStatus(part, state, child.pid, child.started_at, url, log)

    def _answers(self, part: str, url: str) -> bool:
        if part != control_plane.API_SERVER:
            return probes.answers(url)
        return self.layout.cluster.kubectl("get", "--raw=/readyz", "--request-timeout=2s", check=False).returncode == 0

    # ---- down -----------------------------------------------------------------------------------------------------

    def down(self) -> None:
        """Leave no process, container, image, and no file but the logs. Works on whatever is left of a platform."""
        if not self.state.is_dir():
            return
        with self._alone():
            # The cluster and its jobs are thrown away, so whatever works on them need not end well.
            self.processes.stop((OPERATOR, API, *control_plane.PROCESSES), grace_seconds=0)
            # Simulated instances get the time to stop their containers.
            self.processes.stop((AWS, REGISTRY))
            self.processes.sweep()
            self._clear_docker()
            for name in _RUN_FOLDERS:
                shutil.rmtree(self.state / name, ignore_errors=True)
            layouts.forget(self.state)

    def _clear_docker(self) -> None:
        """Remove what instances left in the Docker Engine: containers, and the test image under our registry's name."""
        engine, layout = docker.find(os.environ), layouts.load(self.state)
        containers.remove_all(self.state, engine)
        if engine is not None and layout is not None:
            engine.untag(layout.test_image)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One command at a time; the kernel frees the lock when its holder ends, however it ends."""
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            lock = (self.state / "lock").open("w")
        except OSError as error:
            raise LocalError(f"the state of the platform cannot be kept in {self.state}: {error}") from error
        with lock as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise Busy(f"another spotjob command is at work in {self.state}: wait for it, or stop it") from error
            yield

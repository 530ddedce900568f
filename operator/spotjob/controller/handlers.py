"""kopf as informer and process shell: it watches, and hands each object to the runtime. Nothing else happens here.

No timers, daemons, create or update handlers: each costs tasks, memory and writes per object (ADR 0003).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from importlib.resources import files
from typing import Any, NoReturn, TypeVar

import kopf
from pydantic import ValidationError

from spotjob.aws.clients import make_aws
from spotjob.aws.dynamodb import open_table
from spotjob.aws.ecs import EcsRegions, make_ecs
from spotjob.aws.interruptions import make_queues
from spotjob.aws.run_task_model import parameter_faults
from spotjob.clock import RealClock
from spotjob.controller.figures import Figures
from spotjob.controller.lease import Lease
from spotjob.controller.orders import Cluster
from spotjob.controller.probes import Probes
from spotjob.controller.runtime import Runtime
from spotjob.controller.sequences import Sequences
from spotjob.controller.store import Store, narrow
from spotjob.core.ports import KubeError, Queue, Table, Unanswered
from spotjob.core.resources import SpotJob, SpotJobClass
from spotjob.core.sequence.resources import JobSequence
from spotjob.core.tokens import launch_token
from spotjob.core.wire import GROUP, VERSION
from spotjob.identity import identity_problem
from spotjob.keyring import KeyringError, load_keyring
from spotjob.kube.client import KubeClient
from spotjob.kube.config import ConfigError, load_config
from spotjob.kube.sequences import KubeSequences
from spotjob.settings import Settings

log = logging.getLogger(__name__)

Kind = TypeVar("Kind", SpotJob, JobSequence)

EXIT_UNUSABLE = 2
"""Exit code for a configuration with which the operator must not start."""


def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT. Exits with 2 when it must not start."""
    problem = identity_problem(settings.instance_identity, os.environ)
    if problem is not None:
        sys.exit(_unusable(problem))
    kopf.configure(log_format=_log_format(settings))
    for noisy in ("kopf", "botocore", "boto3", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        asyncio.run(_main(settings))
    except (ConfigError, KeyringError) as error:
        sys.exit(_unusable(str(error)))
    except (KubeError, Unanswered) as error:
        sys.exit(f"spotjob operator: the Kubernetes API server does not serve what the operator needs: {error}")
    _leave()


def _leave() -> NoReturn:
    """Everything has ended. What Python does after this only frees memory: half a second, four on a busy CPU."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _unusable(message: str) -> int:
    print(f"spotjob operator: {message}", file=sys.stderr)
    return EXIT_UNUSABLE


def _log_format(settings: Settings) -> kopf.LogFormat:
    return kopf.LogFormat.JSON if settings.log_format == "json" else kopf.LogFormat.FULL


async def _main(settings: Settings) -> None:
    clock = RealClock()
    async with KubeClient(load_config(os.environ), clock) as kube:
        keyring = load_keyring(settings.token_key_dir)
        cluster = Cluster(
            name=settings.cluster_name,
            uid=await kube.cluster_uid(),
            agent_source=(files("spotjob.agent") / "agent.py").read_text(),
            launch_token=launch_token(keyring, await kube.cluster_uid()),
            window_seconds=settings.launch_window_seconds,
        )
        lease = Lease(kube, clock, _identity(settings), settings.lease_seconds)
        ecs = make_ecs(settings.task_events_queue)
        runtime = Runtime(
            settings,
            kube,
            make_aws(clock),
            _table(settings),
            lease,
            clock,
            cluster,
            keyring,
            _queues(settings),
            lambda spot_jobs: _sequences(settings, kube, ecs, spot_jobs, clock, lease),
        )
        await _serve(settings, runtime)


def _sequences(
    settings: Settings, kube: KubeClient, ecs: EcsRegions, spot_jobs: Store, clock: RealClock, lease: Lease
) -> Sequences:
    api = KubeSequences(kube, clock)
    return Sequences(api, kube, ecs, parameter_faults, spot_jobs, clock, lease, settings.sequence_poll_seconds)


def _table(settings: Settings) -> Callable[[], Awaitable[Table]] | None:
    if not settings.mirror_table:
        return None
    return partial(open_table, settings.mirror_region, settings.mirror_table, create=settings.mirror_create_table)


def _queues(settings: Settings) -> Callable[[str], Queue] | None:
    return make_queues(settings.interruption_queue).open if settings.interruption_queue else None


def _identity(settings: Settings) -> str:
    return settings.identity or f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


async def _serve(settings: Settings, runtime: Runtime) -> None:
    """kopf and the runtime side by side: whichever ends first, by a signal or by a fault, ends the process."""
    stop = asyncio.Event()
    watching = asyncio.Event()
    async with Probes(settings.metrics_port, lambda: watching.is_set() and runtime.synced, Figures(runtime)):
        working = asyncio.create_task(runtime.run())
        working.add_done_callback(lambda _: stop.set())
        handlers = registry(runtime)

        @kopf.on.cleanup(registry=handlers)
        async def end(**_: Any) -> None:
            """Before kopf's own end: it waits five seconds for tasks that it does not know."""
            await _cancelled(working)

        try:
            await kopf.operator(
                registry=handlers, ready_flag=watching, stop_flag=stop, clusterwide=True, standalone=True
            )
        finally:
            await _cancelled(working)
    if not working.cancelled() and (fault := working.exception()) is not None:
        raise fault


async def _cancelled(task: asyncio.Task[None]) -> None:
    """Cancel a task and see it end, however it ends."""
    task.cancel()
    await asyncio.wait({task})


def registry(runtime: Runtime) -> kopf.OperatorRegistry:
    """The handlers. Each one parses, stores, enqueues: errors of on.event handlers are dropped by kopf.

    They are coroutine functions, because kopf calls anything else in a thread, and nothing in the runtime may be
    touched from another thread than its event loop's.
    """
    made = kopf.OperatorRegistry()

    @kopf.on.startup(registry=made)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        _configure(settings)

    @kopf.on.login(registry=made)
    def login(**arguments: Any) -> kopf.ConnectionInfo | None:
        """As KubeClient: $KUBECONFIG wins, then the pod's ServiceAccount, then ~/.kube/config."""
        if os.environ.get("KUBECONFIG"):
            return kopf.login_with_kubeconfig(**arguments)
        return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)

    jobs = _heard(SpotJob, runtime.job_changed, runtime.job_deleted)
    kopf.on.event(GROUP, VERSION, "spotjobs", registry=made, id="job_event")(jobs)
    sequences = _heard(JobSequence, runtime.sequence_changed, runtime.sequence_deleted)
    kopf.on.event(GROUP, VERSION, "jobsequences", registry=made, id="sequence_event")(sequences)

    @kopf.on.event(GROUP, VERSION, "spotjobclasses", registry=made)
    async def class_event(event: kopf.RawEvent, **_: Any) -> None:
        if event["type"] == "DELETED":
            runtime.class_deleted(str(event["object"]["metadata"]["name"]))
        else:
            runtime.class_changed(SpotJobClass.model_validate(narrow(event["object"])))

    return made


def _heard(
    kind: type[Kind], changed: Callable[[Kind], None], deleted: Callable[[Kind], None]
) -> Callable[..., Coroutine[Any, Any, None]]:
    """The handler of one kind."""

    async def heard(event: kopf.RawEvent, **_: Any) -> None:
        if (found := _narrowed(kind, event["object"])) is not None:
            (deleted if event["type"] == "DELETED" else changed)(found)

    return heard


def _narrowed(kind: type[Kind], body: Any) -> Kind | None:
    """The object in our type; one that this version cannot read is left alone, loudly."""
    try:
        return kind.model_validate(narrow(body))
    except ValidationError as error:
        named = f"{body['metadata'].get('namespace')}/{body['metadata']['name']}"
        log.error("%s %s is left alone: %d fields cannot be read", kind.__name__, named, error.error_count())
        return None


class NoDiff(kopf.DiffBaseStorage):
    """No handler here looks at differences; computing them is most of kopf's time per event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        return {}

    def fetch(self, *, body: Any) -> Any:
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nothing is stored."""


class NoProgress(kopf.ProgressStorage):
    """No handler here is retried by kopf, so there is no progress to keep on the objects."""

    def fetch(self, *, key: Any, body: Any) -> Any:
        return None

    def store(self, *, key: Any, record: Any, body: Any, patch: Any) -> None:
        """Nothing is stored."""

    def purge(self, *, key: Any, body: Any, patch: Any) -> None:
        """Nothing is stored."""

    def touch(self, *, body: Any, patch: Any, value: Any) -> None:
        """Nothing is stored."""

    def clear(self, *, essence: Any) -> Any:
        return essence


class Patiently:
    """Pauses between tries of a list or watch, without end: an API server's outage must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.5, 1, 2, 5)
        while True:
            yield random.uniform(5, 10)  # noqa: S311 -- jitter, no secret


def _configure(settings: kopf.OperatorSettings) -> None:
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.queueing.idle_timeout = 0.1
    settings.watching.chunk_size = 500
    settings.watching.inactivity_timeout = 20
    settings.watching.connect_timeout = 10
    settings.networking.request_timeout = 30
    settings.networking.error_backoffs = Patiently()
    settings.networking.enforce_retry_after = True
    settings.process.ultimate_exiting_timeout = 25
    settings.persistence.diffbase_storage = NoDiff()
    settings.persistence.progress_storage = NoProgress()

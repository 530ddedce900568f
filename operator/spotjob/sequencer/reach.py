"""The services that do what a run asks for: ECS always, Kubernetes only when a step is a SpotJob."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from spotjob.aws.clients import Session
from spotjob.aws.ecs import EcsRegions
from spotjob.core.ports import Clock, Conflict, KubeError, Unanswered
from spotjob.core.sequence.ports import Action, CreateJob, DeleteJob, GetJob, News, Refusal, Refused
from spotjob.core.sequence.references import Unresolved, resolve
from spotjob.core.sequence.runs import Run, job_name
from spotjob.core.sequence.steps import Sequence
from spotjob.kube.child_jobs import job_body, perform_job
from spotjob.kube.client import KubeClient
from spotjob.kube.config import ConfigError, load_config
from spotjob.sequencer.environment import BadUsage

RUN_LABEL = "spotjob.dev/sequencer-run"
"""On each SpotJob: the run that it belongs to."""


class Reach:
    """Does the actions of one run. Nothing is raised: whatever comes back is news."""

    def __init__(self, ecs: EcsRegions, kube: KubeClient | None, namespace: str, run_id: str) -> None:
        self._ecs, self._kube, self._namespace = ecs, kube, namespace
        self.log_tail = ecs.log_tail
        self._labels = {RUN_LABEL: run_id}

    async def perform(self, action: Action) -> News:
        if not isinstance(action, CreateJob | GetJob | DeleteJob):
            return await self._ecs.perform(action)
        if self._kube is None:
            return Refused(Refusal.FINAL, "NoKubernetes", "the run was opened without Kubernetes")
        return await perform_job(self._kube, self._namespace, action, self._labels)

    async def try_jobs(self, sequence: Sequence, run: Run) -> None:
        """Send each SpotJob as a dry run, so that the API server says now what it would refuse. Raises BadUsage.

        One that needs the result of a step that has not run cannot be tried.
        """
        for place, step in enumerate(sequence.steps):
            if self._kube is None or step.type != "spot_job" or run.steps[place].state.over or not step.active:
                continue
            with suppress(Unresolved):
                spec = resolve(step.parameters, run, place)
                body = job_body(job_name(run.id, place, 1), spec, self._labels, None)
                await self._try(self._kube, step.name, body)

    async def _try(self, kube: KubeClient, name: str, body: dict[str, object]) -> None:
        try:
            await kube.create_job(self._namespace, body, dry_run=True)
        except Conflict:
            return  # the run is resumed, and its job is there
        except KubeError as error:
            raise BadUsage(f"{name}: the API server refuses its SpotJob: {error.message}") from error
        except Unanswered as error:
            raise BadUsage(f"{name}: the API server does not answer: {error}") from error


@asynccontextmanager
async def reach(
    sequence: Sequence, namespace: str, run_id: str, events_queue: str, clock: Clock
) -> AsyncIterator[Reach]:
    """Opened, and closed again once all calls have ended. Raises BadUsage."""
    active = [step for step in sequence.steps if step.active]
    session = Session()
    if not session.region and any(step.type == "ecs_task" and not step.region for step in active):
        raise BadUsage("no AWS region: set AWS_REGION, or `region` of each step")
    ecs = EcsRegions(session, events_queue)
    try:
        if not any(step.type == "spot_job" for step in active):
            yield Reach(ecs, None, "", run_id)
            return
        try:
            config = load_config(os.environ)
        except ConfigError as error:
            raise BadUsage(f"a step is a SpotJob: {error}") from error
        async with KubeClient(config, clock) as kube:
            yield Reach(ecs, kube, namespace or config.namespace, run_id)
    finally:
        ecs.close()

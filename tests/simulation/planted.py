"""Bugs that are planted into the product by replacing its parts, to see that the histories find them.

The product has no switch for any of this: each bug is a patch of a class or a function for the time of one history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from spotjob.controller import console, fleet, reconcile
from spotjob.controller.runtime import Runtime
from spotjob.core import claims, conditions, decide, during, ledger, reports
from spotjob.core.ports import KubeError, Unanswered
from spotjob.core.reasons import Outcome
from spotjob.core.resources import Attempt, SpotJob
from spotjob.core.states import Bound, Change, Decision, InstanceState, LastWords, Observed
from tests.simulation.cluster import Cluster

Plant = Callable[[ExitStack], None]
PLANTED: dict[str, Plant] = {}


@contextmanager
def planted(bug: str | None) -> Iterator[None]:
    """With this bug, if any."""
    with ExitStack() as stack:
        if bug is not None:
            PLANTED[bug](stack)
        yield


def _plant(function: Plant) -> Plant:
    PLANTED[function.__name__.replace("_", "-")] = function
    return function


def _put(stack: ExitStack, owner: object, name: str, value: object) -> None:
    stack.enter_context(patch.object(owner, name, value))


@_plant
def bind_without_resource_version(stack: ExitStack) -> None:
    """The API server is not asked to compare: the bind overwrites whatever has been written since."""
    checked = Cluster._checked
    original = Cluster.write_status

    async def write_status(self: Cluster, job: SpotJob, status: Mapping[str, Any]) -> SpotJob:
        if status.get("reason") == "Booting" and "attempts" in status:
            _unchecked.add(job.metadata.uid)
        return await original(self, job, status)

    def lenient(self: Cluster, job: SpotJob) -> dict[str, Any]:
        if job.metadata.uid in _unchecked and job.key in self.jobs:
            _unchecked.discard(job.metadata.uid)
            version = self.jobs[job.key]["metadata"]["resourceVersion"]
            newest = job.metadata.model_copy(update={"resource_version": version})
            job = job.model_copy(update={"metadata": newest})
        return checked(self, job)

    _unchecked: set[str] = set()
    _put(stack, Cluster, "write_status", write_status)
    _put(stack, Cluster, "_checked", lenient)


@_plant
def ambiguous_bind_taken_as_free(stack: ExitStack) -> None:
    """No answer to a bind: the operator takes it for not written, and gives the instance to the next job."""
    original = reconcile.Reconciler._write

    async def _write(self: Any, job: SpotJob, change: Change) -> SpotJob:
        try:
            return await original(self, job, change)
        except Unanswered as error:
            if not isinstance(change, Bound):
                raise
            self._launcher.forget(job.key)
            raise KubeError(500, "not written, as it seems") from error

    _put(stack, reconcile.Reconciler, "_write", _write)


@_plant
def rebind_at_shutting_down(stack: ExitStack) -> None:
    """shutting-down is taken for dead."""
    _put(stack, InstanceState, "dead", property(lambda self: self.ending))
    ending = (InstanceState.TERMINATED, InstanceState.ABSENT, InstanceState.SHUTTING_DOWN)
    _put(stack, InstanceState, "ending", property(lambda self: self in ending))


@_plant
def one_empty_listing_taken_as_gone(stack: ExitStack) -> None:
    """An instance that one listing by id does not show is absent at once."""
    _put(stack, ledger, "ABSENT_AFTER_LISTINGS", 1)
    _put(stack, ledger, "ABSENT_AFTER", timedelta(0))


@_plant
def client_token_reused_after_an_answer(stack: ExitStack) -> None:
    """The token is the shape's, not the launch's."""
    original = fleet.plan.fleet_request

    def fleet_request(*arguments: Any, **options: Any) -> dict[str, Any]:
        return original(*arguments, **{**options, "client_token": f"token-of-{options['shape']}"})

    _put(stack, fleet.plan, "fleet_request", fleet_request)


@_plant
def terminate_forgotten_on_delete(stack: ExitStack) -> None:
    """A deleted job's instance is left to itself."""
    original = reconcile.Reconciler._terminate

    def _terminate(self: Any, job: SpotJob, instance_id: str) -> None:
        if not job.deleting:
            original(self, job, instance_id)

    _put(stack, reconcile.Reconciler, "_terminate", _terminate)


@_plant
def late_report_overwrites_a_verdict(stack: ExitStack) -> None:
    """A report is believed whatever the job has come to by now."""
    next_status = conditions.next_status

    def change_for(job: SpotJob, report: Any, now: Any) -> Change | None:
        attempt = job.current
        if report.kind != "finished" or attempt is None:
            return original(job, report, now)
        return reports.judge(job, attempt, report)

    def unguarded(job: SpotJob, change: Change, now: Any) -> Any:
        if not job.finished:
            return next_status(job, change, now)
        status = conditions._apply(job, change, now.replace(microsecond=0))
        return status.model_copy(update={"observed_generation": job.metadata.generation})

    original = reports.change_for
    _put(stack, reports, "change_for", change_for)
    _put(stack, conditions, "next_status", unguarded)


@_plant
def claimed_after_it_was_deleted(stack: ExitStack) -> None:
    """The claim does not look at the deletion."""
    original = claims.closed

    def closed(job: SpotJob) -> str | None:
        why = original(job)
        return None if job.deleting and not job.finished and not job.spec.suspend else why

    _put(stack, claims, "closed", closed)


@_plant
def swept_by_a_leader_whose_store_is_not_full(stack: ExitStack) -> None:
    """A new leader takes what its watch has brought for the whole truth."""

    async def _list(self: Runtime) -> None:
        self.store.listed_classes(await self._kube.list_classes(), frozenset())

    _put(stack, Runtime, "_list", _list)


@_plant
def exit_0_after_our_signal_taken_as_success(stack: ExitStack) -> None:
    """An exit code counts although it was our signal that ended the container."""
    original = reports._after_our_signal

    def _after_our_signal(job: SpotJob, attempt: Attempt, exit_code: int) -> Outcome:
        return Outcome.SUCCEEDED if exit_code == 0 else original(job, attempt, exit_code)

    _put(stack, reports, "_after_our_signal", _after_our_signal)


# ---- bugs of interruptions, orders and last words -------------------------------------------------------------------


@_plant
def spare_bound_while_the_old_container_runs(stack: ExitStack) -> None:
    """The spare is there, so it is bound."""
    original = decide.during

    def hasty(job: SpotJob, attempt: Attempt, observed: Observed, now: Any) -> Decision:
        if attempt.notice_at is not None and observed.offer is not None:
            return Decision(change=Bound(observed.offer))
        return original(job, attempt, observed, now)

    _put(stack, decide, "during", hasty)


@_plant
def last_words_ignored(stack: ExitStack) -> None:
    """The console is asked, and its answer not read."""

    async def _ask(self: Any, job: SpotJob, attempt: Attempt) -> LastWords | None:
        return LastWords(None)

    _put(stack, console.ConsoleReader, "_ask", _ask)


@_plant
def drill_ordered_for_ever(stack: ExitStack) -> None:
    """The annotation stays, so each attempt is drilled."""
    original = reconcile.Reconciler._carry_out

    async def _carry_out(self: Any, job: SpotJob, decision: Decision) -> None:
        await original(self, job, replace(decision, end_drill=False))

    _put(stack, reconcile.Reconciler, "_carry_out", _carry_out)


@_plant
def host_given_up_though_its_agent_speaks(stack: ExitStack) -> None:
    """Failing status checks are believed more than the agent."""

    def _lost_at(attempt: Attempt) -> Any:
        return None if attempt.impaired_at is None else attempt.impaired_at + during.IMPAIRED_FOR

    _put(stack, during, "_lost_at", _lost_at)

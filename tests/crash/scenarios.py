"""The lives of jobs in which processes are killed. Together they make the product write everything that it writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from spotjob.core.reasons import Phase, Reason
from spotjob.core.resources import DRILL_ANNOTATION, SpotJob
from tests.crash.oracle import Expected

PLENTY, SCARCE = "m7i.*", "m7a.*"
"""What runs out in one scenario is not what the others ask for: an empty pool is remembered for minutes."""

WARNING_SECONDS = 20
"""The agent looks for a notice every 5 s; a restarted API then has time to hear of the end."""
SIGNAL_AT_ONCE = {"interruption": {"secondsBefore": 60}}

LONG = "sleep 300"
BRIEF = "code=0"
STEADY = "sleep 2.5; code=0"
"""Longer than the two seconds after which the agent reports that the container has started."""

CALLBACK = """
for again in $(seq 60); do
  wget -q -O /dev/null \\
    --header "Authorization: Bearer $SPOTJOB_CALLBACK_TOKEN" --header "Content-Type: application/json" \\
    --post-data '{"status": "ok", "message": "done"}' "$SPOTJOB_CALLBACK_URL" && break
  sleep 0.5
done
"""


class Trial(Protocol):
    """One job that lives through a scenario, and the hands that a scenario has in it."""

    name: str

    async def until(self, condition: Callable[[SpotJob], bool]) -> SpotJob:
        """The job, once this holds of it."""

    async def until_run(self, attempt: int) -> None:
        """The container of this attempt has begun."""

    async def until_on_console(self, instance_id: str) -> None:
        """The agent has written a result to the instance's serial console."""

    def open(self) -> None:
        """From here on writes are points."""

    def close(self) -> None:
        """The rest of the life is another scenario's."""

    async def lever(self, method: str, name: str, **body: Any) -> None:
        """Pull a lever of the simulated account."""

    async def api(self, *, up: bool) -> None:
        """Take the API away, or give it back."""

    async def patch(self, body: Mapping[str, Any]) -> None:
        """Change the object as its owner would."""

    async def delete_by_rest(self) -> None:
        """DELETE at the REST API, until it is answered."""


ONE_GOOD_RUN = Expected()

Story = Callable[[Trial], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """One life."""

    key: str
    title: str
    work: str
    """What the container does."""
    story: Story
    """What happens to the job meanwhile. The window is opened in it."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    expected: Expected = ONE_GOOD_RUN
    by_rest: bool = False
    """Created through the REST API instead of the API server."""
    afresh: bool = False
    """Before the job comes, the operator starts anew, so that it has forgotten which pools were empty, and the Lease
    is deleted, so that it has to create it."""


def running(job: SpotJob) -> bool:
    return job.status.reason is Reason.CONTAINER_RUNNING


def bound_again(job: SpotJob) -> bool:
    return job.status.attempt == 2


async def _plain(trial: Trial) -> None:
    trial.open()


async def _interrupted(trial: Trial) -> None:
    job = await trial.until(running)
    trial.open()
    await trial.lever("POST", "interrupt", instanceId=job.status.instance_id, warningSeconds=WARNING_SECONDS)
    await trial.until_run(2)
    trial.close()


async def _reclaimed(trial: Trial) -> None:
    """No notice, no report, and no console: EC2 does not know the instance any more, so nothing is waited for."""
    job = await trial.until(running)
    trial.open()
    try:
        await trial.lever("POST", "fault", action="GetConsoleOutput", code="InvalidInstanceID.NotFound", times=1000)
        await trial.lever("POST", "reclaim", instanceId=job.status.instance_id)
        await trial.until_run(2)
    finally:
        await trial.lever("DELETE", "faults")
    trial.close()


async def _unheard(trial: Trial) -> None:
    """The container succeeds while the API is away, and the instance dies before it is back."""
    job = await trial.until(running)
    await trial.api(up=False)
    try:
        await trial.until_on_console(str(job.status.instance_id))
        trial.open()
        await trial.lever("POST", "reclaim", instanceId=job.status.instance_id)
        await trial.until(lambda now: now.status.reason is not Reason.CONTAINER_RUNNING)
    finally:
        await trial.api(up=True)
    await trial.until(lambda now: now.finished)
    trial.close()


async def _drilled(trial: Trial) -> None:
    await trial.until(running)
    trial.open()
    await trial.patch({"metadata": {"annotations": {DRILL_ANNOTATION: "10"}}})
    await trial.until(lambda now: bool(now.current and now.current.notice_at))
    trial.close()


async def _advised(trial: Trial) -> None:
    job = await trial.until(running)
    trial.open()
    await trial.lever("POST", "rebalance", instanceId=job.status.instance_id)
    await trial.until(lambda now: now.finished)
    trial.close()


async def _deleted(trial: Trial) -> None:
    await trial.until(running)
    trial.open()
    await trial.delete_by_rest()


async def _impaired(trial: Trial) -> None:
    """EC2 is asked for failing checks once a minute, and that the agent is heard stands in its next heartbeat."""
    job = await trial.until(running)
    trial.open()
    await trial.lever("POST", "impair", instanceId=job.status.instance_id)
    await trial.until(lambda now: bool(now.current and now.current.heard_at))
    trial.close()
    await trial.delete_by_rest()


async def _failing(trial: Trial) -> None:
    await trial.until_run(1)
    trial.open()
    await trial.until_run(2)
    trial.close()


async def _short(trial: Trial) -> None:
    await trial.lever("POST", "capacity", count=0)
    trial.open()
    try:
        await trial.until(lambda job: job.status.reason is Reason.INSUFFICIENT_CAPACITY)
    finally:
        await trial.lever("POST", "capacity", count=None)
    await trial.until(lambda job: job.status.attempt == 1)
    trial.close()


async def _suspended(trial: Trial) -> None:
    await trial.until(running)
    trial.open()
    await trial.patch({"spec": {"suspend": True}})
    await trial.until(lambda job: job.status.reason is Reason.SUSPENDED)
    await trial.patch({"spec": {"suspend": False}})
    await trial.until(bound_again)
    trial.close()


async def _expiring(trial: Trial) -> None:
    await trial.until(lambda job: job.finished)
    trial.open()


CANCELLED = Expected(phase=Phase.TERMINATED_NOK, reason=Reason.CANCELLED, gone=True)
SECOND = f'if [ "$SPOTJOB_ATTEMPT" = 1 ]; then {LONG}; fi; sleep 1; code=0'
"""Only a second attempt ends."""

WARM_UP = Scenario("warm-up", "a job that only makes the table, and pulls the image", BRIEF, _plain)

SCENARIOS = (
    # Without a callback: an ok that is known already would hide a lost report.
    Scenario("a", "a job that succeeds", STEADY, _plain),
    Scenario(
        "b", "a job that is interrupted with a notice", SECOND, _interrupted, SIGNAL_AT_ONCE, Expected(runs=(1, 2))
    ),
    Scenario("c", "a job that is deleted while it runs", LONG, _deleted, expected=CANCELLED),
    Scenario(
        "d",
        "a job that fails once",
        "sleep 1; code=$((SPOTJOB_ATTEMPT == 1 ? 3 : 0))",
        _failing,
        spec={"backoffLimit": 1},
        expected=Expected(runs=(1, 2)),
    ),
    Scenario(
        "e",
        "a job that waits for capacity; comes by REST; there is no Lease",
        BRIEF,
        _short,
        {"instanceTypes": [SCARCE]},
        by_rest=True,
        afresh=True,
    ),
    Scenario("f", "a job that loses its instance without a notice", SECOND, _reclaimed, expected=Expected(runs=(1, 2))),
    Scenario("g", "a job that is suspended and resumed", SECOND, _suspended, expected=Expected(runs=(1, 2))),
    Scenario(
        "h",
        "a job that is deleted by its time to live",
        BRIEF,
        _expiring,
        spec={"ttlSecondsAfterFinished": 1},
        expected=Expected(gone=True),
    ),
    Scenario("i", "a job that has its result on the console only", STEADY, _unheard),
    Scenario("j", "a job that is drilled", SECOND, _drilled, SIGNAL_AT_ONCE, Expected(runs=(1, 2))),
    Scenario(
        "k", "a job that gets a rebalance recommendation, and calls back", f"sleep 8\n{CALLBACK}\ncode=0", _advised
    ),
    Scenario("l", "a job whose host fails its status checks", LONG, _impaired, expected=CANCELLED),
)

"""The HTTP contract between the API and the agent, the container and the simulator: bodies, paths, names.

The agent is one file of standard library and repeats these names; `tests/contract` holds both against each other.

    GET  /v1/instances/{instance}/assignment     launch token   200 Assignment | 204 not yet
    POST /v1/instances/{instance}/claim          launch token   200 Assignment -> Job | 409 refused: power off
    POST /v1/attempts/{uid}/{number}/report      agent token    200
    POST /v1/attempts/{uid}/{number}/heartbeat   agent token    200 HeartbeatAnswer
    POST /v1/callback                            container token 200

204 always means "ask again"; 401 and 403 are final for that token; 409 on a claim is final for the instance.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field

from spotjob.core.wire import ShortText, Wire

MAX_BODY_BYTES = 1024 * 1024
"""A larger body is answered with 413 before it is read."""

LOG_TAIL_BYTES = 2048

CONTAINER_ENV = (
    "SPOTJOB_NAME",
    "SPOTJOB_NAMESPACE",
    "SPOTJOB_ATTEMPT",
    "SPOTJOB_CALLBACK_URL",
    "SPOTJOB_CALLBACK_TOKEN",
    "SPOTJOB_INTERRUPTION_FILE",
)
"""What every container finds in its environment."""

RESULT_LINE = "SPOTJOB-RESULT"
"""The serial console line `SPOTJOB-RESULT <instance> <uid> <attempt> <finishedAs> <exit code or -> <signalled|free>
<hmac in hex>`, never the log. The HMAC-SHA256 is keyed with the agent token and covers the words between, joined by
single spaces; core/lastwords.py reads it."""


class Strict(Wire):
    """A body that comes from outside: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid")


class Assignment(Wire):
    """Which attempt an instance is meant for. Asking writes nothing."""

    namespace: str
    name: str
    uid: str
    attempt: int


class ClaimRequest(Strict):
    """`POST /v1/instances/{instance}/claim`: exactly the pair that the assignment named."""

    uid: Annotated[str, Field(min_length=1, max_length=64)]
    attempt: Annotated[int, Field(ge=1)]
    nonce: Annotated[str, Field(min_length=16, max_length=128)]
    """Made once per instance and kept on its disk."""


class RegistryAuth(Wire):
    """One registry's login, from imagePullSecrets."""

    username: str
    password: str


class Limits(Wire):
    """The container's limits; absent means none."""

    nano_cpus: int | None = None
    memory_bytes: int | None = None
    gpus: int | None = None


class InterruptionOrders(Wire):
    """What to do when EC2 gives notice."""

    signal: str = "SIGTERM"
    seconds_before: int = 15


class ClaimedJob(Wire):
    """All that the agent needs to run one attempt. Holds secrets: never logged, never stored by the API."""

    namespace: str
    name: str
    uid: str
    attempt: int
    image: str
    command: list[str] | None = None
    args: list[str] | None = None
    env: dict[str, str] = {}
    """The job's variables with their values, and those of CONTAINER_ENV but the interruption file's."""
    registry_auth: dict[str, RegistryAuth] = {}
    """By registry host."""
    limits: Limits = Limits()
    interruption: InterruptionOrders = InterruptionOrders()
    start_by: datetime | None = None
    """The kill timer stands at this time until the container begins."""
    power_off_at: datetime
    """From then on it stands here."""
    agent_token: str
    mask: list[str] = []
    """Values that are blanked out of the log tail."""


ReportKind = Literal["started", "rebalance", "notice", "finished"]
FinishedAs = Literal["Exited", "ImagePullFailed", "RegistryUnavailable", "StartFailed", "HostRebooted"]


class Report(Strict):
    """`POST /v1/attempts/{uid}/{number}/report`. Reports may be repeated; the first one of a kind counts."""

    kind: ReportKind
    at: AwareDatetime
    """The agent's clock: when the container started, or ended; notice: when EC2 takes the instance back; rebalance:
    when EC2 recommended to leave it."""
    finished_as: FinishedAs | None = None
    """With finished: what ended the attempt."""
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = None
    """With finished: the container's exit code; absent when there was none. Absent is never 0."""
    out_of_memory: bool = False
    signalled: bool = False
    """The agent had signalled the container because of a notice or an order before it exited."""
    started_at: AwareDatetime | None = None
    message: ShortText = ""
    log_tail: Annotated[str, Field(max_length=LOG_TAIL_BYTES)] = ""


class Heartbeat(Strict):
    """`POST /v1/attempts/{uid}/{number}/heartbeat?wait=20`, all the time: costs no write.

    The answer is held back for `wait` seconds (at most 30) while there is no order, so an order arrives at once.
    """

    container: Literal["pulling", "running", "exited"] = "running"


class HeartbeatAnswer(Wire):
    """What the agent should do now."""

    order: Literal["continue", "stop", "drill"] = "continue"
    """stop: signal the container, give it `grace_seconds`, kill it, report, power off.
    drill: behave as if EC2 had said that it takes the instance back at `reclaim_at`."""
    grace_seconds: int = 10
    reclaim_at: AwareDatetime | None = None


class Callback(Strict):
    """`POST /v1/callback`: the container says how it went. Its ok becomes the verdict when it exits."""

    status: Literal["ok", "nok"]
    message: ShortText = ""
    uid: str | None = None
    """If given, it must be the token's."""
    attempt: int | None = None
    """If given, it must be the token's."""


class Problem(Wire):
    """RFC 9457 problem details; `application/problem+json`."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    instance: str = ""

"""ECS on boto3: in every region, and the log tails of its containers. Whatever happens is news.

RunTask is sent once per call: the run repeats it with the same token, and counts what it has asked for. All other
calls may be repeated by botocore.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from botocore.exceptions import ParamValidationError

from spotjob.aws.calls import MOST_PAGES, Raw, Threads
from spotjob.aws.clients import THREADS, Session
from spotjob.aws.ecs_answers import (
    CALL_ERRORS,
    Definition,
    definition_from,
    launched,
    launched_before,
    log_stream,
    looked,
    no_such_task,
    trouble,
)
from spotjob.aws.interruptions import Queues
from spotjob.aws.run_task_model import problems, translate
from spotjob.aws.task_events import TaskEvents
from spotjob.core.sequence.ports import (
    DescribeTasks,
    FindTasks,
    Found,
    Launched,
    Looked,
    News,
    Refusal,
    Refused,
    RunTask,
    StopTasks,
    Task,
    Unknown,
)

log = logging.getLogger(__name__)

MOST_TASKS = 100
"""DescribeTasks' limit for one call."""
MOST_DEFINITIONS = 1000
"""So many task definitions are remembered, and then forgotten all at once."""
LOOK_ATTEMPTS = 3
EVENTS_WAIT_SECONDS = 1
NO_EVENTS_QUEUE = (
    "create it with deploy/aws/task-events.yaml, or leave SEQUENCER_TASK_EVENTS_QUEUE (of the operator: "
    "SPOTJOB_TASK_EVENTS_QUEUE) empty"
)

EcsAction = RunTask | FindTasks | DescribeTasks | StopTasks


class BotoEcs:
    """ECS in one region. No method raises for what AWS or the network does."""

    def __init__(
        self,
        region: str,
        once: Threads,
        looks: Threads,
        logs: Callable[[str], Threads],
        events: TaskEvents | None = None,
    ) -> None:
        """`once` sends each request once. `logs` gives the CloudWatch Logs client of a region."""
        self._region, self._once, self._looks, self._logs, self._events = region, once, looks, logs, events
        self._definitions: dict[str, Definition] = {}

    async def run_task(self, request: Mapping[str, Any]) -> Launched | Refused | Unknown:
        """`request` in snake_case, with its client_token."""
        try:
            return launched(await self._once.run(methodcaller("run_task", **translate(request))))
        except ParamValidationError:
            wrong = "; ".join(f"{'.'.join(map(str, each.path))} {each.message}" for each in problems(request))
            return Refused(Refusal.FINAL, "ParamValidation", f"RunTask: {wrong}"[:1024])
        except CALL_ERRORS as error:
            return launched_before(error) or trouble("RunTask", error)

    async def find_tasks(self, cluster: str, started_by: str) -> Found | Refused | Unknown:
        """The running ones first: a task that stops meanwhile is then among the stopped ones."""
        arns: list[str] = []
        for status in ("RUNNING", "STOPPED"):
            listed = await self._listed(cluster=cluster, startedBy=started_by, desiredStatus=status)
            if not isinstance(listed, list):
                return listed
            arns += listed
        return Found(tuple(dict.fromkeys(arns)))

    async def _listed(self, **request: str) -> list[str] | Refused | Unknown:
        """Every page. A page that fails fails the whole: a part must never look like the whole."""
        arns: list[str] = []
        for _ in range(MOST_PAGES):
            page = await self._ask("list_tasks", **request)
            if isinstance(page, Refused | Unknown):
                return page
            arns += page.get("taskArns", [])
            if not page.get("nextToken"):
                return arns
            request["nextToken"] = page["nextToken"]
        return Unknown(f"ListTasks: the listing has no end after {MOST_PAGES} pages")

    async def describe_tasks(
        self, cluster: str, arns: Sequence[str], essential: bool = False
    ) -> Looked | Refused | Unknown:
        answers: list[Raw] = []
        for start in range(0, len(arns), MOST_TASKS):
            chunk = list(arns[start : start + MOST_TASKS])
            answer = await self._ask("describe_tasks", cluster=cluster, tasks=chunk)
            if isinstance(answer, Refused | Unknown):
                return answer
            answers.append(answer)
        news = looked(arns, answers)
        if isinstance(news, Looked) and news.missing and self._events is not None:
            news = await self._events.completed(news)
        return await self._with_essential(news) if essential and isinstance(news, Looked) else news

    async def _with_essential(self, news: Looked) -> Looked | Refused | Unknown:
        """Without them no verdict would be right, so a look without them has not come about."""
        names: dict[str, frozenset[str]] = {}
        for arn in sorted({task.task_definition for task in news.tasks if task.task_definition}):
            definition = await self._definition(arn)
            if not isinstance(definition, Definition):
                return definition
            names[arn] = definition.essential
        return Looked(news.tasks, news.missing, names)

    async def _definition(self, arn: str) -> Definition | Refused | Unknown:
        if arn not in self._definitions:
            answer = await self._ask("describe_task_definition", taskDefinition=arn)
            if isinstance(answer, Refused | Unknown):
                return answer
            if len(self._definitions) >= MOST_DEFINITIONS:
                self._definitions.clear()
            self._definitions[arn] = definition_from(answer)
        return self._definitions[arn]

    async def stop_task(self, cluster: str, arn: str, reason: str) -> Refused | Unknown | None:
        """None when it was told, has stopped, or is not known."""
        answer = await self._ask("stop_task", cluster=cluster, task=arn, reason=reason)
        if isinstance(answer, Unknown) or (isinstance(answer, Refused) and not no_such_task(answer)):
            return answer
        return None

    async def log_tail(self, task: Task, container: str, lines: int) -> tuple[str, ...]:
        """The last lines that a container has logged with awslogs; none when its logs are elsewhere or out of reach.

        A courtesy: what stands in its way is told to the log at level debug, and to nobody else.
        """
        definition = await self._definition(task.task_definition) if task.task_definition else Unknown("no definition")
        if not isinstance(definition, Definition):
            log.debug("no log tail of container %s of %s: %s", container, task.arn, definition)
            return ()
        options = definition.logs.get(container, {})
        stream = log_stream(options, task, container)
        if not options.get("awslogs-group") or stream is None:
            return ()
        request = {"logGroupName": options["awslogs-group"], "logStreamName": stream, "limit": lines}
        try:
            threads = self._logs(options.get("awslogs-region") or self._region)
            answer: Raw = await threads.run(methodcaller("get_log_events", **request, startFromHead=False))
        except CALL_ERRORS as error:
            log.debug("no log tail of container %s of %s: %s", container, task.arn, trouble("GetLogEvents", error))
            return ()
        said = (line for event in answer.get("events", []) for line in event.get("message", "").splitlines())
        return tuple(said)[-lines:]

    async def _ask(self, operation: str, **request: Any) -> Raw | Refused | Unknown:
        try:
            answer: Raw = await self._looks.run(methodcaller(operation, **request))
        except CALL_ERRORS as error:
            return trouble("".join(word.title() for word in operation.split("_")), error)
        return answer


class EcsRegions:
    """ECS in every region: clients are made when they are first needed, and kept."""

    def __init__(self, session: Session, events_queue: str = "") -> None:
        """`events_queue`: name of the SQS queue in which ends of tasks lie, in each region; empty: there is none."""
        self._session = session
        self._queues = Queues(session, events_queue, EVENTS_WAIT_SECONDS, NO_EVENTS_QUEUE) if events_queue else None
        self._regions: dict[str, BotoEcs] = {}
        self._threads: dict[tuple[str, str, int], Threads] = {}

    def region(self, name: str | None = None) -> BotoEcs:
        """None means the region of the environment. Calls nobody yet."""
        region = name or ""
        if region not in self._regions:
            once, looks = self._client("ecs", region, 1), self._client("ecs", region, LOOK_ATTEMPTS)
            events = None if self._queues is None else TaskEvents(self._queues.open(region))
            self._regions[region] = BotoEcs(region, once, looks, partial(self._client, "logs"), events)
        return self._regions[region]

    async def perform(self, action: EcsAction) -> News:
        """Do what a run wants done next, and bring the news."""
        ecs = self.region(action.region)
        match action:
            case RunTask(_, request):
                return await ecs.run_task(request)
            case FindTasks(_, cluster, started_by):
                return await ecs.find_tasks(cluster, started_by)
            case DescribeTasks(_, cluster, arns, essential):
                return await ecs.describe_tasks(cluster, arns, essential)
            case StopTasks(_, cluster, arns, reason):
                told = await asyncio.gather(*(ecs.stop_task(cluster, arn, reason) for arn in arns))
                return next((news for news in told if news is not None), None)

    async def log_tail(self, region: str | None, task: Task, container: str, lines: int) -> tuple[str, ...]:
        """As BotoEcs, in this region."""
        return await self.region(region).log_tail(task, container, lines)

    def close(self) -> None:
        """Wait for the calls that are under way, and close every connection."""
        self._regions.clear()
        if self._queues is not None:
            self._queues.close()
        while self._threads:
            self._threads.popitem()[1].close()

    def _client(self, service: str, region: str, attempts: int = LOOK_ATTEMPTS) -> Threads:
        key = service, region, attempts
        if key not in self._threads:
            make_client = partial(self._session.client, service, region, attempts)
            self._threads[key] = Threads(make_client, THREADS, f"{service}-{region}")
        return self._threads[key]


def make_ecs(events_queue: str) -> EcsRegions:
    """With the credentials, the endpoint and the region of the environment; the queue is that of `EcsRegions`."""
    return EcsRegions(Session(), events_queue)

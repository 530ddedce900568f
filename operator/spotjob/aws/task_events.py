"""Ends of ECS tasks that ECS itself has forgotten, from a queue that EventBridge fills.

ECS shows a stopped task for an hour at least; who comes later finds its end here. deploy/aws/task-events.yaml makes the
rule and the queue. Nothing is deleted: other runs read the same queue, and SQS forgets by itself.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Set

from spotjob.aws.ecs_answers import task_from
from spotjob.core.ports import Message, Queue, QueueError
from spotjob.core.sequence.ports import STOPPED, Looked, Task

log = logging.getLogger(__name__)

DETAIL_TYPE = "ECS Task State Change"
MOST_RECEIVES = 200
"""Of one search, ten messages each."""
MOST_KEPT = 10_000
"""Ends that are remembered: a message that was read is hidden for a while from the next search."""


class TaskEvents:
    """The queue of one region."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._ends: dict[str, Task] = {}

    async def completed(self, news: Looked) -> Looked:
        """The look, with the ends of those tasks that ECS does not show, as far as the queue tells them."""
        if not news.missing <= self._ends.keys():
            await self._read(news.missing)
        ends = tuple(self._ends[arn] for arn in sorted(news.missing & self._ends.keys()))
        left = news.missing - {task.arn for task in ends}
        return Looked((*news.tasks, *ends), frozenset(left), news.essential)

    async def _read(self, wanted: Set[str]) -> None:
        """Until all are found or the queue shows nothing more."""
        try:
            for _ in range(MOST_RECEIVES):
                messages = await self._queue.receive()
                for message in messages:
                    self._keep(message)
                if not messages or wanted <= self._ends.keys():
                    return
        except QueueError as error:
            log.warning("the queue of task events cannot be read: %s", error)

    def _keep(self, message: Message) -> None:
        task = ended_task(message.body)
        if task is None:
            return
        if len(self._ends) >= MOST_KEPT:
            self._ends.clear()
        self._ends[task.arn] = task


def ended_task(body: str) -> Task | None:
    """The task of an event that tells its end; None for whatever else lies in the queue."""
    try:
        event = json.loads(body)
        detail = event["detail"] if event["detail-type"] == DETAIL_TYPE else {}
        return task_from(detail) if detail.get("lastStatus") in STOPPED else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

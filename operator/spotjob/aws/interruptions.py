"""The port Queue on SQS: what EventBridge has put there about EC2's instances, by region.

Rules and queue are made by deploy/aws/interruptions.yaml. SQS hands a message out once or more, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from spotjob.aws.calls import Raw, Threads
from spotjob.aws.clients import THREADS, Session
from spotjob.core.ports import Message, Queue, QueueError

WAIT_SECONDS = 20
"""A receive waits this long for the first message: SQS' longest, so that an idle queue costs the fewest requests."""
ANSWER_SECONDS = 10
"""And its answer may take this much longer."""
HIDDEN_SECONDS = 20
"""A message that was handed out and not deleted comes again after this time."""
MOST_MESSAGES = 10
"""SQS' limit for one receive and one delete."""
MISSING = frozenset({"QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"})
REMEDY = (
    "create it with deploy/aws/interruptions.yaml, or do without EC2's events with an empty SPOTJOB_INTERRUPTION_QUEUE"
)


class SqsQueue:
    """One queue. Every method may raise QueueError. A missing queue is looked for again by the next call."""

    def __init__(
        self, name: str, region: str, threads: Threads, wait_seconds: int = WAIT_SECONDS, remedy: str = REMEDY
    ) -> None:
        """`remedy`: what to do when there is no such queue."""
        self._name, self._region, self._threads, self._wait = name, region, threads, wait_seconds
        self._remedy = remedy
        self._url = ""

    async def receive(self) -> Sequence[Message]:
        """At most ten; waits up to `wait_seconds` for the first one."""
        answer = await self._call("receive_message", **receive_request(self._wait))
        return [Message(raw["Body"], raw["ReceiptHandle"]) for raw in answer.get("Messages", [])]

    async def delete(self, messages: Sequence[Message]) -> None:
        """At most ten. SQS answers 200 also when it has deleted only some of them."""
        answer = await self._call("delete_message_batch", Entries=entries(messages))
        if failed := answer.get("Failed", []):
            codes = ", ".join(sorted({str(each.get("Code")) for each in failed}))
            raise QueueError(f"SQS did not delete {len(failed)} of {len(messages)} messages: {codes}")

    async def _call(self, operation: str, **request: Any) -> Raw:
        if not self._url:
            self._url = (await self._ask("get_queue_url", QueueName=self._name))["QueueUrl"]
        return await self._ask(operation, QueueUrl=self._url, **request)

    async def _ask(self, operation: str, **request: Any) -> Raw:
        try:
            answer: Raw = await self._threads.run(methodcaller(operation, **request))
        except ClientError as error:
            raise self._refused(operation, error) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise QueueError(f"{operation}: {error}") from error
        return answer

    def _refused(self, operation: str, error: ClientError) -> QueueError:
        code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
        if code not in MISSING:
            return QueueError(f"{operation}: {code}: {text}")
        return QueueError(f"there is no SQS queue {self._name} in {self._region}: {self._remedy}")

    def close(self) -> None:
        """Wait for the calls that are under way, which may be as long as a receive waits, and close."""
        self._threads.close()


class Queues:
    """The queue of one name in every region: made when it is first asked for, and kept."""

    def __init__(self, session: Session, name: str, wait_seconds: int = WAIT_SECONDS, remedy: str = REMEDY) -> None:
        self._session, self._name, self._wait, self._remedy = session, name, wait_seconds, remedy
        self._regions: dict[str, SqsQueue] = {}

    def open(self, region: str) -> Queue:
        """Calls nobody yet."""
        if region not in self._regions:
            # The one who receives backs off by itself, so botocore tries once.
            make_client = partial(self._session.client, "sqs", region, 1, self._wait + ANSWER_SECONDS)
            threads = Threads(make_client, THREADS, f"sqs-{region}")
            self._regions[region] = SqsQueue(self._name, region, threads, self._wait, self._remedy)
        return self._regions[region]

    def close(self) -> None:
        """Close every queue."""
        while self._regions:
            self._regions.popitem()[1].close()


def make_queues(name: str) -> Queues:
    """With the credentials and the endpoint of the environment."""
    return Queues(Session(), name)


# ---- requests -----------------------------------------------------------------------------------------------------


def receive_request(wait_seconds: int) -> dict[str, Any]:
    """ReceiveMessage, but for the queue's address."""
    return {
        "MaxNumberOfMessages": MOST_MESSAGES,
        "WaitTimeSeconds": wait_seconds,
        "VisibilityTimeout": HIDDEN_SECONDS,
    }


def entries(messages: Sequence[Message]) -> list[Mapping[str, str]]:
    """Of DeleteMessageBatch: ids tell the entries of one request apart."""
    return [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(messages)]

"""Blocking boto3 clients behind async calls: a bounded number of threads, and errors with names.

An EC2 call ends in one of three ways: an answer, Ec2Error (refused, no effect) or Ec2Unanswered (nobody knows).
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from concurrent.futures import Future
from functools import partial
from operator import methodcaller
from queue import SimpleQueue
from threading import Lock, Semaphore, Thread
from typing import Any, TypeVar

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)
from botocore.parsers import ResponseParserError

from spotjob.aws.errors import CAPACITY, QUOTA, SERVER, THROTTLE, fault_from
from spotjob.core.ports import Ec2Error, Ec2Unanswered, Fault
from spotjob.core.reasons import Reason

Raw = Mapping[str, Any]
"""An answer as boto3 gives it. It lives for one line."""

_T = TypeVar("_T")
_Call = tuple[Future[Any], Callable[[], Any]]

MOST_PAGES = 1000
"""A listing that does not end by then is an error, never a short listing."""


class Threads:
    """One boto3 client with threads of its own. It is made by the first call: EC2's takes a second of CPU time.

    The threads are daemons, unlike those of ThreadPoolExecutor, which the interpreter joins at its end: a CreateFleet
    that gets no answer would hold up the operator's exit, and with it the next leader's room, for its time limit.
    """

    def __init__(self, make_client: Callable[[], Any], threads: int, name: str) -> None:
        self._make_client, self._lock = make_client, Lock()
        self._client: Any = None
        self._work: SimpleQueue[_Call | None] = SimpleQueue()
        weakref.finalize(self, self._work.put, None)  # idle threads end with it
        self._most, self._name = threads, name
        self._threads: list[Thread] = []
        self._idle = Semaphore(0)

    async def run(self, method: Callable[[Any], _T]) -> _T:
        """`method` of the client, on one of the threads. Raises botocore's errors.

        Cancelled, it returns at once; a call that is under way then goes on and nobody hears of its end.
        """
        answer: Future[_T] = Future()
        self._work.put((answer, partial(self._use, method)))
        if not self._idle.acquire(blocking=False) and len(self._threads) < self._most:
            name = f"{self._name}-{len(self._threads)}"
            self._threads.append(Thread(target=_serve, args=(self._work, self._idle), name=name, daemon=True))
            self._threads[-1].start()
        return await asyncio.wrap_future(answer)

    def _use(self, method: Callable[[Any], _T]) -> _T:
        with self._lock:
            if self._client is None:
                self._client = self._make_client()
        return method(self._client)

    def close(self) -> None:
        """Wait for the calls that are under way and close the connections."""
        self._work.put(None)
        while self._threads:
            self._threads.pop().join()
        if self._client is not None:
            self._client.close()


def _serve(work: SimpleQueue[_Call | None], idle: Semaphore) -> None:
    """A thread's life: call after call, until None says that there will be no more; the others are told too."""
    while (call := work.get()) is not None:
        _answer(*call)
        del call  # an idle thread keeps nothing alive
        idle.release()
    work.put(None)


def _answer(answer: Future[Any], call: Callable[[], Any]) -> None:
    if not answer.set_running_or_notify_cancel():
        return
    try:
        answer.set_result(call())
    except BaseException as error:  # whatever it is belongs to who waits for the answer
        answer.set_exception(error)


class Calls(Threads):
    """Calls of EC2 and SSM, with the errors of the port Ec2."""

    async def call(self, operation: str, **request: Any) -> Raw:
        """One call of a client method, such as describe_instances. Raises Ec2Error, Ec2Unanswered."""
        try:
            answer: Raw = await self.run(methodcaller(operation, **request))
        except ClientError as error:
            raise _named(error) from error
        except ParamValidationError as error:
            raise Ec2Error(Fault("ParamValidation", str(error), Reason.LAUNCH_REJECTED)) from error
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as error:
            raise Ec2Error(Fault("NoCredentials", str(error), Reason.LAUNCHING)) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise Ec2Unanswered(f"{operation}: {error}") from error
        return answer


async def pages(call: Callable[..., Awaitable[Raw]], **request: Any) -> AsyncIterator[Raw]:
    """Every page of a listing. A page that fails fails the whole: a part must never look like the whole."""
    token: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = await call(**request, **token)
        yield page
        if not page.get("NextToken"):
            return
        token = {"NextToken": page["NextToken"]}
    raise Ec2Unanswered(f"the listing has no end after {MOST_PAGES} pages")


def _named(error: ClientError) -> Ec2Error | Ec2Unanswered:
    """A 5xx may have had its effect, unless its code says that nothing was done."""
    code, text = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    refused = code in THROTTLE | CAPACITY | QUOTA
    if not refused and (status >= 500 or code in SERVER):
        return Ec2Unanswered(f"{code}: {text}")
    return Ec2Error(fault_from(code, text))

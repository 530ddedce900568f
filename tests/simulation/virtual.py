"""An event loop on virtual time whose processes can be frozen, as SIGSTOP does it.

Nothing waits: when every task sleeps, time jumps to the next timer. One run is as the other, also where asyncio keeps
tasks in sets: tasks are hashed by the order of their creation. (Sets of strings need PYTHONHASHSEED beside it.)
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any


class Process:
    """What runs on behalf of one operating system process. While it is frozen none of its callbacks is called."""

    def __init__(self) -> None:
        self.frozen = False
        self._held: list[_Step] = []

    def context(self) -> Context:
        """The context for the process's first task; what that starts inherits it."""
        context = contextvars.copy_context()
        context.run(PROCESS.set, self)
        return context

    def hold(self, step: _Step) -> None:
        self._held.append(step)

    def freeze(self) -> None:
        self.frozen = True

    def thaw(self) -> None:
        """Go on: what fell due in the meantime comes at once, in its order."""
        self.frozen = False
        held, self._held = self._held, []
        for step in held:
            step.again()


PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class _Step:
    """One callback of a process."""

    __slots__ = ("args", "callback", "context", "handle", "loop", "process")

    def __init__(
        self, loop: VirtualLoop, process: Process, callback: Callable[..., object], args: Any, context: Context
    ) -> None:
        self.loop, self.process, self.callback, self.args, self.context = loop, process, callback, args, context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        assert self.handle is not None
        if self.handle.cancelled():  # since it was held: its owner knows the first handle only
            return
        if self.process.frozen:
            self.process.hold(self)
        else:
            self.callback(*self.args)

    def again(self) -> None:
        self.loop.plain_call_soon(self, self.context)


class _Task(asyncio.Task[Any]):
    """Hashed by the order of creation, not by its address."""

    _serials = itertools.count()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._serial = next(_Task._serials)
        super().__init__(*arguments, **options)

    def __hash__(self) -> int:
        return self._serial


LONGEST_STANDSTILL = 100_000


class _Jumping(selectors.SelectSelector):
    """Waits for nothing; time goes by instead."""

    passed: Callable[[float], None]
    _rounds = 0  # since time has passed

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:
            raise RuntimeError("every task waits for something that will never happen")
        if timeout > 0:
            self._rounds = 0
            self.passed(timeout)
        self._rounds += 1
        if self._rounds > LONGEST_STANDSTILL:
            raise RuntimeError("something goes round and round, and waits for nothing")
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """Starts at 0 s."""

    def __init__(self) -> None:
        self._moment = 0.0
        selector = _Jumping()
        selector.passed = self._pass
        super().__init__(selector)
        _Task._serials = itertools.count()
        self.set_task_factory(_new_task)

    def _pass(self, seconds: float) -> None:
        self._moment += seconds

    def time(self) -> float:
        return self._moment

    def plain_call_soon(self, callback: Callable[[], object], context: Context) -> asyncio.Handle:
        return super().call_soon(callback, context=context)

    def call_soon(self, callback: Any, *args: Any, context: Context | None = None) -> asyncio.Handle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_soon(callback, *args, context=context)
        context = context or contextvars.copy_context()
        step = _Step(self, process, callback, args, context)
        step.handle = super().call_soon(step, context=context)
        return step.handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is None:
            return super().call_at(when, callback, *args, context=context)
        context = context or contextvars.copy_context()
        step = _Step(self, process, callback, args, context)
        handle = super().call_at(when, step, context=context)
        step.handle = handle
        return handle


def _new_task(loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    return _Task(coro, loop=loop, **options)

"""Reads from CloudWatch what `core.sequence.lastlines` wants of a step that has come to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from spotjob.core.ports import Clock
from spotjob.core.sequence import lastlines
from spotjob.core.sequence.ports import Looked, News, Task
from spotjob.core.sequence.runs import StepRun, StepState
from spotjob.core.sequence.steps import Step

RESULT_LOOKS, RESULT_PAUSE_SECONDS = 3, 2.0
"""CloudWatch shows a line some seconds after it was logged."""

LogTail = Callable[[str | None, Task, str, int], Awaitable[tuple[str, ...]]]
"""(region, task, container, lines): the last lines that the container has logged."""


class LastLines:
    """The result of a good step that somebody uses, or what the failing container said last."""

    def __init__(self, log_tail: LogTail, clock: Clock) -> None:
        self._log_tail, self._clock = log_tail, clock

    async def added(self, step: Step, before: StepRun, after: StepRun, news: News, used: bool) -> StepRun:
        """`after`, with the lines if `news` is a look that shows the end. `used`: a later step is given the result."""
        good = after.state is StepState.SUCCEEDED
        if not isinstance(news, Looked) or not lastlines.tried(before, after) or (good and not used):
            return after
        found = lastlines.speaker(step, after, news)
        if found is None:
            return after
        task, container = found
        if good:
            return await self._with_result(step, after, task, container)
        lines = await self._log_tail(step.region, task, container, lastlines.LINES)
        return lastlines.with_last_words(after, container, lines)

    async def _with_result(self, step: Step, after: StepRun, task: Task, container: str) -> StepRun:
        for look in range(RESULT_LOOKS):
            if look:
                await self._clock.sleep(RESULT_PAUSE_SECONDS)
            after = lastlines.with_result(after, await self._log_tail(step.region, task, container, lastlines.LINES))
            if after.result is not None:
                break
        return after

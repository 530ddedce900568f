"""What is to happen by order: how scripted containers end, and which tasks find no place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

START_FAILED = "TaskFailedToStart"


@dataclass(frozen=True, slots=True)
class Script:
    """The life of a container that is not really there."""

    exit_code: int | None = 0
    """None: nobody knows how it ended, or it never ran (see `starts`)."""
    seconds: float | None = 0.2
    """How long it runs; None: until it is stopped."""
    reason: str = ""
    """The container's own reason, such as `OutOfMemoryError: Container killed due to memory usage`."""
    stop_code: str = ""
    """Of the task, when this container's end ends it. Empty: EssentialContainerExited or TaskFailedToStart."""
    stopped_reason: str = ""
    sigterm_exit_code: int | None = 143
    """How it answers SIGTERM; None: not at all, so SIGKILL ends it with 137."""
    log: Sequence[str] = ()
    """The lines that it writes when it starts."""

    @property
    def starts(self) -> bool:
        return self.exit_code is not None or self.stop_code not in ("", START_FAILED)


@dataclass(slots=True)
class Rule:
    """Which containers follow a script. `*` stands for any family or container."""

    script: Script
    family: str = "*"
    container: str = "*"
    times: int | None = None
    """For so many tasks; None: for all from now on."""

    def fits(self, family: str, container: str) -> bool:
        return self.family in ("*", family) and self.container in ("*", container)


class Rules:
    """The rules in force. Those for a number of tasks go first, oldest first; of the others, the newest counts."""

    def __init__(self) -> None:
        self._counted: list[Rule] = []
        self._lasting: list[Rule] = []

    def order(self, rule: Rule) -> None:
        if rule.times is not None:
            self._counted.append(rule)
            return
        same = (rule.family, rule.container)
        self._lasting = [rule, *(one for one in self._lasting if (one.family, one.container) != same)]

    def clear(self) -> None:
        self._counted.clear()
        self._lasting.clear()

    def take(self, family: str, containers: Iterable[str]) -> dict[str, Script]:
        """The scripts of one task's containers, by name. A rule for a number of tasks is used up by one."""
        chosen = {name: rule for name in containers if (rule := self._first(family, name))}
        for rule in self._counted:
            if rule in chosen.values() and rule.times is not None:
                rule.times -= 1
        self._counted = [rule for rule in self._counted if rule.times]
        return {name: rule.script for name, rule in chosen.items()}

    def _first(self, family: str, container: str) -> Rule | None:
        return next((rule for rule in [*self._counted, *self._lasting] if rule.fits(family, container)), None)


@dataclass(slots=True)
class Refusal:
    """What the next `times` RunTask calls find in `failures`, for every task but the first `placed` ones."""

    reason: str
    detail: str = ""
    times: int = 1
    placed: int = 0

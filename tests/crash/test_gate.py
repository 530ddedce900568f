"""The gate kills at exactly the armed moment of exactly the armed write."""

from __future__ import annotations

import pytest

from tests.crash.gate import Died, Gate
from tests.crash.points import Kind, Moment, Point, Write

BIND, PUT = Kind("operator", "bind"), Kind("operator", "PutItem")


class Scene:
    """A process that writes through a gate; `log` is what happened, in order."""

    def __init__(self, armed: Point | None) -> None:
        self.log: list[str] = []
        self.gate = Gate(self._crash)
        self.gate.begin(armed)
        self.gate.open()

    async def _crash(self, process: str) -> None:
        self.log.append(f"kill {process}")

    async def write(self, kind: Kind = BIND) -> None:
        async def call() -> None:
            self.log.append("call")

        async def send() -> None:
            self.log.append("reply")

        await self.gate.write(kind, call, send)


def at(moment: Moment, ordinal: int = 1) -> Point:
    return Point("a", Write(BIND, ordinal), moment)


@pytest.mark.parametrize(
    ("moment", "log"),
    [
        (Moment.BEFORE, ["kill operator"]),
        (Moment.CALLED, ["call", "kill operator"]),
        (Moment.REPLIED, ["call", "reply", "kill operator"]),
    ],
)
async def test_the_process_dies_at_the_armed_moment(moment: Moment, log: list[str]):
    scene = Scene(at(moment))
    with pytest.raises(Died):
        await scene.write()
    assert scene.log == log
    assert scene.gate.fired


async def test_only_the_armed_one_of_several_equal_writes_kills_and_only_once():
    scene = Scene(at(Moment.BEFORE, ordinal=2))
    await scene.write()
    await scene.write(PUT)
    assert scene.log == ["call", "reply"] * 2
    with pytest.raises(Died):
        await scene.write()
    await scene.write()
    assert scene.log == ["call", "reply"] * 2 + ["kill operator"] + ["call", "reply"]


async def test_after_the_armed_reply_nothing_else_of_that_process_is_written():
    scene = Scene(at(Moment.REPLIED))
    late: list[str] = []

    async def send() -> None:
        with pytest.raises(Died):
            await scene.write(PUT)
        late.append("refused")

    async def call() -> None:
        pass

    with pytest.raises(Died):
        await scene.gate.write(BIND, call, send)
    assert late == ["refused"]
    assert scene.log == ["kill operator"]


async def test_a_write_outside_the_window_is_no_point():
    scene = Scene(at(Moment.BEFORE))
    scene.gate.close()
    await scene.write()
    assert (scene.gate.fired, scene.gate.seen) == (False, [])

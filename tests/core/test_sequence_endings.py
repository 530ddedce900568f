"""How a step ended: one table of what ECS says in the end and what it means, and the endings of SpotJobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from spotjob.core.sequence.endings import End, Ending, of_tasks
from spotjob.core.sequence.ports import Container, Task
from spotjob.core.sequence.steps import Step

GOOD, FAILED, INTERRUPTED, CAPACITY, FINAL = End.GOOD, End.FAILED, End.INTERRUPTED, End.CAPACITY, End.FINAL
DEFINITION = "arn:aws:ecs:us-east-1:123456789012:task-definition/extract:7"
APP_DECIDES = {"essential_only": True, "essential": {DEFINITION: frozenset({"app"})}}

EXITED = {"stop_code": "EssentialContainerExited", "why": "Essential container in task exited"}
BY_HAND = {"stop_code": "UserInitiated", "why": "Task stopped by user"}
SPOT = {"stop_code": "SpotInterruption", "why": "Your Spot Task was interrupted."}
NOT_STARTED = {"stop_code": "TaskFailedToStart", "why": "Task failed to start"}
HOST_GONE = "Host EC2 (instance i-0123456789abcdef0) terminated."
RETIRED = "ECS is performing maintenance on the underlying infrastructure hosting the task"
NO_FARGATE = "Capacity is unavailable at this time. Please try again later or in a different availability zone"
OOM = "OutOfMemoryError: Container killed due to memory usage"
NO_IMAGE = "CannotPullContainerError: pull image manifest has been retried 1 time(s): not found"
NO_SECRET = "ResourceInitializationError: unable to pull secrets or registry auth"
CODES = {"codes": (0, 3)}


def a_container(spoken: str) -> Container:
    """`app 137 OutOfMemoryError: ...`: name, exit code (`-` for none), reason."""
    name, code, *reason = spoken.split(maxsplit=2)
    return Container(name, None if code == "-" else int(code), "".join(reason), arn=f"arn:container/{name}")


def a_task(*containers: str, number: int = 1, stop_code: str = "", why: str = "") -> Task:
    return Task(
        arn=arn(number),
        last_status="STOPPED",
        desired_status="STOPPED",
        stop_code=stop_code,
        stopped_reason=why,
        task_definition=DEFINITION,
        containers=tuple(map(a_container, containers)),
    )


def arn(number: int) -> str:
    return f"arn:aws:ecs:us-east-1:123456789012:task/night/{number:032x}"


def ending(
    *tasks: Task,
    lost: int = 0,
    count: int | None = None,
    codes: tuple[int, ...] = (0,),
    essential_only: bool = False,
    essential: Mapping[str, frozenset[str]] | None = None,
) -> Ending:
    parameters = {"task_definition": "extract", "count": count or len(tasks) + lost}
    step = Step(
        name="extract",
        type="ecs_task",
        parameters=parameters,
        success_exit_codes=codes,
        essential_only=essential_only,
    )
    return of_tasks(step, tasks, frozenset(arn(100 + each) for each in range(lost)), essential or {})


# what happened; the containers; the task's stop; the step; what it is
ONE_TASK: list[tuple[str, tuple[str, ...], dict[str, str], dict[str, Any], End, str]] = [
    # ---- it ended by itself
    ("exit 0", ("app 0",), EXITED, {}, GOOD, ""),
    ("exit 0 and no stop code, as older answers have it", ("app 0",), {}, {}, GOOD, ""),
    ("exit 0 and a stop code that nobody knows", ("app 0",), {"stop_code": "Sunset"}, {}, GOOD, ""),
    ("exit 1", ("app 1",), EXITED, {}, FAILED, "ContainerFailed"),
    ("exit 1 and a stop code that nobody knows", ("app 1",), {"stop_code": "Sunset"}, {}, FAILED, "ContainerFailed"),
    ("exit 137 without anything else", ("app 137",), EXITED, {}, FAILED, "ContainerFailed"),
    ("exit 143 without anything else", ("app 143",), EXITED, {}, FAILED, "ContainerFailed"),
    ("no exit code", ("app -",), EXITED, {}, FAILED, "NoExitCode"),
    ("no exit code and nothing else", ("app -",), {}, {}, FAILED, "NoExitCode"),
    ("no exit code, with a reason", ("app - DockerTimeoutError: slow",), EXITED, {}, FAILED, "DockerTimeoutError"),
    ("no containers", (), EXITED, {}, FAILED, "NoContainers"),
    ("no containers and nothing else", (), {}, {}, FAILED, "NoContainers"),
    ("out of memory", (f"app 137 {OOM}",), EXITED, {}, FAILED, "OutOfMemory"),
    ("out of memory without an exit code", (f"app - {OOM}",), EXITED, {}, FAILED, "OutOfMemory"),
    ("a child out of memory, and exit 0", (f"app 0 {OOM}",), EXITED, {}, GOOD, ""),
    # ---- success_exit_codes
    ("another good code", ("app 3",), EXITED, CODES, GOOD, ""),
    ("a code that is not listed", ("app 4",), EXITED, CODES, FAILED, "ContainerFailed"),
    ("0 when it is not listed", ("app 0",), EXITED, {"codes": (3,)}, FAILED, "ContainerFailed"),
    ("137 when it is listed", ("app 137",), EXITED, {"codes": (0, 137)}, GOOD, ""),
    # ---- sidecars
    ("all containers 0", ("app 0", "proxy 0"), EXITED, {}, GOOD, ""),
    ("a sidecar stopped with the app", ("app 0", "proxy 143"), EXITED, {}, FAILED, "ContainerFailed"),
    ("the same, when only the app decides", ("app 0", "proxy 143"), EXITED, APP_DECIDES, GOOD, ""),
    ("the app fails, and it decides", ("app 2", "proxy 0"), EXITED, APP_DECIDES, FAILED, "ContainerFailed"),
    ("a sidecar that never ran", ("app 0", "proxy -"), EXITED, {}, FAILED, "NoExitCode"),
    ("the same, when only the app decides", ("app 0", "proxy -"), EXITED, APP_DECIDES, GOOD, ""),
    ("the deciding app never ran", ("app -", "proxy 0"), EXITED, APP_DECIDES, FAILED, "NoExitCode"),
    ("the deciding app is not shown", ("proxy 0",), EXITED, APP_DECIDES, FAILED, "NoExitCode"),
    (
        "a sidecar out of memory, which does not decide",
        ("app 0", f"proxy 137 {OOM}"),
        EXITED,
        APP_DECIDES,
        GOOD,
        "",
    ),
    (
        "an unknown task definition: all decide",
        ("app 0", "proxy 143"),
        EXITED,
        {"essential_only": True, "essential": {"other:1": frozenset({"app"})}},
        FAILED,
        "ContainerFailed",
    ),
    (
        "essential containers are known, and not asked for",
        ("app 0", "proxy 143"),
        EXITED,
        {"essential": APP_DECIDES["essential"]},
        FAILED,
        "ContainerFailed",
    ),
    # ---- it never started
    ("no image", (f"app - {NO_IMAGE}",), NOT_STARTED, {}, FAILED, "CannotPullContainerError"),
    ("no image, told of the task", ("app -",), NOT_STARTED | {"why": NO_IMAGE}, {}, FAILED, "CannotPullContainerError"),
    ("no secret", ("app -",), NOT_STARTED | {"why": NO_SECRET}, {}, FAILED, "ResourceInitializationError"),
    ("no such program", ("app - CannotStartContainerError: exec",), EXITED, {}, FAILED, "CannotStartContainerError"),
    ("not started, nobody says why", ("app -",), {"stop_code": "TaskFailedToStart"}, {}, FAILED, "TaskFailedToStart"),
    ("not started, and no containers", (), {"stop_code": "TaskFailedToStart"}, {}, FAILED, "TaskFailedToStart"),
    ("not started is never good", ("app 0",), NOT_STARTED, {}, FAILED, "TaskFailedToStart"),
    ("its first container failed", ("init 1", "app -"), NOT_STARTED, {}, FAILED, "TaskFailedToStart"),
    ("no room on Fargate", ("app -",), NOT_STARTED | {"why": NO_FARGATE}, {}, CAPACITY, "CapacityUnavailable"),
    ("no room on Fargate, without a stop code", ("app -",), {"why": NO_FARGATE}, {}, CAPACITY, "CapacityUnavailable"),
    ("no room, told of the container", (f"app - {NO_FARGATE}",), NOT_STARTED, {}, CAPACITY, "CapacityUnavailable"),
    ("no memory", ("app -",), NOT_STARTED | {"why": "RESOURCE:MEMORY"}, {}, CAPACITY, "CapacityUnavailable"),
    (
        "the account's quota is used up",
        ("app -",),
        NOT_STARTED | {"why": "You've reached the limit on the number of vCPUs you can run concurrently"},
        {},
        CAPACITY,
        "CapacityUnavailable",
    ),
    ("no room and no containers", (), NOT_STARTED | {"why": NO_FARGATE}, {}, CAPACITY, "CapacityUnavailable"),
    (
        "no room, and yet one ran",
        ("init 0", "app -"),
        NOT_STARTED | {"why": NO_FARGATE},
        {},
        FAILED,
        "TaskFailedToStart",
    ),
    # ---- AWS took it
    ("Fargate Spot, terminated", ("app 143",), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, killed", ("app 137",), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, no exit code", ("app -",), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, its own answer to SIGTERM", ("app 1",), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, no containers", (), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, but it was done", ("app 0",), SPOT, {}, GOOD, ""),
    ("Fargate Spot, one done and one not", ("app 0", "proxy 143"), SPOT, {}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, the deciding one done", ("app 0", "proxy 143"), SPOT, APP_DECIDES, GOOD, ""),
    ("Fargate Spot, done with another good code", ("app 3",), SPOT, CODES, GOOD, ""),
    ("Fargate Spot, 143 listed as good", ("app 143",), SPOT, {"codes": (0, 143)}, INTERRUPTED, "SpotInterruption"),
    ("Fargate Spot, and out of memory before", (f"app 137 {OOM}",), SPOT, {}, FAILED, "OutOfMemory"),
    ("the host's notice", ("app 143",), {"stop_code": "TerminationNotice"}, {}, INTERRUPTED, "TerminationNotice"),
    ("a sick host", ("app -",), {"stop_code": "InfrastructureHealth"}, {}, INTERRUPTED, "InfrastructureHealth"),
    (
        "stopped by a scheduler",
        ("app 137",),
        {"stop_code": "ServiceSchedulerInitiated"},
        {},
        INTERRUPTED,
        "ServiceSchedulerInitiated",
    ),
    ("the host went", ("app -",), {"why": HOST_GONE}, {}, INTERRUPTED, "HostTerminated"),
    (
        "the host was stopped",
        ("app -",),
        {"why": HOST_GONE.replace("terminat", "stopp")},
        {},
        INTERRUPTED,
        "HostTerminated",
    ),
    ("the host went before the start", ("app -",), NOT_STARTED | {"why": HOST_GONE}, {}, INTERRUPTED, "HostTerminated"),
    ("the host went, with an exit code", ("app 137",), EXITED | {"why": HOST_GONE}, {}, INTERRUPTED, "HostTerminated"),
    ("the host went, but it was done", ("app 0",), {"why": HOST_GONE}, {}, GOOD, ""),
    ("a Fargate host retired", ("app 143",), {"why": RETIRED}, {}, INTERRUPTED, "HostTerminated"),
    # ---- a person stopped it
    ("by a person, terminated", ("app 143",), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, killed", ("app 137",), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, no exit code", ("app -",), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, its own answer to SIGTERM", ("app 1",), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, no containers", (), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, but it was done", ("app 0",), BY_HAND, {}, GOOD, ""),
    ("by a person, 143 listed as good", ("app 143",), BY_HAND, {"codes": (0, 143)}, FINAL, "StoppedByUser"),
    ("by a person, the deciding one done", ("app 0", "proxy 137"), BY_HAND, APP_DECIDES, GOOD, ""),
    ("by a person, one done and one not", ("app 0", "proxy 137"), BY_HAND, {}, FINAL, "StoppedByUser"),
    ("by a person, out of memory", (f"app 137 {OOM}",), BY_HAND, {}, FINAL, "StoppedByUser"),
]


@pytest.mark.parametrize(
    ("containers", "stop", "of_step", "end", "reason"),
    [pytest.param(*row[1:], id=row[0]) for row in ONE_TASK],
)
def test_what_ecs_says_of_a_stopped_task_has_one_meaning(containers, stop, of_step, end, reason):
    verdict = ending(a_task(*containers, **stop), **of_step)
    assert (verdict.end, verdict.reason) == (end, reason)
    assert [(c.name, c.exit_code) for c in verdict.containers] == [
        (c.name, c.exit_code) for c in map(a_container, containers)
    ]
    assert bool(verdict.message) == (end is not GOOD)


DONE = (("app 0",), EXITED)
FELL = (("app 1",), EXITED)
TAKEN = (("app 143",), SPOT)
NO_ROOM = (("app -",), NOT_STARTED | {"why": NO_FARGATE})
STOPPED = (("app 143",), BY_HAND)

SEVERAL: list[tuple[str, list[Any], int, int, End, str]] = [
    ("all good", [DONE, DONE, DONE], 0, 3, GOOD, ""),
    ("one failed among good ones", [DONE, FELL, DONE], 0, 3, FAILED, "ContainerFailed"),
    ("one taken: all are run again", [DONE, TAKEN], 0, 2, INTERRUPTED, "SpotInterruption"),
    ("one taken and one failed", [TAKEN, FELL], 0, 2, FAILED, "ContainerFailed"),
    ("none had room", [NO_ROOM, NO_ROOM], 0, 2, CAPACITY, "CapacityUnavailable"),
    ("one had no room beside one that ran", [DONE, NO_ROOM], 0, 2, FAILED, "CapacityUnavailable"),
    ("one had no room, one was taken", [NO_ROOM, TAKEN], 0, 2, INTERRUPTED, "SpotInterruption"),
    ("one stopped by a person, one failed", [FELL, STOPPED], 0, 2, FINAL, "StoppedByUser"),
    ("one stopped by a person, one taken", [TAKEN, STOPPED], 0, 2, FINAL, "StoppedByUser"),
    ("all lost", [], 1, 1, FINAL, "ResultLost"),
    ("one lost among good ones", [DONE, DONE], 1, 3, FINAL, "ResultLost"),
    ("one lost and one failed", [FELL], 1, 2, FINAL, "ResultLost"),
    ("one lost and one taken", [TAKEN], 1, 2, FINAL, "ResultLost"),
    ("one was never placed, the others are good", [DONE, DONE], 0, 3, FAILED, "NotAllPlaced"),
    ("none was ever placed", [], 0, 1, FAILED, "NotAllPlaced"),
]


@pytest.mark.parametrize(
    ("tasks", "lost", "count", "end", "reason"), [pytest.param(*row[1:], id=row[0]) for row in SEVERAL]
)
def test_the_worst_of_a_steps_tasks_decides(tasks, lost, count, end, reason):
    stopped = [a_task(*containers, number=number, **stop) for number, (containers, stop) in enumerate(tasks)]
    verdict = ending(*stopped, lost=lost, count=count)
    assert (verdict.end, verdict.reason) == (end, reason)
    assert [c.task for c in verdict.containers] == [task.arn for task in stopped for _ in task.containers]


def test_the_table_is_as_long_as_was_asked_for():
    assert len(ONE_TASK) + len(SEVERAL) >= 45


def test_the_message_says_which_task_which_container_and_why():
    verdict = ending(a_task("proxy 0", f"app 137 {OOM}", **EXITED))
    assert verdict.message == (
        "task 00000000000000000000000000000001: container app exited with 137 (OutOfMemoryError: Container killed due "
        "to memory usage); it was stopped: EssentialContainerExited: Essential container in task exited"
    )


def test_the_message_of_several_tasks_counts_those_that_did_not_end_well():
    verdict = ending(*(a_task(f"app {number // 2}", number=number) for number in range(4)))
    assert verdict.message == (
        "2 of 4 tasks did not end well; task 00000000000000000000000000000002: container app exited with 1; "
        "ECS does not say why it stopped"
    )


def test_the_message_names_the_container_that_explains_the_most():
    assert "container init exited with 1" in ending(a_task("app -", "proxy - Broken", "init 1")).message
    assert "container proxy has no exit code (Broken)" in ending(a_task("app -", "proxy - Broken", "log 0")).message
    assert "container app has no exit code" in ending(a_task("log 0", "app -")).message
    assert "it shows no containers" in ending(a_task()).message
    assert f"ECS no longer knows task {100:032x}" in ending(lost=1).message


def test_the_longest_texts_of_ecs_still_make_a_record():
    task = a_task(f"app 1 {'r' * 5000}", stop_code="EssentialContainerExited", why="w" * 5000)
    verdict = ending(task)
    assert len(verdict.message) <= 1024
    assert verdict.message.endswith("w")
    assert len(verdict.containers[0].reason) == 1024

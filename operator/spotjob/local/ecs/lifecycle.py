"""The life of a task: PROVISIONING, PENDING, ACTIVATING, RUNNING, DEACTIVATING, STOPPING, DEPROVISIONING, STOPPED.

Scripted containers are started and ended by timers, real ones by whoever carries the orders out; both ways lead
through `started`, `cannot_start` and `ended`.
"""

from __future__ import annotations

from spotjob.local.ecs.records import Cause, Container, Task, TaskStatus
from spotjob.local.ecs.rules import START_FAILED, Script
from spotjob.local.ecs.world import Order, World

KILLED = 128 + 9
_NOTHING_ORDERED = Script()


def launch(world: World, task: Task) -> None:
    world.tasks[task.arn] = task
    world.history.append(task)
    world.after(world.timing.provisioning_seconds, lambda: _pending(world, task))


def _pending(world: World, task: Task) -> None:
    if task.last_status is not TaskStatus.PROVISIONING:
        return
    task.enter(TaskStatus.PENDING)
    for container in task.containers:
        if container.script is None:
            world.orders.append(Order("start", task, container.name))
        else:
            _start_by_script(world, task, container, container.script)


def _start_by_script(world: World, task: Task, container: Container, script: Script) -> None:
    seconds = world.timing.pending_seconds
    if not script.starts:
        world.after(seconds, lambda: cannot_start(world, task, container, script.reason))
        return
    world.after(seconds, lambda: started(world, task, container, f"{task.id}-{container.name}"))


# ---- what containers do


def started(world: World, task: Task, container: Container, runtime_id: str) -> None:
    """The container runs. Once all do, the task will."""
    # One that was told to stop before it ran is already written off, or about to be.
    if container.ended or task.over:
        return
    container.last_status, container.runtime_id = "RUNNING", runtime_id
    world.logs.write(task, container, container.script.log if container.script else (), world.now)
    _play(world, task, container)
    if task.last_status is TaskStatus.PENDING and all(one.runtime_id for one in task.containers):
        task.enter(TaskStatus.ACTIVATING)
        world.after(world.timing.activating_seconds, lambda: _running(world, task))


def _play(world: World, task: Task, container: Container) -> None:
    script = container.script
    if script is not None and script.seconds is not None:
        world.after(script.seconds, lambda: ended(world, task, container, script.exit_code, script.reason))


def _running(world: World, task: Task) -> None:
    if task.last_status is not TaskStatus.ACTIVATING:
        return
    task.enter(TaskStatus.RUNNING)
    task.started = world.now
    _stop_if_done(world, task)


def cannot_start(world: World, task: Task, container: Container, reason: str) -> None:
    """The container never runs, so neither does the task."""
    if container.ended or task.over:
        return
    container.last_status, container.reason = "STOPPED", reason
    ordered = container.script or _NOTHING_ORDERED
    stop(
        world,
        task,
        Cause(ordered.stop_code or START_FAILED, ordered.stopped_reason or reason or "Task failed to start"),
    )
    _wind_up(world, task)


def ended(world: World, task: Task, container: Container, exit_code: int | None, reason: str = "") -> None:
    """The container has run, or was told to stop before it could. None: nobody knows its exit code."""
    if container.ended or task.over:
        return
    container.last_status, container.exit_code, container.reason = "STOPPED", exit_code, reason
    _stop_if_done(world, task)
    _wind_up(world, task)


def _stop_if_done(world: World, task: Task) -> None:
    """The end of an essential container, or of the last one, is the task's."""
    if task.last_status is not TaskStatus.RUNNING:
        return
    over = [one for one in task.containers if one.ended]
    decisive = [one for one in over if one.essential] or (over if len(over) == len(task.containers) else [])
    if decisive:
        script = decisive[0].script or _NOTHING_ORDERED
        code = script.stop_code or "EssentialContainerExited"
        stop(world, task, Cause(code, script.stopped_reason or "Essential container in task exited"))


# ---- the way down


def stop(world: World, task: Task, cause: Cause) -> None:
    """Begin to stop the task, unless that has begun already: the first cause is the one that is shown."""
    if task.cause is not None:
        return
    task.cause, task.stopping = cause, world.now
    if task.last_status is TaskStatus.RUNNING:
        task.enter(TaskStatus.DEACTIVATING)
        world.after(world.timing.deactivating_seconds, lambda: _stopping(world, task))
    else:
        _stopping(world, task)


def _stopping(world: World, task: Task) -> None:
    if task.over:
        return
    task.enter(TaskStatus.STOPPING)
    task.wind_up_from = world.later(world.timing.stopping_seconds)
    for container in task.containers:
        if not container.ended:
            _tell(world, task, container)
    world.after(world.timing.stopping_seconds, lambda: _wind_up(world, task))


def _tell(world: World, task: Task, container: Container) -> None:
    """SIGTERM, and SIGKILL when the grace is over. One that never ran has nothing to hear it."""
    if container.script is None:
        world.orders.append(Order("stop", task, container.name, container.stop_timeout))
    elif not container.runtime_id:
        container.last_status = "STOPPED"
    elif container.script.sigterm_exit_code is not None:
        ended(world, task, container, container.script.sigterm_exit_code)
    else:
        world.after(container.stop_timeout, lambda: ended(world, task, container, KILLED))


def _wind_up(world: World, task: Task) -> None:
    """Once every container of a stopping task has ended, and its time is over, its place is given back."""
    if task.last_status is not TaskStatus.STOPPING or task.wind_up_from is None or world.now < task.wind_up_from:
        return
    if not all(one.ended for one in task.containers):
        return
    task.enter(TaskStatus.DEPROVISIONING)
    world.after(world.timing.deprovisioning_seconds, lambda: _over(world, task))


def _over(world: World, task: Task) -> None:
    if task.over:
        return
    task.enter(TaskStatus.STOPPED)
    task.stopped = world.now
    # ECS drops a task's tags when it stops.
    task.tags = ()
    world.after(world.timing.vanish_seconds, lambda: forget(world, task))


# ---- what befalls a task


def interrupt(world: World, task: Task) -> None:
    """Fargate takes a Spot task back: SIGTERM now, SIGKILL after stopTimeout."""
    stop(world, task, Cause("SpotInterruption", "Your Spot Task was interrupted."))


def lose_host(world: World, task: Task, instance_id: str) -> None:
    """The EC2 instance under the task is gone, and with it whatever its containers would have said."""
    if task.over:
        return
    task.cause = Cause("TerminationNotice", f"Host EC2 (instance {instance_id}) terminated.")
    task.stopping = task.stopping or world.now
    _write_off(world, task)
    _over(world, task)


def forget(world: World, task: Task) -> None:
    """ECS no longer knows the task, nor the token that it came from once the last task of it is gone."""
    if not task.over:
        _write_off(world, task)
    task.forgotten = True
    world.tasks.pop(task.arn, None)


def _write_off(world: World, task: Task) -> None:
    """The containers end unheard."""
    for container in task.containers:
        if container.script is None and not container.ended:
            world.orders.append(Order("stop", task, container.name))
        container.last_status = "STOPPED"

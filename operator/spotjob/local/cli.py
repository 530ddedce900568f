"""`spotjob local ...`: the whole system on one machine."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from spotjob.local import account, parts
from spotjob.local import demo as demonstration
from spotjob.local import layout as layouts
from spotjob.local.errors import LocalError
from spotjob.local.laptop import Options, PartStatus, Platform
from spotjob.local.layout import REGISTRY_PORT, Layout, Rights
from spotjob.local.progress import Progress

app = typer.Typer(help="Run the whole system on this machine, with no AWS account.", no_args_is_help=True)

State = Annotated[
    Path | None,
    typer.Option(help="Folder of the platform.", show_default="~/.local/state/spotjob/local", file_okay=False),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(help="Use this cluster instead of a control plane of our own.", exists=True, dir_okay=False),
]
RightsOption = Annotated[
    Rights, typer.Option(help="Rights of operator and API: together as in deploy/base, or split in two.")
]
Job = Annotated[str, typer.Argument(help="Name of a SpotJob that has an instance.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Its namespace.")]
BootSeconds = Annotated[
    float | None, typer.Option(help="How long a simulated instance boots.", min=0, show_default="2")
]


@app.command()
def up(
    state: State = None,
    kubeconfig: Kubeconfig = None,
    rights: RightsOption = "base",
    boot_seconds: BootSeconds = None,
) -> None:
    """Start the platform, or what is missing of it.

    The options count when the platform is first started; it keeps them until `spotjob local down`.

    Example: spotjob local up && eval "$(spotjob local env)"
    """
    with _plain_errors(), _signals_end_us():
        progress = Progress()
        platform = _platform(state, progress)
        progress.say(f"Starting the local platform in {platform.state}")
        with _nothing_half_started(platform, progress):
            layout = platform.up(Options(kubeconfig, rights, boot_seconds))
        progress.say(f"Ready after {progress.elapsed_seconds:.0f} s. REST API: {layout.api_url}")
        progress.say(f'Next: eval "$({_again("env", state)})" && {_first_job(layout)}')


@app.command()
def down(state: State = None) -> None:
    """Stop the platform: no process and no container stays, and the cluster is gone. The logs are kept.

    Example: spotjob local down
    """
    with _plain_errors():
        platform = _platform(state)
        platform.down()
        typer.echo(f"Nothing of the platform in {platform.state} runs any more.")


@app.command()
def status(state: State = None) -> None:
    """Show every part of the platform and the living instances. Exit code 1 unless all parts are up.

    Example: spotjob local status
    """
    with _plain_errors():
        platform = _platform(state)
        rows = platform.status()
        typer.echo(_status_table(rows))
        if problem := _next_step(rows, state):
            typer.echo(problem)
            raise typer.Exit(1)
        alive = account.instances_alive(platform.layout.aws_url)
        typer.echo(f"{len(alive)} {'instance' if len(alive) == 1 else 'instances'} alive")


@app.command()
def env(state: State = None) -> None:
    """Print the variables that send kubectl, the AWS tools and curl to this platform.

    Example: eval "$(spotjob local env)"
    """
    with _plain_errors():
        for name, value in exports(_platform(state).layout).items():
            typer.echo(f"export {name}={shlex.quote(value)}")
        if folder := _kubectl_folder(_platform(state).layout):
            typer.echo(f'export PATH={shlex.quote(folder)}:"$PATH"')


@app.command()
def interrupt(
    job: Job,
    namespace: Namespace = "default",
    warning: Annotated[int, typer.Option(help="Seconds from the notice to the end.", min=0)] = 120,
    state: State = None,
) -> None:
    """Let EC2 take the instance of a job back, with notice.

    Example: spotjob local interrupt hello --warning 20
    """
    with _plain_errors():
        layout = _platform(state).layout
        instance = _instance_of(layout, namespace, job)
        account.interrupt(layout.aws_url, instance, warning)
        typer.echo(f"{instance} of {namespace}/{job} has its notice; EC2 takes it back in {warning} s.")


@app.command()
def reclaim(job: Job, namespace: Namespace = "default", state: State = None) -> None:
    """Let EC2 take the instance of a job back at once, without notice.

    Example: spotjob local reclaim hello
    """
    with _plain_errors():
        layout = _platform(state).layout
        instance = _instance_of(layout, namespace, job)
        account.reclaim(layout.aws_url, instance)
        typer.echo(f"EC2 has taken {instance} of {namespace}/{job} back, without notice.")


@app.command()
def rebalance(job: Job, namespace: Namespace = "default", state: State = None) -> None:
    """Let EC2 recommend to leave the instance of a job. Nothing ends; the container finds a file.

    Example: spotjob local rebalance hello
    """
    with _plain_errors():
        layout = _platform(state).layout
        instance = _instance_of(layout, namespace, job)
        account.rebalance(layout.aws_url, instance)
        typer.echo(f"EC2 recommends to leave {instance} of {namespace}/{job}.")


@app.command()
def ecs(state: State = None) -> None:
    """Show every ECS task that the simulated account has had.

    Example: spotjob local ecs
    """
    with _plain_errors():
        typer.echo(ecs_table(account.ecs_tasks(_platform(state).layout.aws_url)))


@app.command()
def demo(
    state: State = None,
    kubeconfig: Kubeconfig = None,
    keep: Annotated[bool, typer.Option(help="Leave the platform running.")] = False,
) -> None:
    """Start the platform, run one SpotJob to its end, show all that it left behind, stop the platform.

    Example: spotjob local demo --keep
    """
    with _plain_errors(), _signals_end_us():
        progress = Progress()
        demonstration.run(_platform(state, progress), Options(kubeconfig), progress, keep=keep)


def exports(layout: Layout) -> dict[str, str]:
    """What a user's shell needs to know of the platform."""
    return {
        "KUBECONFIG": layout.admin_kubeconfig,
        **parts.aws_environment(layout),
        "SPOTJOB_API_URL": layout.api_url,
        "SPOTJOB_LOCAL_IMAGE": layout.test_image,
    }


def _platform(state: Path | None, progress: Progress | None = None) -> Platform:
    return Platform(state or layouts.default_state(os.environ), progress)


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except LocalError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _signals_end_us() -> Iterator[None]:
    """SIGTERM and a closed terminal end the command as Ctrl-C does: what it does at its end is done."""
    heard = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]  # nohup
    before = {number: signal.signal(number, _end) for number in heard}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not cut the end short
    raise SystemExit(128 + number)


@contextmanager
def _nothing_half_started(platform: Platform, progress: Progress) -> Iterator[None]:
    """Whoever stops the first `up` wants no half of a platform; one that was there before stays."""
    first = not platform.exists
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if first:
            with progress.step("stopping everything"):
                platform.down()
        raise


def _first_job(layout: Layout) -> str:
    """The command line that runs the first example; its image's registry may be at another port than it says."""
    example = "examples/01-hello.yaml"
    if layout.ports["registry"] == REGISTRY_PORT:
        return f"kubectl apply -f {example}"
    return f"sed s/127.0.0.1:{REGISTRY_PORT}/{layout.registry}/ {example} | kubectl apply -f -"


def _again(command: str, state: Path | None) -> str:
    """The command line of another of these commands, for the same platform."""
    program = "spotjob" if shutil.which("spotjob") else shlex.quote(sys.argv[0])
    return f"{program} local {command}" + (f" --state {shlex.quote(str(state))}" if state else "")


def _kubectl_folder(layout: Layout) -> str | None:
    """Where kubectl is, if the user's PATH does not have one."""
    return None if shutil.which("kubectl") else str(Path(layout.kubectl).parent)


def _instance_of(layout: Layout, namespace: str, job: str) -> str:
    columns = "jsonpath={.metadata.name} {.status.phase} {.status.instanceID}"
    shown = layout.cluster.kubectl("get", "spotjob", job, "-n", namespace, "--ignore-not-found", "-o", columns).stdout
    if not shown:
        raise LocalError(f"there is no SpotJob {namespace}/{job}")
    _, phase, found = shown.split(" ")
    if not found or phase.startswith(("Finished", "Terminated")):
        stands = f"is {phase}" if phase else "waits for an instance"
        raise LocalError(f"{namespace}/{job} {stands}: it has no instance now")
    return found


def ecs_table(tasks: Sequence[Mapping[str, Any]]) -> str:
    """One line for each task; why it ended stands last, since it may be long."""
    row = "{:<32} {:<14} {:<20} {:<14} {:<8} {}"
    lines = [row.format("TASK", "CLUSTER", "DEFINITION", "STATUS", "EXIT", "STARTED BY / WHY IT STOPPED")]
    for task in tasks:
        name = task["arn"].rpartition("/")[2]
        status = "(forgotten)" if task["forgotten"] else task["lastStatus"]
        codes = ",".join("-" if code is None else str(code) for code in task["exitCodes"].values())
        why = " ".join(filter(None, (task["startedBy"], task["stopCode"], task["stoppedReason"])))
        lines.append(row.format(name, task["cluster"], task["taskDefinition"], status, codes, why).rstrip())
    return "\n".join(lines)


def _status_table(rows: list[PartStatus]) -> str:
    """Columns of fixed width: a URL is never cut, on a terminal or in a pipe."""
    lines = [f"{'PART':<24} {'PID':>7} {'STATE':<10} {'SINCE':<9} URL"]
    for row in rows:
        since = time.strftime("%H:%M:%S", time.localtime(row.started_at)) if row.started_at else ""
        lines.append(f"{row.name:<24} {row.pid or '':>7} {row.state:<10} {since:<9} {row.url}".rstrip())
    return "\n".join(lines)


def _next_step(rows: list[PartStatus], state: Path | None) -> str:
    """What to do about parts that are not up; empty when all are."""
    down_parts = [row for row in rows if row.state != "up"]
    if not down_parts:
        return ""
    logs = " ".join(row.log for row in down_parts)
    return f"Not all parts are up. To start them: {_again('up', state)}\nTo see why: tail {logs}"

"""`make demo`: one SpotJob from `kubectl apply` to TerminatedOK, and everything that it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import typer

from spotjob.local import account, content, probes
from spotjob.local.control_plane import Cluster
from spotjob.local.errors import LocalError
from spotjob.local.laptop import Options, Platform
from spotjob.local.layout import REGISTRY_PORT, Layout
from spotjob.local.progress import Progress

_EXAMPLE = "01-hello.yaml"
_JOB_SECONDS = 120
_REST_SECONDS = 30.0
_ONE_LINE = '{.status.phase}|{.status.reason}|{.status.instanceID}{"\\n"}'  # no tabs: kubectl would align them


class DemoFailed(LocalError):
    """The job did not end as it should."""


def run(platform: Platform, options: Options, progress: Progress, *, keep: bool) -> None:
    """Show the main job. Raises LocalError.

    The platform is gone afterwards in any case, unless it was there before or `keep` says otherwise.
    """
    keep = keep or platform.exists
    try:
        progress.say("1. Starting a Kubernetes API server, a simulated AWS account, the operator and the REST API")
        layout = platform.up(options)
        progress.say(
            f"2. kubectl apply -f examples/{_EXAMPLE}: the operator asks the simulated EC2 for a Spot Instance;"
        )
        progress.say("   its agent claims the job, pulls the image, runs the container, reports and powers off")
        job = run_example((content.repository() / "examples" / _EXAMPLE).read_text(), layout, progress)
        progress.say("3. What is left: the object, the container's output, the item of table Jobs, and no instance")
        _show(job, layout)
        typer.echo("0 instances alive")
    finally:
        if not keep:
            with progress.step("stopping everything"):
                platform.down()
    progress.say(f"Done after {progress.elapsed_seconds:.0f} s." + (" The platform is still up." if keep else ""))


def for_registry(text: str, layout: Layout) -> str:
    """An example with its image where this platform's registry listens."""
    return text.replace(f"127.0.0.1:{REGISTRY_PORT}/", f"{layout.registry}/")


def run_example(text: str, layout: Layout, progress: Progress) -> dict[str, Any]:
    """Apply one SpotJob and tell of its phases until it is terminated; the object. Raises DemoFailed."""
    manifest = for_registry(text, layout)
    layout.cluster.kubectl("delete", "--ignore-not-found", "-f", "-", input=manifest)
    reference = layout.cluster.kubectl("apply", "-f", "-", "-o", "name", input=manifest).stdout.strip()
    _follow(layout.cluster, reference, progress)
    job: dict[str, Any] = json.loads(layout.cluster.kubectl("get", reference, "-o", "json").stdout)
    if job.get("status", {}).get("phase") != "TerminatedOK":
        raise DemoFailed(f"{reference} is not TerminatedOK but: {json.dumps(job.get('status'), indent=1)}")
    return job


def _follow(cluster: Cluster, reference: str, progress: Progress) -> None:
    """Tell of each change of phase or reason, until the job is terminated or the time is up."""
    watch = ("get", reference, "--watch", f"--request-timeout={_JOB_SECONDS}s", "-o", f"jsonpath={_ONE_LINE}")
    began, last = progress.elapsed_seconds, ""
    with closing(cluster.lines(*watch)) as lines:
        for line in lines:
            phase, reason, instance = line.rstrip("\n").split("|")
            shown = (f"{phase} {reason}" if phase else "created") + (f" on {instance}" if instance else "")
            if shown != last:
                progress.say(f"  {progress.elapsed_seconds - began:5.1f} s  {shown}")
            if phase.startswith("Terminated"):
                return
            last = shown


def _show(job: Mapping[str, Any], layout: Layout) -> None:
    typer.echo("\n$ kubectl get spotjobs")
    typer.echo(layout.cluster.kubectl("get", "spotjobs").stdout)
    typer.echo("The container's output (status.attempts[-1].logTail):")
    typer.echo(job["status"]["attempts"][-1].get("logTail", ""))
    typer.echo("The item of table Jobs:")
    typer.echo(json.dumps(_item(job["metadata"]["uid"], layout), indent=2, ensure_ascii=False) + "\n")
    probes.wait_until(
        lambda: not account.instances_alive(layout.aws_url), _REST_SECONDS, "the end of all simulated instances"
    )


def _item(uid: str, layout: Layout) -> Mapping[str, Any]:
    """The job's item once it shows the end: the table follows the object."""
    found: dict[str, Mapping[str, Any]] = {}

    def settled() -> bool:
        found.update({item["id"]: item for item in account.items(layout.aws_url)})
        return found.get(uid, {}).get("jobStatus") == "TerminatedOK"

    probes.wait_until(settled, _REST_SECONDS, f"item {uid} of table Jobs to show TerminatedOK")
    return found[uid]

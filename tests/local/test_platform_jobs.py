"""What the platform's commands do with jobs: the demonstration, and the interruption on demand."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from rich.console import Console
from typer.testing import CliRunner

from spotjob.cli import app
from spotjob.local import account, demo, probes
from spotjob.local.laptop import Options, Platform
from spotjob.local.progress import Progress

pytestmark = pytest.mark.e2e

JOB = """
apiVersion: spotjob.dev/v1alpha1
kind: SpotJob
metadata: {{name: {name}, namespace: default}}
spec: {{image: "127.0.0.1:5000/spotjob-test:1", command: [sh, -c, "{script}"]}}
"""


@pytest.fixture(autouse=True)
def _clean(laptop: Platform) -> Iterator[None]:
    yield
    laptop.layout.cluster.kubectl("delete", "spotjobs", "--all", "--wait", "--timeout=240s", timeout_seconds=270)


def test_the_demonstration_shows_the_object_the_output_the_item_and_no_instance(
    laptop: Platform, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.run(laptop, Options(), Progress(Console(quiet=True)), keep=False)

    shown = capsys.readouterr().out
    assert "TerminatedOK" in shown
    assert "Hello from default/hello.\nThis is attempt 1.\n" in shown
    assert '"jobStatus": "TerminatedOK"' in shown
    assert shown.rstrip().endswith("0 instances alive")
    # It did not start this platform, so it does not stop it.
    # One that is slow to answer shows as not ready for a moment.
    probes.wait_until(lambda: {row.state for row in laptop.status()} == {"up"}, 60, "all parts to be up")


def test_a_job_that_fails_makes_the_demonstration_fail_with_its_reason(laptop: Platform) -> None:
    progress = Progress(Console(quiet=True))
    with pytest.raises(demo.DemoFailed, match="ContainerFailed"):
        demo.run_example(JOB.format(name="failing", script="exit 7"), laptop.layout, progress)


@pytest.mark.parametrize("command", ["interrupt", "reclaim", "rebalance"])
def test_ec2_does_nothing_to_a_job_that_does_not_exist(laptop: Platform, command: str) -> None:
    told = CliRunner().invoke(app, ["local", command, "nobody", "--state", str(laptop.state)])
    assert (told.exit_code, told.output) == (1, "error: there is no SpotJob default/nobody\n")


def test_an_interrupted_job_goes_on_with_another_instance(laptop: Platform) -> None:
    layout = laptop.layout
    job = JOB.format(name="long", script="[ $SPOTJOB_ATTEMPT = 2 ] || sleep 300")
    layout.cluster.kubectl("apply", "-f", "-", input=demo.for_registry(job, layout))
    layout.cluster.kubectl(
        "wait", "spotjob/long", "--for=jsonpath={.status.phase}=Running", "--timeout=240s", timeout_seconds=270
    )

    words = ["local", "interrupt", "long", "--warning", "1", "--state", str(laptop.state)]
    told = CliRunner().invoke(app, words)
    assert told.exit_code == 0, told.output

    layout.cluster.kubectl("wait", "spotjob/long", "--for=condition=Complete", "--timeout=300s", timeout_seconds=330)
    attempts = json.loads(layout.cluster.kubectl("get", "spotjob", "long", "-o", "json").stdout)["status"]["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["Interrupted", "Succeeded"]
    assert attempts[0]["instanceID"] in told.output
    probes.wait_until(lambda: not account.instances_alive(layout.aws_url), 60, "the end of both instances")


def test_a_recommendation_is_shown_and_a_reclaim_without_notice_ends_the_attempt(laptop: Platform) -> None:
    layout = laptop.layout
    job = JOB.format(name="sudden", script="[ $SPOTJOB_ATTEMPT = 2 ] || sleep 300")
    layout.cluster.kubectl("apply", "-f", "-", input=demo.for_registry(job, layout))
    layout.cluster.kubectl(
        "wait", "spotjob/sudden", "--for=jsonpath={.status.phase}=Running", "--timeout=240s", timeout_seconds=270
    )

    told = CliRunner().invoke(app, ["local", "rebalance", "sudden", "--state", str(laptop.state)])
    assert told.exit_code == 0, told.output
    layout.cluster.kubectl(
        "wait", "spotjob/sudden", "--for=condition=RebalanceRecommended", "--timeout=240s", timeout_seconds=270
    )
    told = CliRunner().invoke(app, ["local", "reclaim", "sudden", "--state", str(laptop.state)])
    assert told.exit_code == 0, told.output

    # Nobody reported a result: the console is asked before the attempt is given up.
    layout.cluster.kubectl("wait", "spotjob/sudden", "--for=condition=Complete", "--timeout=300s", timeout_seconds=330)
    attempts = json.loads(layout.cluster.kubectl("get", "spotjob", "sudden", "-o", "json").stdout)["status"]["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["Interrupted", "Succeeded"]


def test_a_job_that_is_over_has_no_instance_to_be_taken_back(laptop: Platform) -> None:
    layout = laptop.layout
    layout.cluster.kubectl("apply", "-f", "-", input=demo.for_registry(JOB.format(name="over", script="true"), layout))
    layout.cluster.kubectl("wait", "spotjob/over", "--for=condition=Complete", "--timeout=240s", timeout_seconds=270)
    told = CliRunner().invoke(app, ["local", "reclaim", "over", "--state", str(laptop.state)])
    assert told.exit_code == 1
    assert told.output.startswith("error: default/over is TerminatedOK: ")


def test_an_on_demand_instance_is_not_taken_back_and_ec2_says_why(laptop: Platform) -> None:
    layout = laptop.layout
    job = JOB.format(name="bought", script="sleep 300").replace("spec: {", "spec: {capacity: {type: on-demand}, ")
    layout.cluster.kubectl("apply", "-f", "-", input=demo.for_registry(job, layout))
    layout.cluster.kubectl(
        "wait", "spotjob/bought", "--for=jsonpath={.status.phase}=Running", "--timeout=240s", timeout_seconds=270
    )
    told = CliRunner().invoke(app, ["local", "interrupt", "bought", "--state", str(laptop.state)])
    assert told.exit_code == 1
    assert told.output.startswith("error: the simulated EC2 refuses: ")
    assert "is not a Spot Instance" in told.output

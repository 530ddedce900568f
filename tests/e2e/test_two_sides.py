"""Two sides end instances, the control plane and the instance itself. Each is switched off as a whole, and the other
one alone leaves nothing.

Everything here is real but EC2: agents, containers, timers. Whatever takes minutes goes on at the same time, so the
order of the tests saves time; each of them also passes alone.
"""

from __future__ import annotations

import os
import re
import signal
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from spotjob.local import docker, layout
from spotjob.local.docker import Docker
from spotjob.local.laptop import Platform
from spotjob.local.layout import API, OPERATOR
from tests.contract.ec2_clients import over_http
from tests.e2e.platform import Person, now

WINDOW_SECONDS = 120
"""The shortest that there is."""
REAPED_ABOVE = WINDOW_SECONDS + 60
SLACK_SECONDS = 20
"""For shutting down, and for a machine that has much to do."""
BY_ITSELF, BY_OPERATOR = "Client.InstanceInitiatedShutdown", "Client.UserInitiatedShutdown"
DONE_WHEN_ALONE = 'while wget -q -O /dev/null "${SPOTJOB_CALLBACK_URL%/v1/callback}/readyz"; do sleep 1; done; exit 0'

DEAF = """#!/bin/sh
echo "$*" >>"$SPOTJOB_ROOT/unheard"
"""
TIMELESS = """#!/bin/sh
case "$*" in *spotjob-deadline.timer*|poweroff*) exit 0 ;; esac
printf '%s\\n' "$*" >"$SPOTJOB_SYSTEMCTL"
"""


class Owner(Person):
    """Somebody who can also reach into the instances."""

    def disk(self, instance: str) -> Path:
        return self.layout.folder / "aws/instances" / instance / "disk"

    @contextmanager
    def systemctl(self, script: str) -> Iterator[None]:
        """Instances' systemd is broken: DEAF starts nothing at all, TIMELESS has neither timers nor power-off."""
        program = self.layout.folder / "aws/shims/systemctl"
        healthy = program.read_text()
        _swap(program, script)
        try:
            yield
        finally:
            _swap(program, healthy)

    def freeze_agent(self, instance: str) -> None:
        root = f"SPOTJOB_ROOT={self.disk(instance)}\0".encode()
        agents = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _runs_agent(pid, root)]
        assert len(agents) == 1
        os.kill(agents[0], signal.SIGSTOP)

    def started(self, name: str) -> str:
        """The instance of a job whose container runs."""
        return str(self.reason(name, "ContainerRunning")["instanceID"])

    def launch_one_more(self, like: str, count: int = 1) -> list[str]:
        """Instances as the operator launches them, for which there is no job."""
        [model] = [i for i in self.instances() if i["id"] == like]
        subnet = self.aws("GET", "network")["subnets"][0]["id"]
        with over_http(self.layout.aws_url, "ec2") as ec2:
            template = model["tags"]["aws:ec2launchtemplate:id"]
            answer = ec2.create_fleet(
                Type="instant",
                ClientToken=str(uuid.uuid4()),
                LaunchTemplateConfigs=[
                    {
                        "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"},
                        "Overrides": [{"InstanceType": "m7i.large", "SubnetId": subnet}],
                    }
                ],
                TargetCapacitySpecification={"TotalTargetCapacity": count, "DefaultTargetCapacityType": "spot"},
                TagSpecifications=[
                    {
                        "ResourceType": "instance",
                        "Tags": [{"Key": k, "Value": v} for k, v in model["tags"].items() if not k.startswith("aws:")],
                    }
                ],
            )
        return [i for each in answer["Instances"] for i in each["InstanceIds"]]

    def containers(self, instances: Sequence[str]) -> list[str]:
        stand_in = Docker(self.layout.folder / "aws/engine/engine.sock")
        engine = docker.find(os.environ) or stand_in
        return [c for i in instances for c in engine.containers(f"spotjob.instance={i}")]

    def ends(self, instances: Sequence[str], within: float) -> Mapping[str, Ending]:
        """Watch until all are terminated, `within` seconds of the last one's launch or half as much more."""
        seen: dict[str, Ending] = {}

        def all_gone() -> bool:
            for each in self.instances():
                if each["id"] in instances and each["state"] == "terminated" and each["id"] not in seen:
                    seen[each["id"]] = Ending(_age(each), each["stateReason"])
            return len(seen) == len(instances)

        youngest = min(_age(i) for i in self.instances() if i["id"] in instances)
        limit = max(within, youngest + 5)
        self.until(all_gone, limit - youngest, f"{', '.join(instances)} to be terminated")
        endings = {instance: replace(e, age=self._asked_at(instance) or e.age) for instance, e in seen.items()}
        assert {instance: e.age for instance, e in endings.items() if e.age > 1.5 * limit} == {}
        return endings

    def _asked_at(self, instance: str) -> float | None:
        """How old it was when somebody called TerminateInstances, in seconds, as EC2 keeps it."""
        with over_http(self.layout.aws_url, "ec2") as ec2:
            [found] = ec2.describe_instances(InstanceIds=[instance])["Reservations"]
        [described] = found["Instances"]
        told = re.search(r"\((.*) GMT\)", described["StateTransitionReason"])
        if told is None:
            return None
        asked = datetime.strptime(told[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        return float((asked - described["LaunchTime"]).total_seconds())


@dataclass(frozen=True)
class Ending:
    """The age of an instance when it was told to terminate, or else when it was seen terminated, and EC2's reason."""

    age: float
    reason: str


def _age(shown: Mapping[str, Any]) -> float:
    return (now() - datetime.fromisoformat(shown["launchTime"])).total_seconds()


def _swap(program: Path, text: str) -> None:
    """In one step: instances call it all the time."""
    fresh = program.with_suffix(".fresh")
    fresh.write_text(text)
    fresh.chmod(0o755)
    fresh.replace(program)


def _runs_agent(pid: int, root: bytes) -> bool:
    try:
        process = Path(f"/proc/{pid}")
        return (
            root in process.joinpath("environ").read_bytes() and b"agent.py" in process.joinpath("cmdline").read_bytes()
        )
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False


def restart(laptop: Platform, settings: Mapping[str, str]) -> None:
    layout.save(replace(laptop.layout, settings=dict(settings)))
    for part in (OPERATOR, API):
        laptop.kill(part)
        laptop.start(part)


@pytest.fixture(scope="module")
def owner(laptop: Platform) -> Iterator[Owner]:
    """The platform with the shortest launch window."""
    before = laptop.layout.settings
    restart(laptop, {**before, "SPOTJOB_LAUNCH_WINDOW_SECONDS": str(WINDOW_SECONDS)})
    owner = Owner(laptop)
    yield owner
    owner.kubectl("delete", "spotjobs", "--all", "--wait=false", seconds=120)
    owner.until(lambda: not owner.jobs() and not owner.alive(), REAPED_ABOVE + 60, "nothing to be left")
    restart(laptop, before)


@dataclass(frozen=True)
class Orphans:
    """Instances that cannot end themselves, and that no job names."""

    vanished: str
    """A container runs on it, and the object of its job is gone without a trace."""
    unbound: str

    @property
    def both(self) -> list[str]:
        return [self.vanished, self.unbound]


@pytest.fixture(scope="module")
def orphans(owner: Owner) -> Orphans:
    with owner.systemctl(TIMELESS):
        # Its shape is nobody else's here: no other job may get the instance that is launched like it.
        owner.apply(owner.manifest("vanished", "sleep 600", instanceTypes=["m7i.large"]))
        vanished = owner.started("vanished")
        owner.freeze_agent(vanished)
    owner.kubectl("patch", "spotjob", "vanished", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    owner.kubectl("delete", "spotjob", "vanished", "--wait=true", "--timeout=60s")
    with owner.systemctl(DEAF):
        [unbound] = owner.launch_one_more(like=vanished)
        unheard = owner.disk(unbound) / "unheard"
        owner.until(lambda: unheard.exists() and "agent" in unheard.read_text(), 30, "the deaf instance to boot")
    return Orphans(vanished, unbound)


def test_without_a_control_plane_every_instance_ends_itself_and_the_verdicts_follow(owner: Owner, orphans: Orphans):
    owner.apply(
        # None of these deadlines may pass before all three run and the control plane is gone. With their margins they
        # end together, so that the next operator notes each death soon.
        owner.manifest("whole", "sleep 600", activeDeadlineSeconds=90),
        owner.manifest("attempt", "sleep 600", startupDeadlineSeconds=45, attemptDeadlineSeconds=45),
        owner.manifest("alone", DONE_WHEN_ALONE, startupDeadlineSeconds=45, attemptDeadlineSeconds=45),
    )
    names = {owner.started(name): name for name in ("whole", "attempt", "alone")}
    names |= dict.fromkeys(owner.launch_one_more(like=next(iter(names)), count=2), "unbound")
    for part in (OPERATOR, API):
        owner.laptop.kill(part)
    terminations = owner.calls("TerminateInstances")

    # The window of the unbound; startup and attempt deadline and their margin; the whole deadline and its margin.
    endings = owner.ends(list(names), within=180 + SLACK_SECONDS)
    for instance, ending in endings.items():
        print(f"{instance} ({names[instance]}): off {ending.age:.0f} s after its launch, {ending.reason}")
    assert {e.reason for e in endings.values()} == {BY_ITSELF}
    assert owner.calls("TerminateInstances") == terminations
    assert owner.containers(list(names)) == []
    assert {i["id"] for i in owner.alive()} <= set(orphans.both)

    for part in (OPERATOR, API):
        owner.laptop.start(part)
    # A death that was noted more than a minute late has its console asked for the result for ten minutes.
    verdicts = {name: _verdict(owner.finished(name, seconds=220)) for name in ("whole", "attempt", "alone")}
    assert verdicts == {
        "whole": ("TerminatedNOK", "DeadlineExceeded", None, 1),
        "attempt": ("TerminatedNOK", "DeadlineExceeded", None, 1),
        "alone": ("TerminatedOK", "ContainerSucceeded", 0, 1),
    }


def _verdict(status: Mapping[str, Any]) -> tuple[Any, ...]:
    return status["phase"], status["reason"], status.get("exitCode"), len(status["attempts"])


def test_instances_that_cannot_end_themselves_are_ended_by_the_control_plane(owner: Owner, orphans: Orphans):
    with owner.systemctl(TIMELESS):
        owner.apply(
            owner.manifest("late", "sleep 600", attemptDeadlineSeconds=60),
            owner.manifest("deleted", "sleep 600", terminationGracePeriodSeconds=0),
        )
        frozen = []
        for name in ("late", "deleted"):
            frozen.append(owner.started(name))
            owner.freeze_agent(frozen[-1])
    owner.kubectl("delete", "spotjob", "deleted", "--wait=false")
    with owner.systemctl(DEAF):
        owner.apply(owner.manifest("mute", startupDeadlineSeconds=60))
        frozen.append(str(owner.reason("mute", "Booting")["instanceID"]))
        owner.until(lambda: (owner.disk(frozen[-1]) / "unheard").exists(), 30, "the deaf instance to boot")

        endings = owner.ends(frozen, within=90 + SLACK_SECONDS)
    for name, instance in zip(("late", "deleted", "mute"), frozen, strict=True):
        print(f"{instance} ({name}): terminated {endings[instance].age:.0f} s after its launch")
    assert {e.reason for e in endings.values()} == {BY_OPERATOR}
    assert owner.containers(frozen) == []
    assert _verdict(owner.finished("late")) == ("TerminatedNOK", "DeadlineExceeded", None, 1)
    assert owner.status("mute")["attempts"][0]["outcome"] == "StartupTimeout"
    owner.until(lambda: "deleted" not in owner.jobs(), SLACK_SECONDS, "the deleted object to go")


def test_instances_that_no_job_names_are_reaped_above_the_window_and_not_before(owner: Owner, orphans: Orphans):
    endings = owner.ends(orphans.both, within=REAPED_ABOVE + SLACK_SECONDS)
    for name, instance in (("vanished job", orphans.vanished), ("unbound", orphans.unbound)):
        print(f"{instance} ({name}): terminated {endings[instance].age:.0f} s after its launch")
        assert endings[instance].reason == BY_OPERATOR
        assert endings[instance].age >= REAPED_ABOVE
    assert owner.containers(orphans.both) == []

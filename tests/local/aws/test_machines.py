"""The machines under the instances."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from spotjob.local.aws_server import AwsServer
from tests.local.aws.account import (
    USER_DATA,
    RecordedMachines,
    instance,
    launch,
    launch_and_boot,
    until,
)


def test_a_machine_boots_with_the_decoded_user_data_and_its_own_metadata_service(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    assert machines.booted[instance_id] == (USER_DATA, f"{server.url}/_imds/{instance_id}")


def test_an_instance_is_terminated_only_when_its_machine_has_halted(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    machines.holds_on = True
    boto.terminate_instances(InstanceIds=[instance_id])
    until(lambda: instance_id in machines.halting)
    assert instance(server, instance_id).state == "shutting-down"
    machines.holds_on = False
    machines.halting[instance_id]()
    until(lambda: instance(server, instance_id).state == "terminated")


def test_a_machine_that_powers_itself_off_terminates_its_instance(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    machines.power_off[instance_id]()
    until(lambda: instance(server, instance_id).state == "terminated")
    assert instance(server, instance_id).reason[0] == "Client.InstanceInitiatedShutdown"


def test_the_console_is_that_of_the_machine(server: AwsServer, boto: Any, machines: RecordedMachines) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    assert boto.get_console_output(InstanceId=instance_id, Latest=True)["Output"] == f"console of {instance_id}\n"


def test_the_last_words_of_a_machine_stay_on_its_instances_console(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    boto.terminate_instances(InstanceIds=[instance_id])
    until(lambda: instance(server, instance_id).state == "terminated")
    first = boto.get_console_output(InstanceId=instance_id)
    assert first["Output"] == f"console of {instance_id}\n"
    assert boto.get_console_output(InstanceId=instance_id)["Timestamp"] == first["Timestamp"]


def test_a_machine_that_fails_to_boot_stops_neither_the_clock_nor_the_others(
    server: AwsServer, boto: Any, machines: RecordedMachines, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = threading.Event()

    def refuse(*_: Any) -> None:
        refused.set()
        raise RuntimeError("no such engine")

    with monkeypatch.context() as broken:
        broken.setattr(machines, "boot", refuse)
        launch(server, boto)
        assert refused.wait(timeout=60)
    launch_and_boot(server, boto, machines)

"""The local AWS server beside EC2's own calls: metadata service, levers, machines, moto behind its locks."""

from __future__ import annotations

import base64
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

import spotjob
from spotjob.local.aws_server import AwsServer
from spotjob.local.ec2 import Timing
from spotjob.local.ec2.records import Ec2Instance
from tests.contract.ec2_clients import an_image, over_http
from tests.local.ec2.builders import a_fleet, a_template, ids

USER_DATA = "#!/bin/sh\necho ü\n"


class RecordedMachines:
    """Machines that do nothing by themselves: the test halts and powers them off."""

    def __init__(self) -> None:
        self.booted: dict[str, tuple[str, str]] = {}
        self.power_off: dict[str, Callable[[], None]] = {}
        self.halting: dict[str, Callable[[], None]] = {}
        self.holds_on = False
        """Machines do not halt until the test says so."""

    def boot(self, instance_id: str, user_data: str, imds_endpoint: str, power_off: Callable[[], None]) -> None:
        self.booted[instance_id] = (user_data, imds_endpoint)
        self.power_off[instance_id] = power_off

    def halt(self, instance_id: str, halted: Callable[[], None]) -> None:
        self.halting[instance_id] = halted
        if not self.holds_on:
            halted()

    def console(self, instance_id: str) -> str:
        return f"console of {instance_id}\n"


@pytest.fixture(name="machines", scope="module")
def _machines() -> RecordedMachines:
    return RecordedMachines()


@pytest.fixture(name="server", scope="module")
def _server(machines: RecordedMachines) -> Iterator[AwsServer]:
    server = AwsServer(lambda _: machines, region="us-east-1", timing=Timing(boot_seconds=0, shutdown_seconds=0))
    server.start()
    yield server
    server.stop()


@pytest.fixture(name="boto", scope="module")
def _boto(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "ec2") as client:
        image = an_image(server.url)
        profile = {"IamInstanceProfile": {"Name": "worker"}}
        client.create_launch_template(**a_template("jobs", ImageId=image, UserData=_base64(USER_DATA), **profile))
        yield client


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def send(server: AwsServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", urllib.parse.urlsplit(server.url).port, timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, path, None if body is None else json.dumps(body), names)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def pull(server: AwsServer, lever: str, **order: Any) -> None:
    status, answer = send(server, "POST", f"/_spotjob/{lever}", order)
    assert status == 200, answer


def shown(server: AwsServer, what: str) -> Any:
    status, body = send(server, "GET", f"/_spotjob/{what}")
    assert status == 200, body
    return json.loads(body)


def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what another thread is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def launch(server: AwsServer, boto: Any) -> str:
    subnet = shown(server, "network")["subnets"][0]
    request = a_fleet(zones=("us-east-1a",), SubnetId=subnet["id"])
    (instance_id,) = ids(boto.create_fleet(**request))
    return instance_id


def instance(server: AwsServer, instance_id: str) -> Ec2Instance:
    with server.centre.open() as ec2:
        return ec2.instance(instance_id)


def launch_and_boot(server: AwsServer, boto: Any, machines: RecordedMachines) -> str:
    instance_id = launch(server, boto)
    until(lambda: instance_id in machines.booted)
    return instance_id


# ---- the machines under the instances


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
    assert boto.get_console_output(InstanceId=instance_id)["Output"] == f"console of {instance_id}\n"


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
        assert refused.wait(timeout=10)
    launch_and_boot(server, boto, machines)


# ---- the metadata service


def metadata(server: AwsServer, instance_id: str, item: str, token: str | None = None) -> tuple[int, str]:
    """One item, with a fresh token unless one is given."""
    if token is None:
        _, fresh = send(
            server, "PUT", f"/_imds/{instance_id}/latest/api/token", X_aws_ec2_metadata_token_ttl_seconds="60"
        )
        token = fresh.decode()
    status, body = send(server, "GET", f"/_imds/{instance_id}/latest/{item}", X_aws_ec2_metadata_token=token)
    return status, body.decode()


def test_the_metadata_service_knows_its_instance(server: AwsServer, boto: Any) -> None:
    instance_id = launch(server, boto)
    for item, value in {
        "meta-data/instance-id": instance_id,
        "meta-data/instance-type": "m6i.large",
        "meta-data/placement/availability-zone": "us-east-1a",
        "meta-data/placement/region": "us-east-1",
        "meta-data/instance-life-cycle": "spot",
        "meta-data/ami-id": instance(server, instance_id).data["ImageId"],
        "meta-data/iam/security-credentials/": "worker",
        "user-data": USER_DATA,
    }.items():
        assert metadata(server, instance_id, item) == (200, value), item
    status, credentials = metadata(server, instance_id, "meta-data/iam/security-credentials/worker")
    assert (status, json.loads(credentials)["Code"]) == (200, "Success")


@pytest.mark.parametrize("item", ["meta-data/spot/instance-action", "meta-data/unknown", "instance-id", ""])
def test_what_the_metadata_service_does_not_have_is_404(server: AwsServer, boto: Any, item: str) -> None:
    assert metadata(server, launch(server, boto), item) == (404, "")


@pytest.mark.parametrize("token", ["", "made-up", "9999999999.made-up"])
def test_metadata_needs_a_token(server: AwsServer, boto: Any, token: str) -> None:
    assert metadata(server, launch(server, boto), "meta-data/instance-id", token)[0] == 401


def test_a_token_is_good_for_its_own_instance_only(server: AwsServer, boto: Any) -> None:
    one, other = launch(server, boto), launch(server, boto)
    path = f"/_imds/{one}/latest/api/token"
    _, token = send(server, "PUT", path, X_aws_ec2_metadata_token_ttl_seconds="60")
    assert metadata(server, one, "meta-data/instance-id", token.decode())[0] == 200
    assert metadata(server, other, "meta-data/instance-id", token.decode())[0] == 401


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"X_aws_ec2_metadata_token_ttl_seconds": "60"}, 405),
        ("PUT", {}, 400),
        ("PUT", {"X_aws_ec2_metadata_token_ttl_seconds": "21601"}, 400),
        ("PUT", {"X_aws_ec2_metadata_token_ttl_seconds": "60", "X_Forwarded_For": "10.0.0.1"}, 403),
    ],
)
def test_a_token_is_given_only_to_a_proper_request(
    server: AwsServer, boto: Any, method: str, headers: dict[str, str], status: int
) -> None:
    path = f"/_imds/{launch(server, boto)}/latest/api/token"
    assert send(server, method, path, **headers) == (status, b"")


def test_the_metadata_of_no_instance_is_404(server: AwsServer) -> None:
    assert metadata(server, "i-unknown", "meta-data/instance-id", "") == (404, "")


# ---- the levers


def test_a_notice_shows_in_the_metadata_and_the_reclaim_follows(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    pull(server, "interrupt", instanceId=instance_id, warningSeconds=1)
    status, notice = metadata(server, instance_id, "meta-data/spot/instance-action")
    assert (status, json.loads(notice)["action"]) == (200, "terminate")
    until(lambda: instance(server, instance_id).state == "terminated")
    assert instance(server, instance_id).reason[0] == "Server.SpotInstanceTermination"


def test_a_reclaim_comes_without_notice(server: AwsServer, boto: Any, machines: RecordedMachines) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    pull(server, "reclaim", instanceId=instance_id)
    until(lambda: instance(server, instance_id).state == "terminated")


def test_a_rebalance_recommendation_shows_in_the_metadata(
    server: AwsServer, boto: Any, machines: RecordedMachines
) -> None:
    instance_id = launch_and_boot(server, boto, machines)
    item = "meta-data/events/recommendations/rebalance"
    assert metadata(server, instance_id, item)[0] == 404
    pull(server, "rebalance", instanceId=instance_id)
    assert "noticeTime" in json.loads(metadata(server, instance_id, item)[1])


def test_capacity_is_taken_away_and_given_back(server: AwsServer, boto: Any) -> None:
    subnet = shown(server, "network")["subnets"][0]["id"]
    pull(server, "capacity", instanceType="*", availabilityZone="us-east-1a", capacityType="spot", count=0)
    assert ids(boto.create_fleet(**a_fleet(SubnetId=subnet))) == []
    pull(server, "capacity", instanceType="*", availabilityZone="us-east-1a", capacityType="spot", count=None)
    assert len(ids(boto.create_fleet(**a_fleet(SubnetId=subnet)))) == 1


def test_a_fault_is_ordered_and_taken_back(server: AwsServer, boto: Any) -> None:
    pull(server, "fault", action="DescribeInstances", code="InternalError", times=5)
    with pytest.raises(ClientError, match="InternalError"):
        boto.describe_instances()
    assert send(server, "DELETE", "/_spotjob/faults")[0] == 200
    assert boto.describe_instances()["Reservations"]


def test_the_boot_time_can_be_changed(server: AwsServer, boto: Any) -> None:
    pull(server, "boot-seconds", seconds=3600)
    slow = launch(server, boto)
    pull(server, "boot-seconds", seconds=0)
    fast = launch(server, boto)
    until(lambda: instance(server, fast).state == "running")
    assert instance(server, slow).state == "pending"


def test_instances_are_listed_and_calls_are_counted(server: AwsServer, boto: Any) -> None:
    before = shown(server, "counts")["CreateFleet"]
    instance_id = launch(server, boto)
    (row,) = [one for one in shown(server, "instances") if one["id"] == instance_id]
    assert (row["type"], row["zone"], row["capacityType"]) == ("m6i.large", "us-east-1a", "spot")
    assert row["tags"]["from"] == "template"
    assert shown(server, "counts")["CreateFleet"] == before + 1


@pytest.mark.parametrize(
    ("lever", "order", "status", "says"),
    [
        ("interrupt", {"instanceId": "i-unknown"}, 404, "i-unknown"),
        ("interrupt", {}, 400, "instanceId"),
        ("interrupt", {"instanceId": "i-1", "warningSeconds": -1}, 400, "warningSeconds"),
        ("capacity", {"count": -1}, 400, "count"),
        ("capacity", {"colour": "red"}, 400, "colour"),
        ("fault", {"action": "CreateFleet", "when": "sometimes"}, 400, "when"),
        ("unknown", {}, 404, "unknown"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_name(
    server: AwsServer, lever: str, order: dict[str, Any], status: int, says: str
) -> None:
    got, body = send(server, "POST", f"/_spotjob/{lever}", order)
    assert got == status
    assert says in body.decode()


# ---- moto


@pytest.fixture(name="dynamodb", scope="module")
def _dynamodb(server: AwsServer) -> Iterator[Any]:
    with over_http(server.url, "dynamodb") as client:
        assert shown(server, "items") == []
        client.create_table(
            TableName="Jobs",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        yield client


def test_writes_of_many_threads_lose_nothing(dynamodb: Any) -> None:
    key = {"id": {"S": "counter"}}
    dynamodb.put_item(TableName="Jobs", Item=key | {"count": {"N": "0"}})

    def count_and_claim(number: int) -> bool:
        """Raise the counter; claim a number that 16 threads want. True for the one that got it."""
        dynamodb.update_item(
            TableName="Jobs",
            Key=key,
            UpdateExpression="SET #count = #count + :one",
            ExpressionAttributeNames={"#count": "count"},
            ExpressionAttributeValues={":one": {"N": "1"}},
        )
        try:
            dynamodb.update_item(
                TableName="Jobs",
                Key={"id": {"S": f"claim-{number}"}},
                UpdateExpression="SET claimed = :yes",
                ConditionExpression="attribute_not_exists(claimed)",
                ExpressionAttributeValues={":yes": {"BOOL": True}},
            )
        except dynamodb.exceptions.ConditionalCheckFailedException:
            return False
        return True

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # widens the windows in which moto without a lock loses writes
    try:
        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(count_and_claim, [number for number in range(20) for _ in range(16)]))
    finally:
        sys.setswitchinterval(interval)
    assert sum(won) == 20
    assert dynamodb.get_item(TableName="Jobs", Key=key)["Item"]["count"]["N"] == "320"


def test_items_are_shown_as_plain_json(server: AwsServer, dynamodb: Any) -> None:
    item = {
        "id": {"S": "one"},
        "exitCode": {"N": "7"},
        "price": {"N": "0.5"},
        "none": {"NULL": True},
        "env": {"L": [{"M": {"name": {"S": "A"}, "set": {"BOOL": False}}}]},
    }
    dynamodb.put_item(TableName="Jobs", Item=item)
    (found,) = [one for one in shown(server, "items") if one["id"] == "one"]
    plain = {"id": "one", "exitCode": 7, "price": 0.5, "none": None, "env": [{"name": "A", "set": False}]}
    assert found == plain


def test_faults_strike_the_other_services_too(server: AwsServer, dynamodb: Any) -> None:
    pull(server, "fault", action="PutItem", code="InternalServerError", httpStatus=500, when="after")
    with pytest.raises(ClientError, match="InternalServerError"):
        dynamodb.put_item(TableName="Jobs", Item={"id": {"S": "hidden"}})
    assert "hidden" in [one["id"] for one in shown(server, "items")]


def test_objects_of_moto_are_not_kept(server: AwsServer, dynamodb: Any) -> None:
    from moto.dynamodb.models.dynamo_type import Item

    dynamodb.put_item(TableName="Jobs", Item={"id": {"S": "kept?"}})
    assert not getattr(Item, "instances_tracked", [])


@pytest.mark.parametrize(
    ("service", "call", "key"),
    [
        ("sts", "get_caller_identity", "Account"),
        ("sqs", "list_queues", "ResponseMetadata"),
        ("ecs", "list_clusters", "clusterArns"),
        ("s3", "list_buckets", "Buckets"),
        ("ssm", "describe_parameters", "Parameters"),
    ],
)
def test_the_other_services_answer(server: AwsServer, service: str, call: str, key: str) -> None:
    with over_http(server.url, service) as client:
        assert key in getattr(client, call)()


def test_a_long_poll_does_not_hold_up_its_service(server: AwsServer) -> None:
    with over_http(server.url, "sqs") as client, ThreadPoolExecutor(1) as threads:
        url = client.create_queue(QueueName="events")["QueueUrl"]
        poll = threads.submit(client.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        client.send_message(QueueUrl=url, MessageBody="woken")
        assert poll.result(timeout=10)["Messages"][0]["Body"] == "woken"


# ---- as a process


def test_the_process_says_where_it_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    sources = str(Path(spotjob.__file__).parents[1])
    arguments = ["--state", str(tmp_path), "--machines", "none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "spotjob.local.aws_server", *arguments],
        env=os.environ | {"PYTHONPATH": sources},
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        with process:
            assert process.stdout is not None
            port = urllib.parse.urlsplit(process.stdout.readline().strip()).port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.request("GET", "/_spotjob/ready")
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
    finally:
        watchdog.cancel()
        process.kill()

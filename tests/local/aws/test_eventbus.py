"""Events of the simulated EC2, on their way to the queue."""

from __future__ import annotations

import json
import threading

from spotjob.local.eventbus import QUEUE, EventBus
from spotjob.local.moto_app import MOST_MESSAGES, MotoApp


def test_events_are_delivered_in_order_and_a_failure_loses_only_its_own() -> None:
    sent: list[str] = []
    done = threading.Event()

    def send(queue: str, bodies: object) -> None:
        assert queue == QUEUE
        (body,) = bodies  # type: ignore[misc]
        number = json.loads(body)["number"]
        if number == 1:
            raise ConnectionError("no moto")
        sent.append(number)
        if number == 2:
            done.set()

    bus = EventBus(send)
    bus.start()
    for number in range(3):
        bus.put([{"number": number}])
    bus.put([])
    assert done.wait(30)
    bus.stop()
    assert sent == [0, 2]


def test_a_bus_that_stops_does_not_deliver_what_waits() -> None:
    first, go_on = threading.Event(), threading.Event()
    sent: list[object] = []

    def send(_: str, bodies: object) -> None:
        first.set()
        go_on.wait(300)
        sent.append(bodies)

    bus = EventBus(send)
    bus.start()
    for number in range(100):
        bus.put([{"number": number}])
    assert first.wait(30)
    stopping = threading.Thread(target=bus.stop)
    stopping.start()
    while not bus._stopping.wait(0.01):
        pass
    go_on.set()
    stopping.join(60)
    assert not stopping.is_alive()
    assert len(sent) == 1


def test_a_queue_that_nobody_reads_is_full_at_some_time() -> None:
    moto = MotoApp("us-east-1")
    moto.send("unread", ["{}"] * (MOST_MESSAGES + 50))
    from moto.sqs.models import sqs_backends

    from spotjob.local.ec2 import ACCOUNT

    assert len(sqs_backends[ACCOUNT]["us-east-1"].queues["unread"]._messages) == MOST_MESSAGES

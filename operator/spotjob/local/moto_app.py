"""moto for everything but the life of instances: DynamoDB, SSM, SQS, S3, STS, and EC2's network and images.

moto has no locks, so concurrent conditional writes get lost, and it keeps every object that it ever made
(measured with 5.2.5, which is why the version is pinned). Here each service has one lock, and nothing is kept.
moto takes 2 s to import, so that happens when it is first needed, or when `warm` is called.
"""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from werkzeug.wrappers import Response

from spotjob.local.ec2 import ACCOUNT, Surroundings

Environ = dict[str, Any]
RETENTION_SECONDS = 300
MOST_MESSAGES = 200
"""In a queue that nobody reads; one that is read holds a few."""
_SCOPE = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")
_UNLOCKED = frozenset({("sqs", "ReceiveMessage")})
"""A long poll must not hold the lock of its service. moto hands each message out once all the same."""


def signed_for(environ: Mapping[str, Any]) -> tuple[str, str]:
    """Service and region that a request is signed for; an unsigned one is taken for S3, as moto does."""
    scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    return (scope[2], scope[1]) if scope else ("s3", "us-east-1")


class MotoApp:
    """moto's WSGI application for one region, behind one lock per service."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._locks: dict[str, threading.Lock] = {}
        self._loading = threading.Lock()
        self._loaded: Callable[..., Any] | None = None
        self._ec2_backend: Any = None

    def serve(self, environ: Environ, service: str, action: str, body: bytes) -> Response:
        """Let moto answer one request, whose body has been read already."""
        app = self._application()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        with nullcontext() if (service, action) in _UNLOCKED else self._lock(service):
            answer = Response.from_app(app, environ, buffered=True)
        # An exception inside moto comes as a web page, which no SDK can read.
        if answer.status_code == 500 and answer.mimetype == "text/html":
            return Response(json.dumps({"__type": "InternalFailure", "message": f"moto failed in {action}"}), 500)
        return answer

    def _lock(self, service: str) -> threading.Lock:
        return self._locks.setdefault(service, threading.Lock())

    def _application(self) -> Callable[..., Any]:
        with self._loading:
            if self._loaded is None:
                from moto.core.common_models import BaseModel
                from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

                BaseModel.__new__ = staticmethod(_untracked)  # type: ignore[method-assign]
                self._loaded = DomainDispatcherApplication(create_backend_app)
            return self._loaded

    def warm(self) -> None:
        """Import and set up now what the first requests would wait for."""
        self.network()
        with self._lock("dynamodb"):
            self._tables()

    # ---- EC2's network and images, as launches need them

    def network(self) -> dict[str, Any]:
        """The default VPC: its subnets, one per zone, and its security group."""
        backend = self._ec2()
        subnets = sorted(self._subnets().items(), key=lambda pair: pair[1])
        vpc = next(vpc for vpc in list(backend.vpcs.values()) if vpc.is_default)
        group = next(name for name, one in list(backend.groups[vpc.id].items()) if one.name == "default")
        return {"subnets": [{"id": i, "availabilityZone": zone} for i, zone in subnets], "securityGroup": group}

    def surroundings(self) -> Surroundings:
        """What there is beside instances, looked up when it is asked for."""
        return Surroundings(
            subnets=_LazyMapping(self._subnets),
            images=_LazyContainer(lambda: self._ec2().amis),
            security_groups=_LazyContainer(self._groups),
        )

    def _ec2(self) -> Any:
        """moto's EC2 backend. Reading it takes no lock, lest a launch waits for a long list; copies are atomic."""
        if self._ec2_backend is None:
            self._application()
            from moto.ec2.models import ec2_backends

            with self._lock("ec2"):
                self._ec2_backend = ec2_backends[ACCOUNT][self._region]
        return self._ec2_backend

    def _subnets(self) -> Mapping[str, str]:
        by_zone = list(self._ec2().subnets.values())
        return {subnet.id: subnet.availability_zone for zone in by_zone for subnet in list(zone.values())}

    def _groups(self) -> Container[str]:
        return {name for groups in list(self._ec2().groups.values()) for name in list(groups)}

    # ---- SQS

    def send(self, queue: str, bodies: Sequence[str]) -> None:
        """Put messages into a queue, which is made when it is not there.

        What nobody reads for 5 minutes goes, and nothing gets into a full queue: moto looks at all of it at each call.
        """
        self._application()
        from moto.sqs.models import sqs_backends

        with self._lock("sqs"):
            backend = sqs_backends[ACCOUNT][self._region]
            if queue not in backend.queues:
                backend.create_queue(queue, MessageRetentionPeriod=str(RETENTION_SECONDS))
            _drop_the_old(backend.queues[queue])
            room = max(0, MOST_MESSAGES - len(backend.queues[queue]._messages))
            for body in bodies[:room]:
                backend.send_message(queue, body)

    # ---- DynamoDB

    def items(self, table: str) -> list[dict[str, Any]]:
        """Every item of a table as plain JSON; none when there is no such table."""
        self._application()
        with self._lock("dynamodb"):
            tables = self._tables()
            if table not in tables:
                return []
            raw = [item.to_json()["Attributes"] for item in tables[table].all_items()]
        return [{name: plain(value) for name, value in item.items()} for item in raw]

    def _tables(self) -> Any:
        from moto.dynamodb.models import dynamodb_backends

        return dynamodb_backends[ACCOUNT][self._region].tables


def _drop_the_old(queue: Any) -> None:
    """moto hides messages that are too old, and keeps them."""
    oldest = (time.time() - RETENTION_SECONDS) * 1000
    queue._messages[:] = [message for message in queue._messages if message.sent_timestamp > oldest]


def _untracked(cls: type, *_: Any, **__: Any) -> Any:
    return object.__new__(cls)


class _LazyMapping(Mapping[str, str]):
    def __init__(self, read: Callable[[], Mapping[str, str]]) -> None:
        self._read = read

    def __getitem__(self, key: str) -> str:
        return self._read()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())


class _LazyContainer(Container[str]):
    def __init__(self, read: Callable[[], Container[str]]) -> None:
        self._read = read

    def __contains__(self, one: object) -> bool:
        return one in self._read()


def plain(value: Mapping[str, Any]) -> Any:
    """A DynamoDB attribute value as JSON. Binary stays base64."""
    ((kind, content),) = value.items()
    match kind:
        case "N":
            return float(content) if any(mark in content for mark in ".eE") else int(content)
        case "NULL":
            return None
        case "L":
            return [plain(one) for one in content]
        case "M":
            return {name: plain(one) for name, one in content.items()}
        case "NS":
            return sorted(plain({"N": one}) for one in content)
        case _:
            return content

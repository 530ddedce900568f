"""An AWS account on loopback: one process, one port, no credentials checked.

    python -m spotjob.local.aws_server --port 4566 --state DIR

EC2's instances, fleets, launch templates and spot requests are the simulator's, and so is ECS; instance types come
from a catalogue; everything else is moto's. Beside the AWS APIs it serves each instance's metadata service under
/_imds/<instance id>/latest/ and the levers under /_spotjob/ (see levers.py).

Everything lives in memory: after a kill -9 the account is empty again, and containers that were instances stay
behind until `spotjob local down` clears them away.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Response

from spotjob.local import catalogue, ec2_wire, imds
from spotjob.local.datacentre import DataCentre
from spotjob.local.ec2 import ACTIONS, ApiError, Reply, Simulator, Timing
from spotjob.local.ecs import EcsSimulator, defaults
from spotjob.local.ecs.containers import Containers
from spotjob.local.ecs.levers import EcsLevers
from spotjob.local.ecs.service import EcsService
from spotjob.local.eventbus import QUEUE, EventBus
from spotjob.local.levers import Levers
from spotjob.local.machines import Machines, NoMachines
from spotjob.local.moto_app import Environ, MotoApp, signed_for

_SIMULATED = re.compile(r"Instances$|InstanceAttribute|Fleet|SpotInstance|LaunchTemplate|DescribeTags")
"""What moto must not answer, since its instances are not ours: the simulator does, or refuses."""
_SIMULATED_IDS = ("i-", "sir-", "lt-")


class AwsServer:
    """The account as a server on 127.0.0.1, between `start` and `stop`."""

    def __init__(
        self,
        machines: Callable[[str], Machines],
        *,
        port: int = 0,
        region: str,
        timing: Timing,
        image: str = defaults.IMAGE,
    ) -> None:
        """`machines` gets the server's URL and returns what plays the hardware. Port 0 takes a free one. `image` is
        that of the task definitions that the account has from the start."""
        self._region = region
        self._server = make_server("127.0.0.1", port, self._answer, threaded=True, request_handler=_Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="aws-server", daemon=True)
        self.url = f"http://127.0.0.1:{self._server.port}"
        self.moto = MotoApp(region)
        simulator = Simulator(
            datetime.now(UTC),
            secrets.randbits(64),
            region=region,
            timing=replace(timing, machine_halts=True),
            surroundings=self.moto.surroundings(),
        )
        self._bus = EventBus(self.moto.send)
        hardware = machines(self.url)
        self.centre = DataCentre(simulator, hardware, f"{self.url}/_imds", self._bus.put)
        self.ecs = _ecs(region, hardware.containers(), image)
        self._levers = Levers(self.centre, self.moto, EcsLevers(self.ecs))
        self._metadata = imds.MetadataService(region, secrets.token_bytes(32))

    def start(self) -> None:
        ec2_wire.load()
        self._bus.start()
        self.centre.start()
        self.ecs.start()
        self._thread.start()

    def warm(self) -> None:
        """Make now what the first requests would wait for. The queue comes first: who misses it asks again later."""
        self.moto.send(QUEUE, ())
        self.moto.warm()

    def stop(self) -> None:
        """Halt the machines, then stop answering: what shuts down in them may still ask for metadata."""
        self.ecs.stop()
        self.centre.stop()
        self._bus.stop()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    # ---- HTTP

    def _answer(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        body, path = _body(environ), environ["PATH_INFO"]
        if path.startswith("/_imds/"):
            response = self._metadata_answer(environ, path.removeprefix("/_imds/"))
        elif path.startswith("/_spotjob/"):
            response = self._levers_answer(environ["REQUEST_METHOD"], path.removeprefix("/_spotjob/"), body)
        else:
            response = self._aws_answer(environ, body)
        return response(environ, start_response)

    def _metadata_answer(self, environ: Environ, path: str) -> Response:
        instance_id, _, item = path.partition("/latest/")
        ask = imds.Ask(
            method=environ["REQUEST_METHOD"],
            path=item,
            token=environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN", ""),
            ttl=environ.get("HTTP_X_AWS_EC2_METADATA_TOKEN_TTL_SECONDS", ""),
            forwarded="HTTP_X_FORWARDED_FOR" in environ,
        )
        try:
            with self.centre.open() as ec2:
                status, body = self._metadata.answer(ec2.instance(instance_id), ask, ec2.now)
        except ApiError:
            status, body = 404, b""
        return Response(body, status, content_type="text/plain")

    def _levers_answer(self, method: str, name: str, body: bytes) -> Response:
        try:
            order = json.loads(body or b"{}")
        except ValueError as error:
            return Response(json.dumps({"error": f"no JSON: {error}"}), 400, content_type="application/json")
        status, answer = self._levers.answer(method, name, order)
        return Response(json.dumps(answer), status, content_type="application/json")

    # ---- AWS

    def _aws_answer(self, environ: Environ, body: bytes) -> Response:
        service, region = signed_for(environ)
        if service != "ec2":
            return self._elsewhere(environ, service, _action(environ, body), body)
        if region != self._region:
            return _refusal(environ, ApiError("AuthFailure", f"This account has EC2 in {self._region} only"))
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        if not _simulated(form):
            return self._elsewhere(environ, service, form.get("Action", ""), body)
        try:
            action, request = ec2_wire.parse(form)
        except ApiError as error:
            return _refusal(environ, error)
        return self._spoken(environ, self.centre.serve(action, request), lambda answer: _written(action, answer))

    def _elsewhere(self, environ: Environ, service: str, action: str, body: bytes) -> Response:
        """ECS, catalogue and moto: counted, and spoiled by faults, like the EC2 simulator's own calls."""
        with self.centre.open() as ec2:
            ec2.calls[action] += 1
            fault = ec2.faults.take(action)
        if fault is None:
            return self._served(environ, service, action, body)
        spoiled = Reply(error=fault.error(), lost=fault.lost, delay_seconds=fault.delay_seconds)
        if fault.spoils and fault.when == "before":
            return self._spoken(environ, spoiled, _nothing)
        response = self._served(environ, service, action, body)
        return self._spoken(environ, spoiled, lambda _: response)

    def _served(self, environ: Environ, service: str, action: str, body: bytes) -> Response:
        written = self._containers(environ, service, action, body)
        if written is not None:
            return Response(written[1], written[0], content_type=environ["CONTENT_TYPE"])
        if service != "ec2" or action not in catalogue.ACTIONS:
            return self.moto.serve(environ, service, action, body)
        try:
            _, request = ec2_wire.parse(dict(parse_qsl(body.decode(), keep_blank_values=True)))
            return _written(action, catalogue.ACTIONS[action](self._region, request))
        except ApiError as error:
            return _refusal(environ, error)

    def _containers(self, environ: Environ, service: str, action: str, body: bytes) -> tuple[int, str] | None:
        """HTTP status and JSON of ECS, and of what its containers log; None for anything else."""
        if service == "ecs":
            return self.ecs.answer(signed_for(environ)[1], action, body)
        return self.ecs.log_events(body) if action == "GetLogEvents" else None

    def _spoken(self, environ: Environ, reply: Reply, write: Callable[[Mapping[str, Any]], Response]) -> Response:
        """Turn a reply into what the caller sees, after the delay that it is to see."""
        if reply.delay_seconds:
            time.sleep(reply.delay_seconds)
        if reply.lost:
            # The handler's next write fails, as if the network had.
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
            return Response()
        return _refusal(environ, reply.error) if reply.error is not None else write(reply.answer or {})


def _nothing(_: Mapping[str, Any]) -> Response:
    return Response()


def _body(environ: Environ) -> bytes:
    """The whole body: what is left unread would be taken for the connection's next request."""
    stream = environ["wsgi.input"]
    if environ.get("wsgi.input_terminated"):
        return bytes(stream.read())
    return bytes(stream.read(int(environ.get("CONTENT_LENGTH") or 0)))


def _ecs(region: str, containers: Containers | None, image: str) -> EcsService:
    simulator = EcsSimulator(datetime.now(UTC), secrets.randbits(64), region=region, real=containers is not None)
    defaults.fill(simulator, image)
    return EcsService(simulator, region, containers)


def _action(environ: Environ, body: bytes) -> str:
    """The operation's name, as far as a request tells it without its service's model."""
    if "HTTP_X_AMZ_TARGET" in environ:
        return str(environ["HTTP_X_AMZ_TARGET"]).rpartition(".")[2]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return dict(parse_qsl(body.decode())).get("Action", "")
    return f"{environ['REQUEST_METHOD']} object"


def _simulated(form: Mapping[str, str]) -> bool:
    action = form.get("Action", "")
    if action in ("CreateTags", "DeleteTags"):
        return form.get("ResourceId.1", "").startswith(_SIMULATED_IDS)
    return action in ACTIONS or bool(_SIMULATED.search(action))


def _written(action: str, answer: Mapping[str, Any]) -> Response:
    return Response(ec2_wire.serialize(action, answer), content_type=ec2_wire.CONTENT_TYPE)


def _refusal(environ: Environ, error: ApiError) -> Response:
    if "HTTP_X_AMZ_TARGET" in environ:
        document = json.dumps({"__type": error.code, "message": error.message})
        return Response(document, error.status, content_type=environ["CONTENT_TYPE"])
    return Response(ec2_wire.serialize_error(error), error.status, content_type=ec2_wire.CONTENT_TYPE)


class _Handler(WSGIRequestHandler):
    """Keeps connections alive: 100 agents that poll would otherwise open 60 a second."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: polls would drown everything else."""


# ---- as a process


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT. The first line on stdout is the URL."""
    options = _parser().parse_args(arguments)
    timing = Timing(boot_seconds=options.boot_seconds, shutdown_seconds=options.shutdown_seconds)
    machines = _docker(options.state) if options.machines == "docker" else lambda _: NoMachines()
    server = AwsServer(machines, port=options.port, region=options.region, timing=timing, image=options.image)
    stopping = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopping.set())
    server.start()
    print(server.url, flush=True)
    threading.Thread(target=server.warm, name="warm-moto", daemon=True).start()
    stopping.wait()
    server.stop()


def _docker(state: Path) -> Callable[[str], Machines]:
    from spotjob.local.instances import DockerMachines

    state.mkdir(parents=True, exist_ok=True)
    return lambda url: DockerMachines(state, url)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spotjob.local.aws_server", description="An AWS account on loopback.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free port")
    parser.add_argument("--state", type=Path, required=True, help="folder of the machines' files")
    parser.add_argument("--region", default="us-east-1")
    parser.add_argument("--boot-seconds", type=float, default=2.0, help="pending to running")
    parser.add_argument("--shutdown-seconds", type=float, default=1.0, help="shutting-down to terminated, at least")
    parser.add_argument("--machines", choices=("docker", "none"), default="docker", help="what plays the hardware")
    parser.add_argument("--image", default=defaults.IMAGE, help="of the task definitions that are there from the start")
    return parser


if __name__ == "__main__":
    main()

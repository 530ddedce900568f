"""One boto3 session, and clients that are made once per region.

AWS_ENDPOINT_URL, credentials from IRSA, Pod Identity or a profile: all of that is boto3's own, and nothing here
overrides it. What is set is what boto3 changes between versions or has wrong for us: retries, timeouts, the number
of connections, and AWS_REGION, which every other SDK reads and boto3 does not.
"""

from __future__ import annotations

import os
from functools import partial
from threading import Lock
from typing import Any

import boto3
from botocore.config import Config

from spotjob import __version__
from spotjob.aws.calls import Calls
from spotjob.aws.ec2 import BotoEc2
from spotjob.core.ports import Clock, Ec2

THREADS = 8
"""Calls of one client at the same time; as many connections are kept."""
CREATE_FLEET_SECONDS = 90
"""CreateFleet answers within a second as a rule, and within a minute now and then."""


class Session:
    """Makes clients. A boto3 session is not thread-safe while it makes one; the clients are."""

    def __init__(self) -> None:
        self._session: Any = boto3.Session(region_name=os.environ.get("AWS_REGION"))
        self._lock = Lock()

    @property
    def region(self) -> str:
        """That of the environment; empty when nothing names one."""
        return self._session.region_name or ""

    def client(self, service: str, region: str, attempts: int, read_seconds: float = 60) -> Any:
        """A client that tries `attempts` times in all. An empty region means that of the environment."""
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=5,
            read_timeout=read_seconds,
            max_pool_connections=THREADS,
            tcp_keepalive=True,
            user_agent_extra=f"spotjob/{__version__}",
        )
        with self._lock:
            return self._session.client(service, region_name=region or None, config=config)


class BotoAws:
    """The port Aws on boto3: one BotoEc2 per region, made when it is first asked for."""

    def __init__(self, session: Session, clock: Clock) -> None:
        self._session, self._clock = session, clock
        self._regions: dict[str, BotoEc2] = {}
        self._open: list[Calls] = []

    def ec2(self, region: str) -> Ec2:
        if region not in self._regions:
            # A launch is repeated by the launcher, which knows what it has asked for; a look is repeated by botocore.
            launches = self._calls("ec2", region, attempts=1, read_seconds=CREATE_FLEET_SECONDS)
            looks, ssm = self._calls("ec2", region, attempts=3), self._calls("ssm", region, attempts=3)
            self._regions[region] = BotoEc2(region, launches, looks, ssm, self._clock)
        return self._regions[region]

    def close(self) -> None:
        """Wait for the calls that are under way, and close every connection."""
        self._regions.clear()
        while self._open:
            self._open.pop().close()

    def _calls(self, service: str, region: str, attempts: int, read_seconds: float = 60) -> Calls:
        make_client = partial(self._session.client, service, region, attempts, read_seconds)
        self._open.append(Calls(make_client, THREADS, f"{service}-{region}"))
        return self._open[-1]


def make_aws(clock: Clock) -> BotoAws:
    """EC2 in every region, with the credentials and the endpoint of the environment."""
    return BotoAws(Session(), clock)

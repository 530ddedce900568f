"""The metadata service of one instance, version 2 only: a token from PUT, then GET with the token.

Paths and answers: aws-facts section 4 (EC2 User Guide, instancedata-data-retrieval) and 3.1 for interruptions.
Tokens are stateless: an expiry and a keyed hash over instance and expiry.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from spotjob.core.states import InstanceState
from spotjob.local.ec2.records import Ec2Instance

_MAX_TTL_SECONDS = 21600
_GONE = (InstanceState.TERMINATED, InstanceState.STOPPED)

Answer = tuple[int, bytes]
"""HTTP status and body."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to the metadata service; `path` is what follows /latest/."""

    method: str
    path: str
    token: str = ""
    """X-aws-ec2-metadata-token."""
    ttl: str = ""
    """X-aws-ec2-metadata-token-ttl-seconds."""
    forwarded: bool = False
    """There is an X-Forwarded-For header: the request came through a proxy."""


class MetadataService:
    """The metadata services of all instances of a region."""

    def __init__(self, region: str, secret: bytes) -> None:
        self._region, self._secret = region, secret

    def answer(self, instance: Ec2Instance, ask: Ask, now: datetime) -> Answer:
        """400 bad TTL, 401 no valid token, 403 through a proxy, 404 no such item, 405 wrong method."""
        if instance.state in _GONE:
            return 404, b""
        if ask.path == "api/token":
            return self._new_token(instance, ask, now)
        if ask.method not in ("GET", "HEAD"):
            return 405, b""
        if not self._valid(instance, ask.token, now):
            return 401, b""
        return self._item(instance, ask.path, now)

    def _new_token(self, instance: Ec2Instance, ask: Ask, now: datetime) -> Answer:
        if ask.method != "PUT":
            return 405, b""
        if ask.forwarded:
            return 403, b""
        if not ask.ttl.isdecimal() or not 1 <= int(ask.ttl) <= _MAX_TTL_SECONDS:
            return 400, b""
        expiry = str(int(now.timestamp()) + int(ask.ttl))
        return 200, f"{expiry}.{self._sign(instance, expiry)}".encode()

    def _sign(self, instance: Ec2Instance, expiry: str) -> str:
        return hmac.new(self._secret, f"{instance.id} {expiry}".encode(), hashlib.sha256).hexdigest()

    def _valid(self, instance: Ec2Instance, token: str, now: datetime) -> bool:
        expiry, _, signature = token.partition(".")
        genuine = hmac.compare_digest(signature.encode(), self._sign(instance, expiry).encode())
        return genuine and now.timestamp() < int(expiry)

    def _item(self, instance: Ec2Instance, path: str, now: datetime) -> Answer:
        if path == "user-data":
            data = base64.b64decode(instance.data.get("UserData", ""))
            return (200, data) if data else (404, b"")
        kind, _, item = path.partition("/")
        text = self._metadata(instance, item, now) if kind == "meta-data" else None
        return (404, b"") if text is None else (200, text.encode())

    def _metadata(self, instance: Ec2Instance, item: str, now: datetime) -> str | None:
        if item == "placement/region":
            return self._region
        if item.startswith("iam/"):
            return _iam(instance, item.removeprefix("iam/"), now)
        return _ITEMS[item](instance) if item in _ITEMS else None


def _instance_action(instance: Ec2Instance) -> str | None:
    if instance.reclaim_at is None:
        return None
    return json.dumps({"action": "terminate", "time": _iso(instance.reclaim_at)})


def _rebalance(instance: Ec2Instance) -> str | None:
    return None if instance.rebalance_at is None else json.dumps({"noticeTime": _iso(instance.rebalance_at)})


_ITEMS: Mapping[str, Callable[[Ec2Instance], str | None]] = {
    "instance-id": lambda i: i.id,
    "instance-type": lambda i: i.pool.instance_type,
    "instance-life-cycle": lambda i: str(i.pool.capacity_type),
    "ami-id": lambda i: i.data.get("ImageId"),
    "placement/availability-zone": lambda i: i.pool.availability_zone,
    "spot/instance-action": _instance_action,
    "events/recommendations/rebalance": _rebalance,
}


def _iam(instance: Ec2Instance, name: str, now: datetime) -> str | None:
    """The role has the name of the instance profile; its credentials are made up, and checked by nobody."""
    role = instance.instance_profile
    if role and name.rstrip("/") == "security-credentials":
        return role
    if role and name == f"security-credentials/{role}":
        return json.dumps(_credentials(instance, now))
    return None


def _credentials(instance: Ec2Instance, now: datetime) -> dict[str, Any]:
    return {
        "Code": "Success",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIASIMULATED",
        "SecretAccessKey": "simulated",
        "Token": instance.id,
        "LastUpdated": _iso(now),
        "Expiration": _iso(now + timedelta(hours=6)),
    }


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")

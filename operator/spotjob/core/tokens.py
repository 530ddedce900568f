"""Tokens that instances, agents and containers carry: claims that the API signed itself, checked without a store.

    v1.<key id>.<base64url of the claims as JSON>.<base64url of HMAC-SHA256 over all that stands before>

Every key of the keyring verifies; the one with the greatest id signs, so a key is rotated by adding one with a
greater id and removing the old one when no live attempt carries its tokens. A token does not expire by itself: it is
good for one attempt, and whether that attempt is the current one is asked of the job each time.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError

from spotjob.core.wire import Wire

Keyring = Mapping[str, bytes]
"""Key id -> key of at least KEY_BYTES bytes. Never empty."""

KEY_BYTES = 32
KEY_ID_PATTERN = r"[A-Za-z0-9_-]{1,64}"

TOKEN_LENGTH = 4096
"""A longer text is no token, whatever it says."""

Kind = Literal["launch", "agent", "container"]
_Text = Annotated[str, Field(max_length=253)]


class TokenError(Exception):
    """The text is no token of ours, or not of the wanted kind. Never says more than the caller may know."""


class Claims(Wire):
    """What a token says. A launch token names only the cluster, in `uid`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Kind
    uid: Annotated[str, Field(min_length=1, max_length=64)]
    """The job's uid; of a launch token, the uid of namespace kube-system."""
    namespace: _Text = ""
    name: _Text = ""
    attempt: Annotated[int, Field(ge=0)] = 0
    instance: _Text = ""


def launch_token(keyring: Keyring, cluster_uid: str) -> str:
    """What user data carries in identity mode `token`: good for any instance of this cluster."""
    return sign(keyring, Claims(kind="launch", uid=cluster_uid))


def sign(keyring: Keyring, claims: Claims) -> str:
    """The token that says `claims`, signed with the greatest key. The same claims give the same text."""
    key_id = max(keyring)
    body = _base64(claims.model_dump_json(by_alias=True, exclude_defaults=True).encode())
    signed = f"v1.{key_id}.{body}"
    return f"{signed}.{_signature(keyring[key_id], signed)}"


def verify(keyring: Keyring, text: str, kind: Kind) -> Claims:
    """The claims of a token of this kind. Raises TokenError for everything else, in constant time per key."""
    signed, _, signature = text.rpartition(".")
    version, key_id, body = _parts(signed)
    key = keyring.get(key_id)
    if version != "v1" or key is None or len(text) > TOKEN_LENGTH:
        raise TokenError("not a token of this cluster")
    if not hmac.compare_digest(signature.encode(errors="replace"), _signature(key, signed).encode()):
        raise TokenError("not a token of this cluster")
    claims = _claims(body)
    if claims.kind != kind:
        raise TokenError(f"a token of kind {claims.kind} does not serve here")
    return claims


def _parts(signed: str) -> tuple[str, str, str]:
    version, _, rest = signed.partition(".")
    key_id, _, body = rest.partition(".")
    return version, key_id, body


def _claims(body: str) -> Claims:
    """Read only after the signature held, so an error here is a token of another version of this program."""
    try:
        return Claims.model_validate_json(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValidationError, ValueError) as error:
        raise TokenError("the token's claims cannot be read") from error


def _signature(key: bytes, signed: str) -> str:
    return _base64(hmac.digest(key, signed.encode(errors="replace"), hashlib.sha256))


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

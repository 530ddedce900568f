"""Guards identity mode `token`: anyone who can read one instance's user data could claim another's job with it.

On the laptop platform that is everybody's own machine. On real EC2 it is not, so the operator and the API call
`identity_problem` before they start, and do not start when it answers.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL")
"""In the order of the AWS SDKs: the service's own variable wins."""


def identity_problem(mode: str, environ: Mapping[str, str]) -> str | None:
    """Why this identity mode must not be used with this EC2 endpoint; None when it may. Pure."""
    if mode != "token":
        return None
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return _refusal("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS is set, so EC2 is the real one")
    endpoint = next((environ[name] for name in ENDPOINT_VARIABLES if environ.get(name)), "")
    if not endpoint:
        return _refusal("neither AWS_ENDPOINT_URL_EC2 nor AWS_ENDPOINT_URL is set, so EC2 is the real one")
    if not _loopback(endpoint):
        return _refusal(f"the EC2 endpoint {_host(endpoint)!r} is not a loopback address")
    return None


def _refusal(cause: str) -> str:
    return (
        f"SPOTJOB_INSTANCE_IDENTITY=token works only with a simulated EC2 on this machine, and {cause}. "
        "Proof of identity for real instances is not part of this version."
    )


def _loopback(url: str) -> bool:
    host = _host(url)
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host(url: str) -> str:
    """The host name alone: a URL may carry a password, which must not reach a message."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""

"""What the local platform puts into its cluster: the kinds, the rights, the kubeconfigs, the default class."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from spotjob.core.resources import DEFAULT_CLASS_ANNOTATION
from spotjob.core.wire import API_VERSION
from spotjob.local import account, kubeconfig, probes
from spotjob.local.errors import LocalError
from spotjob.local.layout import API, OPERATOR, REGION, Layout

NAMESPACE = "spotjob-system"
_TOKEN_HOURS = 30 * 24
_SERVED_SECONDS = 60
_KEY_ID = "local"


class NoRepository(LocalError):
    """The manifests are not beside the sources."""


def repository() -> Path:
    """The clone that this code runs from; crds/, deploy/ and examples/ are in it. Raises NoRepository."""
    root = Path(__file__).parents[3]
    if not (root / "deploy").is_dir():
        raise NoRepository(f"{root} has no deploy/: run the local platform from a clone (pip install -e '.[local]')")
    return root


def apply_manifests(layout: Layout) -> None:
    """Kinds, namespace, rights and accounts, exactly as deploy/ gives them to a real cluster.

    The Deployment comes along and must stay without pods: operator and API run as processes here.
    """
    folder = repository() / "deploy" / ("base" if layout.rights == "base" else "overlays/split")
    apply = ("apply", "--server-side", "--force-conflicts", "-o", "name")
    applied = layout.cluster.kubectl(*apply, "-k", str(folder)).stdout.split()
    if not layout.own_control_plane:
        layout.cluster.kubectl("scale", "deployment", "--all", "--replicas=0", "-n", NAMESPACE)
    kinds = [name.partition("/")[2] for name in applied if name.startswith("customresourcedefinition")]
    # A kind that is Established may not be found for a moment more.
    get = ("get", ",".join(kinds), "-n", NAMESPACE)
    with suppress(probes.NotReady):
        probes.wait_until(
            lambda: layout.cluster.kubectl(*get, check=False).returncode == 0, _SERVED_SECONDS, "the kinds to be served"
        )
    layout.cluster.kubectl(*get)  # raises with the API server's own words


def write_account_kubeconfigs(layout: Layout) -> None:
    """Operator and API act as their ServiceAccounts, so that a right that deploy/ lacks is missed here too."""
    for part in (OPERATOR, API):
        layout.cluster.service_account_kubeconfig(
            NAMESPACE, layout.account(part), layout.account_kubeconfig(part), hours=_TOKEN_HOURS
        )


def make_token_key(folder: Path) -> None:
    """One HMAC key; it is kept for as long as the platform lives, since running instances hold its tokens."""
    if not (folder / _KEY_ID).exists():
        kubeconfig.write_private(folder / _KEY_ID, secrets.token_hex(32))


def apply_default_class(layout: Layout) -> None:
    """The SpotJobClass of every job that names none, in the simulated account's default network."""
    manifest = default_class(account.network(layout.aws_url), layout.api_url)
    layout.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=json.dumps(manifest))


def default_class(network: Mapping[str, Any], api_url: str) -> dict[str, Any]:
    """The manifest; `network` is {"subnets": [{"id", "availabilityZone"}], "securityGroup": "sg-..."}."""
    return {
        "apiVersion": API_VERSION,
        "kind": "SpotJobClass",
        "metadata": {"name": "default", "annotations": {DEFAULT_CLASS_ANNOTATION: "true"}},
        "spec": {
            "region": REGION,
            "subnets": {"ids": [subnet["id"] for subnet in network["subnets"]]},
            "securityGroups": [network["securityGroup"]],
            # A few families: describing every type of a region takes boto3 seconds.
            "instanceTypes": {"allow": ["c7i.*", "m7i.*", "m7a.*"]},
            "apiURL": api_url,
        },
    }

"""How each part of the local platform is started: its command line and its environment. Pure."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import spotjob
from spotjob.local.eventbus import QUEUE
from spotjob.local.layout import API, AWS, OPERATOR, REGION, REGISTRY, Layout

_SOURCES = Path(spotjob.__file__).parents[1]
_INHERITED_NOT = ("AWS_", "SPOTJOB_", "KUBE")
"""Variables of the user's shell that could send a part to a real account or a real cluster."""

TASK_EVENTS = "sequencer-task-events"
"""The SQS queue in which the operator looks for ends of ECS tasks. Nothing fills it here."""

_NO_PROXY = "127.0.0.1,localhost"


def command(part: str, layout: Layout) -> list[str]:
    """The whole command line of one of our own parts."""
    module = {
        REGISTRY: ["spotjob.local.registry", "--port", str(layout.ports["registry"])],
        AWS: ["spotjob.local.aws_server", *_aws_arguments(layout)],
        OPERATOR: ["spotjob", "operator"],
        API: ["spotjob", "api"],
    }[part]
    return [sys.executable, "-m", *module]


def environment(part: str, layout: Layout, inherited: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of one of our own parts: the same whoever starts it."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(_INHERITED_NOT)}
    sources = ":".join(filter(None, (str(_SOURCES), inherited.get("PYTHONPATH"))))
    own = {"PYTHONPATH": sources, "PYTHONUNBUFFERED": "1", "NO_PROXY": _NO_PROXY, "no_proxy": _NO_PROXY}
    if part in (OPERATOR, API):
        own |= aws_environment(layout) | _service_environment(part, layout) | layout.settings
    return kept | own


def aws_environment(layout: Layout) -> dict[str, str]:
    """What sends an AWS client to the simulator. The keys are made up: it checks no signature."""
    return {
        "AWS_ENDPOINT_URL": layout.aws_url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
    }


def _service_environment(part: str, layout: Layout) -> dict[str, str]:
    return {
        "KUBECONFIG": str(layout.account_kubeconfig(part)),
        # The credentials above are all that there is: no profile of the user, no metadata service.
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
        "SPOTJOB_CLUSTER_NAME": "local",
        "SPOTJOB_TOKEN_KEY_DIR": str(layout.key_folder),
        "SPOTJOB_MIRROR_CREATE_TABLE": "true",
        "SPOTJOB_POLL_SECONDS": "1",
        "SPOTJOB_INTERRUPTION_QUEUE": QUEUE,
        "SPOTJOB_TASK_EVENTS_QUEUE": TASK_EVENTS,
        # There is one operator here, and it is always the same one: a restarted one need not wait for its own lease.
        "SPOTJOB_IDENTITY": "local",
        "SPOTJOB_METRICS_PORT": str(layout.ports["metrics"]),
        "SPOTJOB_API_HOST": "127.0.0.1",
        "SPOTJOB_API_PORT": str(layout.ports["api"]),
    }


def _aws_arguments(layout: Layout) -> list[str]:
    arguments = [
        f"--port={layout.ports['aws']}",
        f"--state={layout.folder / 'aws'}",
        f"--region={REGION}",
        f"--image={layout.test_image}",
    ]
    return arguments if layout.boot_seconds is None else [*arguments, f"--boot-seconds={layout.boot_seconds:g}"]

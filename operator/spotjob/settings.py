"""Every setting of the operator and the API, from the environment with the prefix SPOTJOB_."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """One frozen object, made once at start. `SPOTJOB_POLL_SECONDS=5` sets `poll_seconds`."""

    model_config = SettingsConfigDict(env_prefix="SPOTJOB_", frozen=True, extra="ignore", use_attribute_docstrings=True)

    cluster_name: str = Field(default="default", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Tag spotjob.cluster on everything that is launched; IAM policies scope on it."""
    identity: str = ""
    """Holder name in the Lease; empty means host name and process id."""
    log_format: Literal["text", "json"] = "text"
    """How log lines look."""

    poll_seconds: float = Field(default=15, gt=0, le=300)
    """Seconds between two DescribeInstances of the whole cluster."""
    interruption_queue: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,80}$")
    """Name of the SQS queue, in every region that a class names, that EventBridge fills with EC2's events; empty:
    none. deploy/aws/interruptions.yaml creates it."""
    batch_idle_seconds: float = Field(default=0.25, gt=0, le=10)
    """A launch waits this long for company after the last job of its shape came."""
    batch_max_seconds: float = Field(default=1.0, gt=0, le=60)
    """A launch waits at most this long."""
    launch_window_seconds: int = Field(default=300, ge=120, le=3600)
    """W: instances are bound below W - 60 s of age, power themselves off unclaimed at W, are reaped above W + 60 s."""
    lease_seconds: float = Field(default=15, ge=3, le=120)
    """How long a leader that went silent is waited for."""
    sequence_poll_seconds: float = Field(default=5, gt=0, le=300)
    """Seconds between two looks at the ECS tasks of a JobSequence's step."""
    task_events_queue: str = Field(default="", pattern=r"^[A-Za-z0-9_-]{0,80}$")
    """Name of the SQS queue, in every region in which a JobSequence runs tasks, with the ends of ECS tasks: after a
    long absence the operator finds there what ECS has forgotten; empty: none. deploy/aws/task-events.yaml makes it."""
    workers: int = Field(default=32, ge=1, le=256)
    """Jobs that are reconciled at the same time."""

    mirror_table: str = "Jobs"
    """DynamoDB table that every job is mirrored into; empty switches the mirror off."""
    mirror_region: str = ""
    """Region of the table; empty means the AWS default region."""
    mirror_create_table: bool = False
    """Create the table when it is missing."""
    mirror_ttl_days: int = Field(default=90, ge=1, le=3650)
    """Items of finished jobs expire after this many days."""
    mirror_patience_seconds: float = Field(default=300, ge=0, le=3600)
    """How long a finished job waits for the mirror before its finalizer goes anyway."""

    token_key_dir: Path = Path("/etc/spotjob/keys")
    """One file per HMAC key, named by key id, at least 32 bytes each. The last name signs, all of them verify."""
    instance_identity: Literal["token"] = "token"
    """How an instance proves who it is. token: a launch token in user data, for a loopback EC2 endpoint only."""

    api_host: str = "0.0.0.0"  # noqa: S104 -- a container listens for its Service
    """Address the API listens on."""
    api_port: int = Field(default=8080, ge=0, le=65535)
    """Port the API listens on."""
    api_tls_cert: Path | None = None
    """PEM certificate chain; absent means plain HTTP."""
    api_tls_key: Path | None = None
    """PEM key of api_tls_cert."""
    api_url: str = ""
    """The URL that containers call back; empty means the class's apiURL."""
    token_audiences: tuple[str, ...] = ()
    """Audiences that people's bearer tokens must be for; empty means the API server's own."""

    metrics_port: int = Field(default=9090, ge=0, le=65535)
    """Port of the operator's /metrics and /healthz; 0 switches it off."""

"""User data: what cloud-init runs as root, once, at an instance's first boot. Pure: same arguments, same text.

Order matters. The kill timer comes first and needs nothing that follows: no network, no docker, no credentials. It is
a unit on the disk with an absolute date, because a transient timer (`systemd-run --on-active`) is gone after a reboot.
From then on the worst that can happen to this instance is that it idles until the window closes. Then come the agent
and its unit, which the script enables and starts without waiting: docker.service may itself be ordered after
cloud-init, and a wait here would be a deadlock.

Every path begins with `$SPOTJOB_ROOT`, which is empty on an instance. So the simulator's instances run this very
script with bash, on a disk that is a folder, and only `systemctl` and `dnf` are played (local/instances.py): what is
tested is what is sent.

User data can be read by every process of the instance, so a launch token in it is for loopback endpoints only.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import tokenize
from itertools import pairwise

MAX_BYTES = 16_384
"""EC2's limit, before the base64 of the launch template."""

# No blank, quote, backslash or dollar: safe without quoting in a shell's here-document and in systemd's files.
_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!&()*+,;=%-]+")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]*")
_PEM = re.compile(r"-----(BEGIN|END) CERTIFICATE-----|[A-Za-z0-9+/=]+")

_SCRIPT = r"""#!/bin/bash
# SpotJob: how one instance begins.
set -Eeuo pipefail
root="${SPOTJOB_ROOT:-}"
units="$root/etc/systemd/system"
trap 'echo "SPOTJOB-BOOTSTRAP failed in line $LINENO"; systemctl poweroff' ERR
mkdir -p "$units" "$root/etc/spotjob" "$root/opt/spotjob"

# The kill timer, before anything that could fail.
cat >"$units/spotjob-deadline.service" <<'EOF'
[Service]
Type=oneshot
ExecStart=/usr/bin/systemctl poweroff --force
EOF
cat >"$units/spotjob-deadline.timer" <<EOF
[Timer]
OnCalendar=$(date -u -d '+@WINDOW@ seconds' '+%F %T UTC')
Persistent=true
AccuracySec=1s
[Install]
WantedBy=timers.target
EOF
systemctl daemon-reload
systemctl enable --now spotjob-deadline.timer

base64 -d <<'EOF' | gzip -d >"$root/opt/spotjob/agent.py"
@AGENT@
EOF
install -m 600 /dev/null "$root/etc/spotjob/agent.env"
cat >"$root/etc/spotjob/agent.env" <<EOF
@ENVIRONMENT@
EOF
@CA@cat >"$units/spotjob-agent.service" <<EOF
[Unit]
Description=SpotJob agent
After=docker.service network-online.target
Wants=docker.service network-online.target
StartLimitIntervalSec=0
[Service]
EnvironmentFile=$root/etc/spotjob/agent.env
ExecStart=/usr/bin/python3 -IS $root/opt/spotjob/agent.py
Restart=always
RestartSec=2
OOMScoreAdjust=-900
[Install]
WantedBy=multi-user.target
EOF

# An image made for ECS would look for a cluster.
systemctl disable --now --no-block ecs.service 2>/dev/null || true
command -v docker >/dev/null || dnf install -y docker
# A Docker daemon that is restarted leaves its container running: an exit code is then the program's own.
mkdir -p "$root/etc/docker"
[ -e "$root/etc/docker/daemon.json" ] || echo '{"live-restore": true}' >"$root/etc/docker/daemon.json"
systemctl daemon-reload
systemctl try-reload-or-restart --no-block docker.service
systemctl enable docker.service spotjob-agent.service
systemctl start --no-block docker.service spotjob-agent.service
"""

_CA = r"""cat >"$root/etc/spotjob/ca.pem" <<'EOF'
@PEM@
EOF
"""


def render(
    agent_source: str, api_url: str, window_seconds: int, launch_token: str = "", ca_bundle: str | None = None
) -> str:
    """The user data of every instance that may serve any job of one class.

    `window_seconds`: an instance that nobody binds powers itself off after this. `ca_bundle`: PEM certificates that
    the agent trusts for `api_url` in place of the system's. Raises ValueError for a text that cannot stand where it
    would go, and when the whole is larger than MAX_BYTES.
    """
    environment = [
        f"SPOTJOB_API_URL={_checked('apiURL', _URL, api_url)}",
        f"SPOTJOB_LAUNCH_TOKEN={_checked('the launch token', _TOKEN, launch_token)}",
        f"SPOTJOB_WINDOW_SECONDS={window_seconds:d}",
        *(["SSL_CERT_FILE=$root/etc/spotjob/ca.pem"] if ca_bundle else []),
    ]
    parts = {
        "@AGENT@": _packed(agent_source),
        "@CA@": _CA.replace("@PEM@", _certificates(ca_bundle)) if ca_bundle else "",
        "@ENVIRONMENT@": "\n".join(environment),
        "@WINDOW@": f"{window_seconds:d}",
    }
    # In one pass, so that no part is looked through for the others' marks.
    return _fitting(re.sub("|".join(parts), lambda found: parts[found[0]], _SCRIPT), len(parts["@CA@"]))


def _checked(what: str, pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError(f"{what} does not look like one, or has characters that user data cannot carry")
    return text


def _certificates(bundle: str) -> str:
    lines = [line.strip() for line in bundle.splitlines() if line.strip()]
    if not all(_PEM.fullmatch(line) for line in lines):
        raise ValueError("caBundle may hold PEM certificates only, without text between them")
    return "\n".join(lines)


def _packed(source: str) -> str:
    """gzip with no date in it, as base64 in lines."""
    text = base64.b64encode(gzip.compress(_bare(source).encode(), 9, mtime=0)).decode()
    return "\n".join(text[at : at + 160] for at in range(0, len(text), 160))


def _bare(source: str) -> str:
    """The same program without comments and docstrings. Each statement keeps its line, as tracebacks name it."""
    lines = source.splitlines()
    first, *others = tokenize.generate_tokens(io.StringIO(source).readline)
    docstrings = [first, *(token for before, token in pairwise((first, *others)) if before.type == tokenize.INDENT)]
    for token in reversed((first, *others)):
        (row, column), (last, _) = token.start, token.end
        if token.type == tokenize.COMMENT:
            lines[row - 1] = lines[row - 1][:column].rstrip()
        elif token.type == tokenize.STRING and token in docstrings:
            lines[row - 1 : last] = [lines[row - 1][:column] + '""', *[""] * (last - row)]
    return "\n".join(lines) + "\n"


def _fitting(text: str, certificates: int) -> str:
    size = len(text.encode())
    if size > MAX_BYTES:
        raise ValueError(f"user data has {size} bytes, {certificates} of them caBundle, and EC2 takes {MAX_BYTES}")
    return text

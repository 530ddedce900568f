#!/bin/bash
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
OnCalendar=$(date -u -d '+300 seconds' '+%F %T UTC')
Persistent=true
AccuracySec=1s
[Install]
WantedBy=timers.target
EOF
systemctl daemon-reload
systemctl enable --now spotjob-deadline.timer

base64 -d <<'EOF' | gzip -d >"$root/opt/spotjob/agent.py"
print("the agent")

EOF
install -m 600 /dev/null "$root/etc/spotjob/agent.env"
cat >"$root/etc/spotjob/agent.env" <<EOF
SPOTJOB_API_URL=https://api.example.com:8443
SPOTJOB_LAUNCH_TOKEN=token-1
SPOTJOB_WINDOW_SECONDS=300
SSL_CERT_FILE=$root/etc/spotjob/ca.pem
EOF
cat >"$root/etc/spotjob/ca.pem" <<'EOF'
-----BEGIN CERTIFICATE-----
TUlJQg==
-----END CERTIFICATE-----
EOF
cat >"$units/spotjob-agent.service" <<EOF
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

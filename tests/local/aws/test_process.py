"""The AWS server as a process."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import threading
import urllib.parse
from pathlib import Path

import spotjob


def test_the_process_says_where_it_serves_and_ends_on_sigterm(tmp_path: Path) -> None:
    sources = str(Path(spotjob.__file__).parents[1])
    arguments = ["--state", str(tmp_path), "--machines", "none"]
    process = subprocess.Popen(
        [sys.executable, "-m", "spotjob.local.aws_server", *arguments],
        env=os.environ | {"PYTHONPATH": sources},
        stdout=subprocess.PIPE,
        text=True,
    )
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    try:
        with process:
            assert process.stdout is not None
            port = urllib.parse.urlsplit(process.stdout.readline().strip()).port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/_spotjob/ready")
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0
    finally:
        watchdog.cancel()
        process.kill()

"""The command line, whose writes of its record's file are held: each is told before it is made, and once it is.

    python -m tests.crash.held_records PORT ARGUMENTS...

Nobody outside sees the write of a file coming, as a proxy does a call. So it is the harness that asks here: the file is
replaced once the server on PORT says so, and what comes after that waits for it again (see record_gate.py).
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from spotjob.sequencer import cli

Replace = Callable[[str, Path], None]


def held(port: int, replace: Replace) -> Replace:
    def replace_when_told(source: str, target: Path) -> None:
        record = json.loads(Path(source).read_text())["run"]
        with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rw") as harness:
            _ask(harness, json.dumps(record))
            replace(source, target)
            _ask(harness, "written")

    return replace_when_told


def _ask(harness: TextIO, text: str) -> None:
    print(text, file=harness, flush=True)
    if not harness.readline():
        raise ConnectionError("the harness has let this process die, and it lives")


if __name__ == "__main__":
    setattr(os, "replace", held(int(sys.argv.pop(1)), os.replace))  # noqa: B010 -- its type takes more than is used
    cli.main()

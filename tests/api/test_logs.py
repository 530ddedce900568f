from __future__ import annotations

import json
import logging
import sys

from spotjob.api.logs import JsonLines


def test_a_json_line_holds_the_record_and_its_traceback_in_one_line() -> None:
    try:
        raise ValueError("broken\nhere")
    except ValueError:
        fault = sys.exc_info()
    record = logging.LogRecord("spotjob.api", logging.ERROR, "", 0, "failed %d\ntimes", (3,), fault)
    line = JsonLines().format(record)
    entry = json.loads(line)
    assert "\n" not in line
    assert (entry["level"], entry["logger"], entry["message"]) == ("ERROR", "spotjob.api", "failed 3\ntimes")
    assert "ValueError: broken" in entry["traceback"]

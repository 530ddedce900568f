"""Play many histories: python -m tests.simulation.simulate --seeds 200 --first 1 --processes 2

Prints the histories, the faults that were injected by kind, jobs, attempts and violations; for each violation the
seed, and the command that plays it again. Ends with exit code 1 if there was a violation.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat

from tests.simulation.history import History, play
from tests.simulation.planted import PLANTED, planted

PROGRESS_SECONDS = 10.0
COMMAND = "python -m tests.simulation.simulate"


def histories(seeds: Iterable[int], processes: int = 2, bug: str | None = None) -> Iterator[History]:
    """The history of each seed, in order. They are played in processes whose sets of strings have a known order."""
    before = os.environ.get("PYTHONHASHSEED")
    os.environ["PYTHONHASHSEED"] = "0"
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"))
    try:
        yield from pool.map(_play, seeds, repeat(bug))
    finally:
        pool.shutdown(cancel_futures=True)
        if before is None:
            del os.environ["PYTHONHASHSEED"]
        else:
            os.environ["PYTHONHASHSEED"] = before


def _play(seed: int, bug: str | None = None) -> History:
    """An error of the harness itself must not pass for a history without violations, nor end the others."""
    try:
        with planted(bug):
            return play(seed)
    except Exception:
        return History(seed, 0, 0, Counter(), (f"the harness failed: {traceback.format_exc()}",), 0.0, "")


def report(played: Iterable[History], total: int, bug: str | None = None) -> int:
    """Print what came of the histories, as they come; returns how many had violations."""
    began = shown = time.monotonic()
    faults: Counter[str] = Counter()
    jobs = attempts = count = 0
    seconds = 0.0
    wrong: list[History] = []
    for history in played:
        count, jobs, attempts = count + 1, jobs + history.jobs, attempts + history.attempts
        seconds += history.seconds
        faults += history.faults
        if history.violations:
            wrong.append(history)
            print(told(history, bug), flush=True)
        if time.monotonic() - shown > PROGRESS_SECONDS:
            shown = time.monotonic()
            print(f"{count} of {total} histories, {len(wrong)} with violations", file=sys.stderr, flush=True)
    took = time.monotonic() - began
    print("faults injected:")
    for kind, times in sorted(faults.items()):
        print(f"  {kind:<24}{times:>8}")
    print(f"histories   {count} ({60 * count / took:.0f} per minute, {seconds / 3600:.0f} h of virtual time)")
    print(f"jobs        {jobs}")
    print(f"attempts    {attempts}")
    print(f"faults      {faults.total()}")
    print(f"violations  {sum(len(h.violations) for h in wrong)}")
    return len(wrong)


def told(history: History, bug: str | None = None) -> str:
    """The violations of one history, and how to see them again."""
    again = f"{COMMAND} --first {history.seed} --seeds 1" + (f" --planted {bug}" if bug else "")
    lines = [f"seed {history.seed} (digest {history.digest}), again with: {again}"]
    return "\n".join([*lines, *(f"  {violation}" for violation in history.violations)])


def main() -> int:
    parser = argparse.ArgumentParser(prog=COMMAND, description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="how many histories")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--planted", choices=sorted(PLANTED), help="with this bug planted into the product")
    given = parser.parse_args()
    seeds = range(given.first, given.first + given.seeds)
    played = histories(seeds, given.processes, given.planted)
    return 1 if report(played, given.seeds, given.planted) else 0


if __name__ == "__main__":
    sys.exit(main())

"""How long a fuzz test runs and what every case is held to: short in the tests, long by `dev.py fuzz`."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, seed, settings
from hypothesis.strategies import SearchStrategy

MINUTES = "SKYREELS_FUZZ_MINUTES"  # of each target; unset = one round of EXAMPLES
CASES = "SKYREELS_FUZZ_CASES"  # of each target, at least
SEEN = "SKYREELS_FUZZ_SEEN"  # a file that gets a line of JSON for each target; tools/trust.py reads it
EXAMPLES = 150
MOST_SECONDS, MOST_BYTES = 2.0, 500_000_000  # of one case: processor time, and memory beyond what was used before


def fuzz(case: Callable[[Any], None], cases: SearchStrategy[Any], examples: int = EXAMPLES) -> int:
    """Run cases until the budget is spent; return how many there were.

    Args:
        case: raises for what is wrong.
        cases: what to draw.
        examples: of a round.
    """
    end, before = time.monotonic() + 60 * float(os.environ.get(MINUTES, "0")), peak_bytes()
    wanted, count, longest = int(os.environ.get(CASES, "0")), 0, 0.0

    def held(drawn: Any) -> None:
        nonlocal count, longest
        begin = time.process_time()
        case(drawn)
        spent = time.process_time() - begin
        assert spent < MOST_SECONDS, f"{spent:.1f} s"
        assert peak_bytes() - before < MOST_BYTES
        count, longest = count + 1, max(longest, spent)

    for number in range(sys.maxsize):
        quiet = settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        seed(number)(quiet(given(cases)(held)))()
        if count >= wanted and time.monotonic() >= end:
            break
    tell(count, longest, peak_bytes() - before)
    return count


def tell(count: int, seconds: float, size: int) -> None:
    """Say how many cases there were and the most that one of them took: here, and in the file of SEEN."""
    print(f"{count} cases, each within {seconds:.2f} s and {size / 1e6:.0f} MB")
    if SEEN in os.environ:
        test = os.environ["PYTEST_CURRENT_TEST"].rpartition("/")[2].partition(" ")[0]
        line = {"test": test, "cases": count, "seconds": round(seconds, 2), "megabytes": round(size / 1e6)}
        with Path(os.environ[SEEN]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def peak_bytes() -> int:
    """Return the most memory that this process has had; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def state_of(folder: Path) -> dict[str, str]:
    """Return what lies in a folder: kind, size, time and digest of everything, following nothing."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = os.lstat(path)
        content = hashlib.sha256(path.read_bytes()).hexdigest() if stat.S_ISREG(status.st_mode) else ""
        found[str(path.relative_to(folder))] = f"{stat.S_IFMT(status.st_mode):o} {status.st_mtime_ns} {content}"
    return found

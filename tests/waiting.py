"""Waiting for what another process or thread does, for tests of every room."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(done: Callable[[], object], seconds: float = 60, every: float = 0.2) -> None:
    """Return once `done` says so, asked `every` so many seconds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(every)

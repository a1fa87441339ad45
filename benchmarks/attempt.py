"""What a device's memory may refuse: tried, and said in a word where it failed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from .measure import gpu_peak_extra_bytes

Made = TypeVar("Made")
OUT_OF_MEMORY = "out of memory"
FAILED = "failed"


def attempt(action: Callable[[], Made], device: str) -> tuple[Made | None, str]:
    """Do something that memory may not suffice for.

    Args:
        action: what to do.
        device: torch's name of where it happens.

    Returns:
        What it returns, and "". None and OUT_OF_MEMORY, or None and FAILED where a kernel refused (there are sizes
        that some of them have no index for); the kernel's words are printed.
    """
    try:
        return action(), ""
    except torch.OutOfMemoryError:
        return None, OUT_OF_MEMORY
    except RuntimeError as error:
        print(f"{FAILED}: {error}", flush=True)
        return None, FAILED
    finally:  # what one contender leaves in torch's pool is no room for the next
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()


def first_call(call: Callable[[], object], device: str) -> tuple[int | None, str]:
    """Warm a call up; return the bytes of GPU memory at its peak (None elsewhere), and why it failed, "" if not."""
    if device == "cuda":
        return attempt(lambda: gpu_peak_extra_bytes(call), device)
    return None, attempt(call, device)[1]

"""How it is measured: contenders take turns, so that whatever else the machine does meets all of them alike."""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

STATUS = Path("/proc/self/status")
RESET_PEAK = Path("/proc/self/clear_refs")
RESET_PEAK_CODE = "5"  # Linux: forget the peak of resident memory
# glibc: give every large allocation back to the system as soon as it is freed
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def gpu_clock() -> float:
    """Return wall time at which all that the GPU was told to do is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def fastest_attention(device: str) -> AbstractContextManager[object]:
    """Let torch try its attention kernels in the order in which ComfyUI has it try them: on a GPU cuDNN's first."""
    if device != "cuda":
        return nullcontext()
    return sdpa_kernel(
        [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH],
        set_priority=True,
    )


# what is counted as time: on a machine that others use too, the seconds that processors worked for us stay comparable
CLOCKS: dict[str, Callable[[], float]] = {
    "wall": time.perf_counter,
    "processor": time.process_time,
    "gpu": gpu_clock,
}
PRODUCT_SIZES = {"cpu": 1536, "cuda": 8192}  # rows of a matrix product that shows what the device can do
LEAST_PRODUCT = 192  # rows of the first one that is tried
LONG_ENOUGH = 0.05  # seconds: no larger product is tried after one that took as long


def interleaved(
    calls: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Time calls turn by turn.

    Args:
        calls: what to time, by name; each has been warmed up by the caller.
        rounds: how often each gets its turn; the order turns round from round to round.
        clock: one of CLOCKS.

    Returns:
        Seconds by name, one per round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds):
        names = list(calls) if number % 2 == 0 else list(calls)[::-1]
        for name in names:
            begin = clock()
            calls[name]()
            seconds[name].append(clock() - begin)
    return seconds


def median_ratio(over: list[float], under: list[float]) -> float:
    """Return the median over the rounds of `over / under`: both sides of a quotient met the same weather."""
    return statistics.median(a / b for a, b in zip(over, under, strict=True))


def matrix_product_peak(dtype: torch.dtype, clock: Callable[[], float], device: str = "cpu") -> float:
    """Return the floating-point operations a second of a large matrix product, the best of some tries.

    The product grows until it takes LONG_ENOUGH or has the rows of PRODUCT_SIZES, so that a device that is slow in this
    dtype is known after a second too.
    """
    size = min(LEAST_PRODUCT, PRODUCT_SIZES[device])
    while True:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        product = {"product": partial(torch.mm, a, b)}
        interleaved(product, 1, clock)  # the first call of a size may choose a kernel
        seconds = interleaved(product, 1, clock)["product"]
        if size == PRODUCT_SIZES[device] or seconds[0] > LONG_ENOUGH:
            break
        size = min(2 * size, PRODUCT_SIZES[device])
    return 2 * size**3 / min(seconds + interleaved(product, 9, clock)["product"])


def gpu_peak_extra_bytes(call: Callable[[], object]) -> int:
    """Return how much GPU memory a call allocates at its peak beyond what was there before.

    torch counts its own allocations, so no fresh process is needed; what its pool holds beyond them is not counted.
    """
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def peak_extra_bytes(call: Callable[[], object]) -> int | None:
    """Return how much resident memory a call takes at its peak beyond what was there before; None where unknown.

    Ask in a fresh process with the ENVIRONMENT below: memory that an earlier call has left to the allocator hides what
    this one takes.
    """
    if not RESET_PEAK.exists():
        return None
    ctypes.CDLL(None).malloc_trim(0)
    RESET_PEAK.write_text(RESET_PEAK_CODE, "ascii")
    before = status_bytes("VmRSS")
    call()
    return status_bytes("VmHWM") - before


def status_bytes(field: str) -> int:
    """Return a memory figure of this process as Linux tells it."""
    for line in STATUS.read_text("ascii").splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)

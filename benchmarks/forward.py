"""One forward pass: the floor, ours, diffusers and ComfyUI's own Wan, case by case."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from . import peak
from .cases import DTYPES, Case, floating_point_operations, inputs
from .contenders import FLOOR, build, names, our_model
from .hosts import Host
from .measure import CLOCKS, gpu_peak_extra_bytes, interleaved, matrix_product_peak, median_ratio


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        rounds: how often each contender gets its turn.
        clock: "wall", "processor" or "gpu".
        threads: processor threads that compute.
        memory: whether to measure memory as well; on a processor each contender in a process of its own.
        compiled: whether ours takes part under torch.compile too.
    """

    rounds: int = 5
    clock: str = "wall"
    threads: int = 1
    memory: bool = True
    compiled: bool = False


@dataclass(frozen=True)
class Result:
    """What one contender did in one case.

    Attributes:
        case: the case's title.
        name: the contender.
        seconds: one figure per round; none where the device's memory did not suffice.
        of_floor: median over the rounds of the floor's time over this one's: 1 = nothing but products and attention.
        of_peak: share of the machine's own matrix product, median: its model FLOPs utilisation (MFU).
        extra_bytes: memory at the peak beyond weights and inputs; None where it was not measured.
    """

    case: str
    name: str
    seconds: list[float]
    of_floor: float | None
    of_peak: float | None
    extra_bytes: int | None

    @property
    def median(self) -> float | None:
        """The median of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None


def measure_case(case: Case, settings: Settings, host: Host | None) -> list[Result]:
    """Return one result per contender; all take turns on the same weights and inputs."""
    clock = CLOCKS[settings.clock]
    peaks = [matrix_product_peak(DTYPES[case.dtype], clock, case.device)]
    given = inputs(case)
    everyone = names(case, host, settings.compiled)
    calls: dict[str, Callable[[], object]] = {}
    extra_bytes: dict[str, int | None] = {}
    with torch.no_grad():
        model = our_model(case)
        for name in everyone:
            call = partial(build(name, case, model, host), given)
            extra_bytes[name], fits = first_call(call, case.device)
            if fits:
                calls[name] = call
        seconds = interleaved(calls, settings.rounds, clock)
    peaks.append(matrix_product_peak(DTYPES[case.dtype], clock, case.device))  # a cold machine has another speed
    if settings.memory and case.device == "cpu":
        extra_bytes = {name: peak.measured(name, case, settings.threads, host) for name in everyone}
    operations = floating_point_operations(case)
    return [
        Result(
            case.title,
            name,
            seconds[name],
            median_ratio(seconds[FLOOR], seconds[name]),
            operations / statistics.median(seconds[name]) / max(peaks),
            extra_bytes[name] if settings.memory else None,
        )
        if name in calls
        else Result(case.title, name, [], None, None, None)
        for name in everyone
    ]


def first_call(call: Callable[[], object], device: str) -> tuple[int | None, bool]:
    """Warm a call up; return the bytes of GPU memory at its peak (None on a processor), and whether memory sufficed."""
    try:
        if device == "cpu":
            call()
            return None, True
        return gpu_peak_extra_bytes(call), True
    except torch.OutOfMemoryError:
        return None, False
    finally:  # what one contender leaves in torch's pool is no room for the next
        gc.collect()
        if device != "cpu":
            torch.cuda.empty_cache()

"""One forward pass: the floor, ours, diffusers and ComfyUI's own Wan, case by case."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from . import peak
from .cases import DTYPES, Case, floating_point_operations, inputs
from .contenders import FLOOR, build, names, our_model
from .hosts import Host
from .measure import CLOCKS, interleaved, matrix_product_peak, median_ratio


@dataclass(frozen=True)
class Settings:
    """How it is measured.

    Attributes:
        rounds: how often each contender gets its turn.
        clock: "wall" or "processor".
        threads: processor threads that compute.
        memory: whether to measure memory as well, each contender in a process of its own.
    """

    rounds: int = 5
    clock: str = "wall"
    threads: int = 1
    memory: bool = True


@dataclass(frozen=True)
class Result:
    """What one contender did in one case.

    Attributes:
        case: the case's title.
        name: the contender.
        seconds: one figure per round.
        of_floor: median over the rounds of the floor's time over this one's: 1 = nothing but products and attention.
        of_peak: share of the machine's own matrix product, median.
        extra_bytes: memory at the peak beyond weights and inputs; None where it was not measured.
    """

    case: str
    name: str
    seconds: list[float]
    of_floor: float
    of_peak: float
    extra_bytes: int | None

    @property
    def median(self) -> float:
        """The median of the seconds."""
        return statistics.median(self.seconds)


def measure_case(case: Case, settings: Settings, host: Host | None) -> list[Result]:
    """Return one result per contender; all take turns on the same weights and inputs."""
    clock = CLOCKS[settings.clock]
    given = inputs(case)
    with torch.no_grad():
        model = our_model(case)
        calls: dict[str, Callable[[], object]] = {}
        for name in names(case, host):
            call = build(name, case, model, host)
            call(given)  # warm up
            calls[name] = partial(call, given)
        seconds = interleaved(calls, settings.rounds, clock)
        machine_peak = matrix_product_peak(DTYPES[case.dtype], clock)
    operations = floating_point_operations(case)
    return [
        Result(
            case.title,
            name,
            times,
            median_ratio(seconds[FLOOR], times),
            operations / statistics.median(times) / machine_peak,
            peak.measured(name, case, settings.threads, host) if settings.memory else None,
        )
        for name, times in seconds.items()
    ]

"""One forward pass: the floor, ours, diffusers and ComfyUI's own Wan, case by case."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch

from . import peak
from .attempt import attempt, first_call
from .cases import DTYPES, Case, floating_point_operations, inputs
from .contenders import COMPILED, FLOOR, build, names, our_model
from .hosts import Host
from .measure import CLOCKS, interleaved, matrix_product_peak, median_ratio


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
        seconds: one figure per round; none where it failed.
        of_floor: median over the rounds of the floor's time over this one's: 1 = nothing but products and attention;
            None where the floor failed.
        of_peak: share of the machine's own matrix product, median: its model FLOPs utilisation (MFU).
        extra_bytes: memory at the peak beyond weights and inputs; None where it was not measured.
        failure: why there are no seconds.
    """

    case: str
    name: str
    seconds: list[float]
    of_floor: float | None
    of_peak: float | None
    extra_bytes: int | None
    failure: str = ""

    @property
    def median(self) -> float | None:
        """The median of the seconds."""
        return statistics.median(self.seconds) if self.seconds else None


@dataclass
class Warm:
    """Contenders that have made their first call.

    Attributes:
        calls: what to time, by name.
        extra_bytes: GPU memory at the peak of a call, by name; None elsewhere.
        failures: why others cannot be timed, by name.
    """

    calls: dict[str, Callable[[], object]] = field(default_factory=dict)
    extra_bytes: dict[str, int | None] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


def warmed_up(case: Case, everyone: list[str], host: Host | None) -> Warm:
    """Let every contender make its first call, all on the same weights and inputs."""
    warm, device = Warm(), case.device
    model, failure = attempt(lambda: our_model(case), device)
    if model is None:
        return Warm(failures=dict.fromkeys(everyone, failure))
    given, short = inputs(case), inputs(case, frames=case.shape.block)
    for name in everyone:
        contender = build(name, case, model, host)
        if name == COMPILED:
            torch._dynamo.reset()  # what was compiled for other cases is no part of this one
        if device == "cuda":  # what libraries take once is no part of the peak; what is compiled holds for one length
            first_call(partial(contender, given if name == COMPILED else short), device)
        call = partial(contender, given)
        bytes_or_none, failure = first_call(call, device)
        if failure:
            warm.failures[name] = failure
        else:
            warm.calls[name], warm.extra_bytes[name] = call, bytes_or_none
    return warm


def measure_case(case: Case, settings: Settings, host: Host | None) -> list[Result]:
    """Return one result per contender; all take turns on the same weights and inputs."""
    clock = CLOCKS[settings.clock]
    peaks = [matrix_product_peak(DTYPES[case.dtype], clock, case.device)]
    everyone = names(case, host, settings.compiled)
    with torch.no_grad():
        warm = warmed_up(case, everyone, host)
        seconds = interleaved(warm.calls, settings.rounds, clock)
    peaks.append(matrix_product_peak(DTYPES[case.dtype], clock, case.device))  # a cold machine has another speed
    if settings.memory and case.device == "cpu":
        warm.extra_bytes = {name: peak.measured(name, case, settings.threads, host) for name in warm.calls}
    operations = floating_point_operations(case)
    return [
        Result(
            case.title,
            name,
            seconds[name],
            median_ratio(seconds[FLOOR], seconds[name]) if FLOOR in seconds else None,
            operations / statistics.median(seconds[name]) / max(peaks),
            warm.extra_bytes[name] if settings.memory else None,
        )
        if name in warm.calls
        else Result(case.title, name, [], None, None, None, warm.failures[name])
        for name in everyone
    ]

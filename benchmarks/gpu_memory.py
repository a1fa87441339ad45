"""`python dev.py bench --count-memory`: the GPU memory of whole models, counted without a GPU, and what fits in it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from .cases import FIT_SIZES, GPU_SIZES, MODES, Case, inputs, model_of
from .contenders import (
    COMFYUI,
    DIFFUSERS,
    FLOOR,
    IN_PIECES,
    OURS,
    PIECES,
    Call,
    build,
    meta_model,
    names,
    weight_bytes,
)
from .counted import counted_peak
from .fit import LONGEST, FitResult, contenders_of, longest
from .hosts import Host, host_of_environment
from .report import fit_table, write_files

RESULTS = Path(__file__).resolve().parent / "results"
NAME = "gpu-memory"
GB = 10**9
RESERVED = GB  # what CUDA, its libraries and the desktop take before anything is computed
DTYPE = "bfloat16"


@dataclass(frozen=True)
class Room:
    """A GPU's memory, and whether the weights lie in it or are brought in layer by layer.

    Attributes:
        gigabytes: all there is.
        resident: whether all weights lie there; otherwise two layers' weights: one at work and one on its way.
    """

    gigabytes: int
    resident: bool

    def words(self) -> str:
        """Return what a person reads."""
        return f"{self.gigabytes} GB, weights {'in it' if self.resident else 'in main memory'}"

    def left(self, case: Case) -> int:
        """Return the bytes that are left for the forward pass of a case."""
        weights = weight_bytes(case) if self.resident else 2 * weight_bytes(replace(case, layers=1))
        return self.gigabytes * GB - RESERVED - weights


# which memory is asked about for which model
ROOMS = {
    "1.3B": (Room(8, True), Room(12, True)),
    "14B": (Room(12, False), Room(24, False), Room(80, True)),
}


@dataclass(frozen=True)
class Counted:
    """Bytes of a forward pass at its peak beside weights and inputs, by contender."""

    case: str
    weights: int
    extra: dict[str, int]


def count_case(case: Case, host: Host | None) -> Counted:
    """Return what every contender takes in a case."""
    one = replace(case, layers=1)
    model, given = meta_model(one), inputs(one)
    calls = {name: build(name, one, model, host) for name in [*names(one, host), IN_PIECES]}
    with torch.no_grad():
        extra = {name: counted_peak(partial(call, given)) for name, call in calls.items()}
    return Counted(case.title, weight_bytes(case), extra)


def count_fit(case: Case, room: Room, host: Host | None, limit: int) -> FitResult:
    """Return the longest video that fits, every latent frame at a noise level of its own."""
    one, left, found = replace(case, layers=1), room.left(case), {}
    with torch.no_grad():
        for name, call in contenders_of(one, meta_model(one), host).items():

            def fits(frames: int, call: Call = call) -> bool:
                return counted_peak(partial(call, inputs(one, frames))) <= left

            found[name] = longest(fits, limit)
    return FitResult(f"{case.video}; {room.words()}", found, limit)


def peak_table(counted: Sequence[Counted]) -> str:
    """Return one row per case, in gigabytes."""
    columns = [FLOOR, OURS, IN_PIECES, COMFYUI, DIFFUSERS]
    lines = [f"| case | weights | {' | '.join(columns)} |", "|---" * (len(columns) + 2) + "|"]
    for one in counted:
        cells = [f"{one.extra[name] / GB:.2f}" if name in one.extra else "cannot" for name in columns]
        lines.append(f"| {one.case} | {one.weights / GB:.1f} | {' | '.join(cells)} |")
    return "\n".join(lines)


def page(counted: Sequence[Counted], fits: Sequence[FitResult], host: Host | None) -> str:
    """Return the tables as Markdown."""
    comfyui = "" if host is None else f", ComfyUI {host.version}"
    return "\n\n".join([
        "# GPU memory of a forward pass, counted",
        f"No GPU was used: torch {torch.__version__} ran every model on its meta device, where tensors have shapes and "
        "no data, and the tensors that live at the same time were added up, in steps of 512 bytes as torch's allocator "
        "has them. Attention and RMS norm count as one kernel each. Memory that kernels take for themselves is not in "
        f"the figures. Beside ours{comfyui}.",
        "## At the peak, in GB beside weights and inputs\n\nComfyUI's own has no causal attention, and diffusers' "
        f"wants whole blocks, which 31 latent frames are not.\n\n{peak_table(counted)}",
        f"## The longest video that fits, in latent frames\n\nOne noise level per latent frame, no batch. "
        f"{RESERVED / GB:.0f} GB of the memory is set aside for CUDA and its libraries; where the weights are in main "
        f"memory, two layers' weights are on the GPU. \"In {PIECES} pieces\" is what the sampler does when memory runs "
        f"out.\n\n{fit_table(list(fits))}",
    ]) + "\n"  # fmt: skip


def values(counted: Sequence[Counted], fits: Sequence[FitResult], host: Host | None) -> dict[str, Any]:
    """Return what the JSON file holds."""
    return {
        "torch": torch.__version__,
        "comfyui": "" if host is None else host.version,
        "counted": [asdict(one) for one in counted],
        "fit": [asdict(one) for one in fits],
    }


def cases_of(sizes: Sequence[str]) -> list[Case]:
    """Return the forward passes of some sizes."""
    return [Case(size, mode, DTYPE, "meta") for size in sizes for mode in MODES]


def main() -> None:
    """Count, print the tables, and write them to benchmarks/results/."""
    parser = argparse.ArgumentParser(prog="python dev.py bench --count-memory", description=__doc__)
    parser.add_argument("--sizes", nargs="+", choices=GPU_SIZES, default=list(GPU_SIZES))
    parser.add_argument("--name", default=NAME, help="name of the two files in benchmarks/results/")
    given = parser.parse_args()
    host = host_of_environment()
    counted = [count_case(case, host) for case in cases_of(given.sizes)]
    models = {model_of(size) for size in given.sizes}
    fits = [
        count_fit(Case(size, "per-frame", DTYPE, "meta"), room, host, LONGEST)
        for size in dict.fromkeys([*GPU_SIZES, *FIT_SIZES])
        for room in ROOMS[model_of(size)]
        if model_of(size) in models
    ]
    text = page(counted, fits, host)
    write_files(RESULTS, given.name, text, values(counted, fits, host))
    print(text)


if __name__ == "__main__":
    main()

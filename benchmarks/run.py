"""`python dev.py bench`: measure, print the tables, and write them to benchmarks/results/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from demo.processor import has_bfloat16

from .attempt import attempt
from .cases import CPU_SIZES, DTYPES, FIT_SIZES, GPU_SIZES, MODES, SIZES, Case
from .clip import Clip, measure_clip
from .fit import measure_fit
from .forward import Settings, measure_case
from .hosts import host_of_environment
from .machine import this_machine
from .measure import CLOCKS, fastest_attention
from .report import Report, fit_table, forward_table, page, read, write
from .rolling import Roll, measure_rolling
from .solver import measure_solver

RESULTS = Path(__file__).resolve().parent / "results"
QUICK = [Case("small", "per-frame", "float32"), Case("small", "block-causal", "float32")]
PARTS = ("forward", "memory", "fit", "clip", "rolling", "solver")


@dataclass(frozen=True)
class Kind:
    """What is measured on one kind of device where the command line does not say.

    Attributes:
        device: torch's name of it.
        clock: one of CLOCKS.
        sizes: models and videos of the forward pass.
        dtypes: of the forward pass.
        rounds: turns of each contender.
        clip_size: model and video of the clip and of the rolling video.
        clip_dtype: their dtype.
        loop_size: latents of the loop without a model.
        fit_sizes: where the longest video that fits is looked for.
    """

    device: str
    clock: str
    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    rounds: int
    clip_size: str
    clip_dtype: str
    loop_size: str
    fit_sizes: tuple[str, ...] = ()

    def fitted(self, sizes: Sequence[str] | None) -> list[str]:
        """Return where the longest video is looked for when only some sizes are asked for."""
        return [size for size in self.fit_sizes if sizes is None or size in sizes]


def processor() -> Kind:
    """Return what is measured on this processor: bfloat16 only where it has instructions for it."""
    dtypes = tuple(DTYPES) if has_bfloat16() else ("float32",)
    # nothing is fitted: a processor's own memory is no bound that anyone meets
    return Kind("cpu", "wall", tuple(CPU_SIZES), dtypes, 5, "small", "float32", "large")


GPU = Kind(
    "cuda", "gpu", tuple(GPU_SIZES), ("bfloat16",), 3, "1.3B-540P", "bfloat16", "1.3B-540P", tuple(FIT_SIZES)
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python dev.py bench", description=__doc__)
    parser.add_argument("--gpu", action="store_true", help="measure a CUDA device at the full size of the models")
    parser.add_argument("--quick", action="store_true", help="two small cases and a short clip, nothing written")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, help="sizes of model and latents")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="ways to call the model")
    parser.add_argument(
        "--layers", type=int, default=0, help="layers of a model that are computed, all alike (0: all of them)"
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        choices=DTYPES,
        help="of the weights; bfloat16 is left out by itself on a processor without instructions for it",
    )
    parser.add_argument("--rounds", type=int, help="how often each contender gets its turn (5; with --gpu 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    parser.add_argument(
        "--clock", choices=("wall", "processor"), help="processor: for a machine that others use too; not with --gpu"
    )
    parser.add_argument(
        "--compile", action="store_true", help="ours under torch.compile takes part in the forward pass"
    )
    parser.add_argument("--skip", nargs="+", choices=PARTS, default=[])
    parser.add_argument("--name", default="latest", help="name of the two files in benchmarks/results/")
    parser.add_argument("--add", action="store_true", help="add to these files what this run measures")
    return parser


def refusal(given: argparse.Namespace) -> str | None:
    """Return why the command line cannot be measured here, None where it can."""
    if given.gpu and (given.quick or given.clock):
        return "--gpu measures full models by its own clock: leave out --quick and --clock."
    if given.gpu and not torch.cuda.is_available():
        return (
            f"--gpu needs a CUDA device, and torch {torch.__version__} sees none: install a CUDA build of torch on a "
            "machine with such a GPU, or leave --gpu out to measure the processor."
        )
    return None


def cases_of(kind: Kind, given: argparse.Namespace) -> list[Case]:
    """Return the forward passes that the command line names; the kind's own sizes and dtypes where it names none."""
    return [
        Case(size, mode, dtype, kind.device, given.layers)
        for size in given.sizes or kind.sizes
        for dtype in given.dtypes or kind.dtypes
        for mode in given.modes
    ]


def measure(given: argparse.Namespace, kind: Kind) -> Report:
    """Measure what the command line asks for; what is done is written after every part."""
    host = host_of_environment()
    machine = this_machine("" if host is None else host.version, kind.device)
    print(machine.words())
    memory = not given.quick and "memory" not in given.skip
    clock_name = given.clock or kind.clock
    settings = Settings(given.rounds or kind.rounds, clock_name, given.threads, memory, given.compile)
    cases = QUICK if given.quick else cases_of(kind, given)
    clock = CLOCKS[clock_name]
    report = Report("quick" if given.quick else given.name, machine, settings)
    if given.add:
        report = read(RESULTS, report)

    def add(**measured: Any) -> Report:
        """Write what there is after every part: a run that is stopped leaves the rest behind."""
        more = replace(report, **measured)
        if not given.quick:
            write(more, RESULTS)
        return more

    clip = Clip(kind.clip_size, dtype=kind.clip_dtype, device=kind.device)
    roll = Roll(kind.clip_size, dtype=kind.clip_dtype, device=kind.device)
    if given.quick:
        clip, roll = replace(clip, steps=6, ar_step=1), replace(roll, blocks=8)
    if "solver" not in given.skip:
        size = "small" if given.quick else kind.loop_size
        report = add(solver=measure_solver(size, 30, clock, kind.device))
    if "clip" not in given.skip:
        report = add(clip=attempt(lambda: measure_clip(clip, clock), kind.device)[0])
    if "rolling" not in given.skip:
        report = add(rolling=attempt(lambda: measure_rolling(roll, clock), kind.device)[0])
    for case in cases if "forward" not in given.skip else ():
        others = [result for result in report.forward if result.case != case.title]
        report = add(forward=[*others, *measure_case(case, settings, host)])
        print(forward_table(report.forward).splitlines()[-1], flush=True)
    for size in kind.fitted(given.sizes) if "fit" not in given.skip else ():
        fit = measure_fit(Case(size, "per-frame", kind.dtypes[0], kind.device), host)
        report = add(fit=[*(other for other in report.fit if other.title != fit.title), fit])
        print(fit_table([fit]).splitlines()[-1], flush=True)
    return report


def main() -> int:
    """Run the command line and return its exit code."""
    given = parser().parse_args()
    refused = refusal(given)
    if refused:
        print(f"bench: {refused}", file=sys.stderr)
        return 2
    torch.set_num_threads(given.threads)
    kind = GPU if given.gpu else processor()
    with fastest_attention(kind.device):
        report = measure(given, kind)
    print("\n" + page(report))
    return 0


if __name__ == "__main__":
    sys.exit(main())

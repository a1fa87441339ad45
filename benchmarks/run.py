"""`python dev.py bench`: measure, print the tables, and write them to benchmarks/results/."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from .cases import DTYPES, SIZES, Case, all_cases
from .clip import Clip, measure_clip
from .forward import Settings, measure_case
from .hosts import host_of_environment
from .machine import this_machine
from .measure import CLOCKS
from .report import Report, forward_table, page, write
from .rolling import Roll, measure_rolling
from .solver import measure_solver

RESULTS = Path(__file__).resolve().parent / "results"
QUICK = [Case("small", "per-frame", "float32"), Case("small", "block-causal", "float32")]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python dev.py bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small cases and a short clip, nothing written")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="sizes of model and latents")
    parser.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES), help="a CPU without bfloat16 needs minutes for it"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often each contender gets its turn (5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="processor: for a machine that others use too")
    parser.add_argument("--skip", nargs="+", choices=("forward", "memory", "clip", "rolling", "solver"), default=[])
    parser.add_argument("--name", default="latest", help="name of the two files in benchmarks/results/")
    return parser


def chosen(sizes: list[str], dtypes: list[str]) -> list[Case]:
    """Return the cases of some sizes and dtypes."""
    return [case for case in all_cases() if case.size in sizes and case.dtype in dtypes]


def main() -> None:
    """Measure what the command line asks for."""
    given = parser().parse_args()
    torch.set_num_threads(given.threads)
    host = host_of_environment()
    machine = this_machine("" if host is None else host.version)
    print(machine.words())
    memory = not given.quick and "memory" not in given.skip
    settings = Settings(given.rounds, given.clock, given.threads, memory)
    cases = QUICK if given.quick else chosen(given.sizes, given.dtypes)
    clock = CLOCKS[given.clock]
    report = Report("quick" if given.quick else given.name, machine, settings)

    def add(**measured: Any) -> Report:
        """Write what there is after every part: a run that is stopped leaves the rest behind."""
        more = replace(report, **measured)
        if not given.quick:
            write(more, RESULTS)
        return more

    if "solver" not in given.skip:
        report = add(solver=measure_solver("small" if given.quick else "large", 30, clock))
    if "clip" not in given.skip:
        report = add(clip=measure_clip(Clip(steps=6, ar_step=1) if given.quick else Clip(), clock))
    if "rolling" not in given.skip:
        report = add(rolling=measure_rolling(Roll(blocks=8) if given.quick else Roll(), clock))
    for case in cases if "forward" not in given.skip else ():
        report = add(forward=[*report.forward, *measure_case(case, settings, host)])
        print(forward_table(report.forward).splitlines()[-1], flush=True)
    print("\n" + page(report))


if __name__ == "__main__":
    main()

"""`python -m benchmarks.against CHECKOUT`: this tree's forward pass compared with another's, such as a release.

Each tree computes the same cases in a process of its own, turn by turn, and the times are compared within a round. That
needs no more of the other tree than its `benchmarks.cases` and `benchmarks.contenders`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from .cases import CPU_SIZES, MODES, Case
from .machine import this_machine
from .measure import median_ratio
from .report import write_files

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# what each tree runs: given size, mode and threads, it prints the seconds of its calls, and what came out
CODE = """
import json, sys, time
import torch
from benchmarks.cases import Case, inputs
from benchmarks.contenders import OURS, build
torch.set_num_threads(int(sys.argv[3]))
torch.manual_seed(0)
case = Case(sys.argv[1], sys.argv[2], "float32")
call, given, seconds = build(OURS, case), inputs(case), []
with torch.inference_mode():
    for number in range(4):
        begin = time.process_time()
        made = call(given)
        seconds.append(time.process_time() - begin)
print(json.dumps({"seconds": seconds[1:], "sum": float(made.double().abs().sum())}))
"""


def one_turn(tree: Path, case: Case, threads: int) -> dict[str, Any]:
    """Let a tree compute a case; return the seconds of processor time of each call, and the sum of what it made."""
    command = [sys.executable, "-c", CODE, case.size, case.mode, str(threads)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{tree} cannot compute {case.title}:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(other: Path, case: Case, rounds: int, threads: int) -> dict[str, Any]:
    """Return medians of both trees, the median of their ratio within a round, and whether they made the same."""
    medians: dict[Path, list[float]] = {ROOT: [], other: []}
    sums: dict[Path, float] = {}
    for number in range(rounds):
        for tree in (ROOT, other)[:: 1 if number % 2 else -1]:
            turn = one_turn(tree, case, threads)
            medians[tree].append(statistics.median(turn["seconds"]))
            sums[tree] = turn["sum"]
    return {
        "case": case.title,
        "ours": statistics.median(medians[ROOT]),
        "other": statistics.median(medians[other]),
        "ratio": median_ratio(medians[ROOT], medians[other]),
        "equal": sums[ROOT] == sums[other],
    }


def revision(tree: Path) -> str:
    """Return the commit of a tree."""
    command = ["git", "log", "-1", "--format=%h of %cs"]
    return subprocess.run(command, cwd=tree, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Measure every case, and write the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("checkout", type=Path, help="the other tree")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    other, rows = given.checkout.resolve(), []
    for case in (Case(size, mode, "float32") for size in CPU_SIZES for mode in MODES):
        rows.append(compare(other, case, given.rounds, given.threads))
        print(rows[-1], flush=True)
    lines = [
        f"| {row['case']} | {row['other']:.3g} s | {row['ours']:.3g} s | {row['ratio']:.3f} | "
        f"{'yes' if row['equal'] else 'no'} |"
        for row in rows
    ]
    page = "\n".join([
        f"# Forward pass compared with {revision(other)}",
        "",
        f"{this_machine().words()} Commit {revision(ROOT)}; {given.rounds} rounds, in each both trees in turn, and of "
        f"each the median of three calls, in processor time with {given.threads} thread(s). The ratio is the median "
        "over the rounds: below 1 this tree is faster. Equal: the same result to the last bit of its sum.",
        "",
        "| case | before | now | ratio | equal |",
        "|---|---|---|---|---|",
        *lines,
        "",
    ])  # fmt: skip
    write_files(RESULTS, "against", page, {"machine": this_machine().values(), "rows": rows})


if __name__ == "__main__":
    main()

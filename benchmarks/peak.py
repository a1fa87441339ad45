"""Peak memory of one contender in one case, alone in its process: prints the bytes, or `null` where unknown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from .cases import Case, inputs
from .contenders import build
from .hosts import Host
from .measure import ENVIRONMENT, peak_extra_bytes

ROOT = Path(__file__).resolve().parents[1]


def measured(name: str, case: Case, threads: int, host: Host | None) -> int | None:
    """Return the extra bytes that a contender takes at its peak, measured in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.peak", name, case.size, case.mode, case.dtype, str(threads)]
    if host is not None:
        command += [str(host.folder), str(host.packages)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.decode("ascii").splitlines()[-1])


def main(arguments: list[str]) -> None:
    """Measure what the arguments name: contender, size, mode, dtype, threads, and the host's two folders if any."""
    name, size, mode, dtype, threads, *host = arguments
    torch.set_num_threads(int(threads))
    case = Case(size, mode, dtype)
    with torch.no_grad():
        call = build(name, case, host=Host(*map(Path, host)) if host else None)
        # a shorter video brings in the libraries, and leaves nothing that a cache could save for the whole one
        short = inputs(case, frames=case.shape.block)
        call(short)
        given = inputs(case)
        print(json.dumps(peak_extra_bytes(lambda: call(given))))


if __name__ == "__main__":
    main(sys.argv[1:])

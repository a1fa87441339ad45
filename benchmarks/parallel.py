"""A forward pass on several GPUs: the bytes that each sends, a prediction of the time, and a measurement.

    python -m benchmarks.parallel                          the table of results/parallel.md, which needs no GPU
    torchrun --nproc-per-node 4 -m benchmarks.parallel     measures the same calls on the GPUs of this machine

A prediction is the time on one GPU, shared equally, and after it the time to send what has to be sent: nothing is sent
while something is computed. The time on one GPU is that of results/h100.md, by multiplications for what it has not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from wan_core.model.layers import Layers
from wan_core.model.wan_model import WanModel
from wan_core.parallel.team import ProcessTeam
from wan_core.parallel.traffic import Call, sent_bytes

from .cases import CLUSTER_SIZES, SIZES, Case, floating_point_operations, inputs, model_of

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = RESULTS / "parallel.md"
CLIPS = {"540P": "97 frames 540P", "720P": "121 frames 720P"}
GPUS = range(2, 9)
LINKS = {"NVLink": 450e9, "200 Gb/s": 25e9}  # bytes a second one way: of an H100, and of a fast network or PCIe 4.0
MEASURED = {  # of a model: how results/h100.json names its case, and what that is
    "1.3B": ("per-frame, dim 1536 x 30 layers", Case("1.3B-540P", "per-frame", "bfloat16")),
    "14B": ("per-frame, dim 5120 x 4 of 40 layers", Case("14B-540P", "per-frame", "bfloat16", layers=4)),
}


@dataclass(frozen=True)
class Prediction:
    """One line of the table: bytes that the busiest GPU sends in a call, and how much faster the call becomes."""

    name: str
    gpus: int
    way: str
    sent: int
    speed_up: dict[str, float]


def seconds_on_one(size: str) -> float:
    """Return the time of a call on one H100: measured on 97 frames of 540P, else in proportion to its operations."""
    report = json.loads((RESULTS / "h100.json").read_text("utf-8"))
    title, case = MEASURED[model_of(size)]
    found = next(each for each in report["forward"] if each["case"].startswith(title) and "ComfyUI" in each["name"]
                 and each["name"].startswith("ours"))  # fmt: skip
    rate = floating_point_operations(case) / statistics.median(found["seconds"])
    return floating_point_operations(Case(size, "per-frame", "bfloat16")) / rate


def predictions() -> Iterator[Prediction]:
    """Yield every line of the table."""
    for name, size in CLUSTER_SIZES.items():
        alone = seconds_on_one(name)
        clip = f"{model_of(name)}, {CLIPS[name.rpartition('-')[2]]}"
        for gpus in GPUS:
            call = Call(size.config, size.tokens)
            sent = max(sent_bytes(call, rank, gpus) for rank in range(gpus))
            by_heads = size.config.num_heads % gpus == 0
            faster = {link: alone / (alone / gpus + sent / rate) for link, rate in LINKS.items()}
            yield Prediction(clip, gpus, "heads" if by_heads else "ring", sent, faster)


def page() -> str:
    """Return the page with the table."""
    lines = [
        "# A forward pass on several GPUs: bytes sent, and a prediction",
        "",
        "**A prediction, not a measurement**: no machine with several GPUs was at hand. The bytes are derived "
        "(`wan_core/parallel/traffic.py`) and counted in a test; the times are those of one H100 ([h100.md](h100.md); "
        "720P and the 40 layers of 14B in proportion to the operations), divided by the GPUs, plus the bytes over the "
        "link, with nothing sent while something is computed. bfloat16, one clip, a noise level per frame, "
        "bidirectional attention. *heads*: tokens change places with heads; *ring*: where the GPUs don't divide the "
        "heads (12 of 1.3B, 40 of 14B), keys and values go round.",
        "",
        "Made by `python -m benchmarks.parallel --write`; `torchrun --nproc-per-node N -m benchmarks.parallel` "
        "measures it.",
        "",
        "| model, clip | GPUs | way | sent by each GPU in a call | speed-up, NVLink 450 GB/s | 25 GB/s |",
        "|---|---|---|---|---|---|",
    ]
    for each in predictions():
        faster = " | ".join(f"{value:.1f}" for value in each.speed_up.values())
        lines.append(f"| {each.name} | {each.gpus} | {each.way} | {each.sent / 1e9:.2f} GB | {faster} |")
    return "\n".join(lines) + "\n"


def measured(name: str, device: torch.device, rounds: int = 3) -> list[float]:
    """Return the seconds of a call, round by round, as the slowest of all processes saw it."""
    dtype = "float32" if device.type == "cpu" else "bfloat16"
    given = inputs(Case(name, "per-frame", dtype, device=device.type))
    with torch.device(device):
        model = WanModel(SIZES[name].config, Layers(dtype=given.x.dtype, device=device)).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    model.team = ProcessTeam()
    times = []
    for number in range(rounds + 1):
        dist.barrier()
        start = moment(device)
        with torch.no_grad():
            model(given.x, given.t, given.context)
        taken = torch.tensor([moment(device) - start], device=device)
        dist.all_reduce(taken, dist.ReduceOp.MAX)
        times += [float(taken)] if number else []  # the first one warms up
    return times


def moment(device: torch.device) -> float:
    """Return the time in seconds when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(names: list[str]) -> None:
    """Measure as one of torchrun's processes, and print what all have measured."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if gpu else "gloo")
    for name in names:
        times = measured(name, device)
        if dist.get_rank() == 0:
            count = dist.get_world_size()
            print(f"{name}: {statistics.median(times):.3f} s a call on {count} (median of {len(times)})", flush=True)
    dist.destroy_process_group()


def main(arguments: list[str] | None = None) -> int:
    """Print or write the table; under torchrun, measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parallel", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write results/parallel.md")
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(CLUSTER_SIZES))
    known = parser.parse_args(arguments)
    if "LOCAL_RANK" in os.environ:
        measure(known.sizes)
        return 0
    print(page())
    if known.write:
        PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""`python -m benchmarks.step_cache_time`: whether a clip's time falls with the work that the step cache leaves out.

An async clip without guidance, of the width of the 1.3B model and two of its layers, weights random. The clips take
turns: one with all calls, and one by each preset.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import asdict, dataclass
from functools import partial

import torch

from demo.generate import Settings
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.reuse import DISTANCES
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.step_cache import StepCache

from .cases import TEXT_TOKENS, Case
from .contenders import our_model
from .machine import this_machine
from .measure import CLOCKS, interleaved, median_ratio
from .report import write_files
from .step_cache import RESULTS, by_cache

CASE = Case("large", "per-frame", "float32")
CONFIG = CASE.shape.config
LATENT = (15, 12, 16)  # latent frames, height, width
HOW = Settings(steps=30, ar_step=5, causal_block_size=5)
ALL = "all calls"


@dataclass(frozen=True)
class Line:
    """One line of the table.

    Attributes:
        way: what left out work.
        work: times fewer latent frames computed than with all calls.
        faster: times less time, the median of the rounds.
        seconds: of every round.
    """

    way: str
    work: float
    faster: float
    seconds: list[float]

    def text(self) -> str:
        """Return the line of a Markdown table."""
        cells = f"{statistics.median(self.seconds):.1f} s | {self.work:.2f} | {self.faster:.2f}"
        return f"| {self.way} | {cells} | {self.faster / self.work - 1:+.0%} |"


@torch.inference_mode()
def make(model: WanModel, distance: float) -> int:
    """Make a clip; return how many latent frames were computed."""
    generator = torch.Generator().manual_seed(7)
    noise = torch.randn(1, 16, *LATENT, generator=generator)
    text = torch.randn(1, TEXT_TOKENS, CONFIG.text_dim, generator=generator)
    options = ForcingOptions(ar_step=HOW.ar_step, causal_block_size=HOW.causal_block_size)
    run = plan_run(options, flow_sigmas(HOW.steps, HOW.shift), LATENT[0])
    with StepCache(distance) as cache:
        velocity = by_cache(model, cache, HOW, distance > 0, ("asked",))
        sample(model_denoise(velocity, text), noise, run)
        return cache.report.computed


def measure(rounds: int, clock: str) -> list[Line]:
    """Time the ways in turns."""
    model = our_model(CASE)
    ways = {ALL: 0.0, **DISTANCES}
    work = {name: make(model, distance) for name, distance in ways.items() if distance}  # this warms up, too
    work[ALL] = make(model, 0.0)
    seconds = interleaved(
        {name: partial(make, model, distance) for name, distance in ways.items()}, rounds, CLOCKS[clock]
    )
    return [
        Line(name, work[ALL] / work[name], median_ratio(seconds[ALL], seconds[name]), seconds[name]) for name in ways
    ]


def page(lines: list[Line], clock: str) -> str:
    """Return the table as Markdown."""
    frames, height, width = LATENT
    return "\n".join([
        "# Benchmark: the step cache in time",
        "",
        this_machine().words(),
        "",
        f"An async clip: {HOW.steps} steps, ar_step {HOW.ar_step}, blocks of {HOW.causal_block_size}; dim {CONFIG.dim} "
        f"x {CONFIG.num_layers} layers, latent {frames}x{height}x{width}, bidirectional, without guidance; {clock} "
        "time, median of the rounds. Work: latent frames through the transformer, times fewer than with all calls.",
        "",
        "| way | a clip | less work | less time | time against work |",
        "|---|---|---|---|---|",
        *(line.text() for line in lines),
        "",
    ])  # fmt: skip


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    lines = measure(given.rounds, given.clock)
    text = page(lines, given.clock)
    print(text)
    write_files(RESULTS, "step-cache-time", text, {
        "machine": this_machine().values(), "clock": given.clock, "lines": [asdict(line) for line in lines],
    })  # fmt: skip


if __name__ == "__main__":
    main()

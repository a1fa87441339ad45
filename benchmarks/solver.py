"""What a row of the schedule costs beside the model: our loop with one solver for all frames, and one object per frame.

The per-frame way is that of the reference and of diffusers' pipeline: a UniPC scheduler for every latent frame, stepped
in Python.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Run, plan_run
from wan_core.sampling.sigmas import flow_sigmas

from .cases import SIZES


@dataclass(frozen=True)
class SolverResult:
    """Seconds for a row, without any model."""

    title: str
    ours: float
    per_frame: float


def our_loop(noise: torch.Tensor, run: Run) -> None:
    """Run our loop with a model that answers at once."""
    sample(lambda x, frame_sigmas, row: x, noise, run)


def loop_per_frame(noise: torch.Tensor, run: Run) -> None:
    """Step one diffusers scheduler per latent frame, with a model that answers at once."""
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    scheduler.set_timesteps(run.num_steps)
    schedulers = [copy.deepcopy(scheduler) for _ in range(run.num_frames)]
    x = noise.clone()
    for row in run.rows:
        velocity = torch.zeros_like(x)
        for frame, step in enumerate(row.steps):
            if step is not None:
                t = scheduler.timesteps[step]
                answer = schedulers[frame].step(velocity[:, :, frame], t, x[:, :, frame], return_dict=False)
                x[:, :, frame] = answer[0]


def measure_solver(
    size: str, steps: int, clock: Callable[[], float] = time.perf_counter, device: str = "cpu"
) -> SolverResult:
    """Time both for the latents of a size; every frame makes every step, in step."""
    latent = SIZES[size].latent
    noise = torch.randn(1, 16, *latent, generator=torch.Generator().manual_seed(7)).to(device)
    run = plan_run(ForcingOptions(), flow_sigmas(steps), latent[0])
    seconds = []
    for loop in (our_loop, loop_per_frame):
        loop(noise, run)  # warm up
        begin = clock()
        loop(noise, run)
        seconds.append((clock() - begin) / len(run.rows))
    return SolverResult(f"{steps} steps of {latent[0]} latent frames, {latent[1]} x {latent[2]}", *seconds)

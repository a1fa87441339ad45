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

from wan_core.sampling.forcing import ForcingSchedule, forcing_schedule
from wan_core.sampling.loop import sample
from wan_core.sampling.sigmas import flow_sigmas

from .cases import SIZES


@dataclass(frozen=True)
class SolverResult:
    """Seconds for a row, without any model."""

    title: str
    ours: float
    per_frame: float


def our_loop(noise: torch.Tensor, schedule: ForcingSchedule) -> None:
    """Run our loop with a model that answers at once."""
    sample(lambda x, frame_sigmas, row: x, noise, flow_sigmas(schedule.steps), schedule)


def loop_per_frame(noise: torch.Tensor, schedule: ForcingSchedule) -> None:
    """Step one diffusers scheduler per latent frame, with a model that answers at once."""
    from diffusers import UniPCMultistepScheduler

    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=8.0)
    scheduler.set_timesteps(schedule.steps)
    schedulers = [copy.deepcopy(scheduler) for _ in range(schedule.num_frames)]
    x = noise.clone()
    for row, update in enumerate(schedule.update_mask):
        velocity = torch.zeros_like(x)
        for frame in range(schedule.num_frames):
            if update[frame].item():
                t = scheduler.timesteps[schedule.step_index[row, frame] - 1]
                answer = schedulers[frame].step(velocity[:, :, frame], t, x[:, :, frame], return_dict=False)
                x[:, :, frame] = answer[0]


def measure_solver(
    size: str, steps: int, clock: Callable[[], float] = time.perf_counter, device: str = "cpu"
) -> SolverResult:
    """Time both for the latents of a size; every frame makes every step, in step."""
    latent = SIZES[size].latent
    noise = torch.randn(1, 16, *latent, generator=torch.Generator().manual_seed(7)).to(device)
    schedule = forcing_schedule(latent[0], steps)
    seconds = []
    for loop in (our_loop, loop_per_frame):
        loop(noise, schedule)  # warm up
        begin = clock()
        loop(noise, schedule)
        seconds.append((clock() - begin) / schedule.num_rows)
    return SolverResult(f"{steps} steps of {latent[0]} latent frames, {latent[1]} x {latent[2]}", *seconds)

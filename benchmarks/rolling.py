"""A video that rolls on: what each block costs, so that one sees whether it stays the same once the window is full."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from wan_core.long.rolling import BlockNoise, RollingCalls, Window, block_noise, roll_out
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.sigmas import exact_timesteps, warped_sigmas

from .cases import Case, inputs
from .clip import CountedModel
from .contenders import our_model

TIMESTEPS = (1000, 750, 500, 250)


@dataclass(frozen=True)
class Roll:
    """Which video: a size of `cases.SIZES`, latent frames of a window of so many blocks, and how many blocks."""

    size: str = "small"
    window_blocks: int = 3
    sink_blocks: int = 1
    blocks: int = 24
    dtype: str = "float32"
    device: str = "cpu"

    @property
    def case(self) -> Case:
        """Model and latents."""
        return Case(self.size, "block-causal", self.dtype, self.device)

    @property
    def window(self) -> Window:
        """The window in latent frames."""
        block = self.case.block
        return Window(self.window_blocks * block, self.sink_blocks * block)


@dataclass(frozen=True)
class RollResult:
    """Seconds and cache of every block, in order; `full_after` blocks fill the window."""

    title: str
    full_after: int
    seconds: list[float]
    cache_bytes: list[int]

    @property
    def first_full(self) -> float:
        """Median seconds of the first half of the blocks with a full window."""
        full = self.seconds[self.full_after :]
        return statistics.median(full[: len(full) // 2])

    @property
    def last(self) -> float:
        """Median seconds of the second half."""
        full = self.seconds[self.full_after :]
        return statistics.median(full[len(full) // 2 :])

    @property
    def growth(self) -> float:
        """Later blocks over earlier ones: 1 when a block costs the same however long the video is."""
        return self.last / self.first_full


def noise_on(device: str, noise: BlockNoise) -> BlockNoise:
    """Return the noise of a block on a device."""
    return BlockNoise(noise.start.to(device), None if noise.fresh is None else noise.fresh.to(device))


def measure_rolling(roll: Roll, clock: Callable[[], float] = time.perf_counter) -> RollResult:
    """Make a video block by block and note what each block took."""
    case, window = roll.case, roll.window
    model, sigmas = our_model(case), warped_sigmas(TIMESTEPS)
    given = inputs(case, frames=case.block)
    shape, steps = tuple(given.x.shape), len(TIMESTEPS)
    noise = (
        noise_on(case.device, block_noise(shape, 7, steps, number * case.block, "lcm")) for number in range(roll.blocks)
    )
    seconds, cache_bytes = [], []
    with torch.no_grad(), RollingCalls(CountedModel(model), case.shape.config.num_layers, window) as run:
        denoise = model_denoise(
            lambda x, t, context, row: run(x, t, row, context=context), given.context, timesteps=exact_timesteps
        )
        begin = clock()
        for _ in roll_out(denoise, noise, sigmas, window):
            seconds.append(clock() - begin)
            cache_bytes.append(run.num_bytes)
            begin = clock()
    title = (
        f"{roll.blocks} blocks of {case.block} latent frames, window {window.frames}, sink {window.sink_frames}, "
        f"{steps} steps; {case.title}"
    )
    return RollResult(title, roll.window_blocks, seconds, cache_bytes)

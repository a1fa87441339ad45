"""The schedule of diffusion forcing: which latent frame is at which denoising step in which row (model call).

With ar_step 0 all frames go together. With ar_step n each block of frames lags n steps behind the block before it, so
that the noise stands like stairs over the clip and a wave of denoising runs through it.

Source: `generate_timestep_matrix` of SkyReels-V2 (Chen et al. 2025); Chen et al. 2024, Diffusion Forcing.
"""

from __future__ import annotations

import math

import torch

from ..errors import ScheduleError
from ..words import words


def padded_frames(num_frames: int, causal_block_size: int) -> int:
    """Return the least multiple of the block size that is not below num_frames."""
    return -(-num_frames // causal_block_size) * causal_block_size


def forcing_schedule(
    num_frames: int, steps: int, ar_step: int = 0, block: int = 1, prefix: int = 0, window: int | None = None
) -> tuple[torch.Tensor, torch.Tensor, tuple[tuple[int, int], ...]]:
    """Work out who is denoised when; R rows (model calls), F latent frames.

    Args:
        num_frames: latent frames, a multiple of the block size when ar_step is above 0.
        steps: denoising steps of a frame.
        ar_step: steps that a block lags behind the one before it; 0 = all together.
        block: latent frames of a block.
        prefix: known frames at the start; whole blocks of them count as finished from the first row on.
        window: latent frames that the model can see at once, at least one block; None = all.

    Returns:
        The step of every frame in every row, int64 [R, F] (0 = not begun, i = step i is done in this row, steps + 1 =
        finished); the frames that a row denoises, bool [R, F]; and the (start, end) of those that it sees.

    Raises:
        ScheduleError: a number out of range, or a window too small for the block or for ar_step.
    """
    check_numbers(num_frames, steps, ar_step, block, prefix)
    if window is not None and window < num_frames:
        check_window(window, steps, ar_step, block)
    block = block if ar_step > 0 else 1
    blocks = num_frames // block
    ready = prefix // block
    index = block_steps(blocks, steps, ar_step, ready)
    previous = torch.cat((start_row(blocks, steps, ready), index[:-1]))
    update = (index != previous) & (index != steps + 1)
    intervals = visible(update, blocks if window is None else min(window // block, blocks), ready)
    return (
        index.repeat_interleave(block, dim=1),
        update.repeat_interleave(block, dim=1),
        tuple((start * block, end * block) for start, end in intervals),
    )


def check_numbers(num_frames: int, steps: int, ar_step: int, block: int, prefix: int) -> None:
    """Refuse numbers that no schedule can have; `Raises: ScheduleError`."""
    for name, value, least in (
        ("num_frames", num_frames, 1), ("steps", steps, 1), ("ar_step", ar_step, 0), ("causal_block_size", block, 1),
        ("num_prefix_frames", prefix, 0),
    ):  # fmt: skip
        if value < least:
            raise ScheduleError(
                "{name} is {value}, but it has to be at least {least}: raise it.", name=name, value=value, least=least
            )
    if ar_step > 0 and num_frames % block:
        raise ScheduleError(
            "There are {num_frames} latent frames, but with ar_step above 0 their number has to be a multiple of the "
            "block size {block}: use {padded} and cut the rest off.",
            num_frames=num_frames,
            block=block,
            padded=padded_frames(num_frames, block),
        )
    if prefix >= num_frames:
        raise ScheduleError(
            "{prefix} of {num_frames} latent frames are known, so there is nothing to make: give more frames.",
            prefix=prefix,
            num_frames=num_frames,
        )


def check_window(window: int, steps: int, ar_step: int, block: int) -> None:
    """Refuse a window that would move on before the frames in it are finished; `Raises: ScheduleError`."""
    if window < block:
        raise ScheduleError(
            "The window is {window} latent frames, but it has to hold at least one block of {block}: raise "
            "the window to {block} or lower causal_block_size.",
            window=window,
            block=block,
        )
    fitting = ar_step * (window // block)
    if fitting < steps:
        least = least_ar_step(window, steps, block)
        fewer = words(" or lower the steps to {fitting}", fitting=fitting) if fitting else ""
        raise ScheduleError(
            "ar_step is {ar_step}, but with {steps} steps and a window of {window} latent frames it has to "
            "be at least {least}: raise ar_step to {least}{fewer}.",
            ar_step=ar_step,
            steps=steps,
            window=window,
            least=least,
            fewer=fewer,
        )


def least_ar_step(window: int, steps: int, block: int) -> int:
    """Return how far blocks have to lag behind each other, so that one is finished before the window leaves it."""
    return math.ceil(steps / (window // block))


def start_row(blocks: int, steps: int, prefix_blocks: int) -> torch.Tensor:
    """Return the state before the first row, [1, blocks]: known blocks finished, the others not begun."""
    row = torch.zeros(1, blocks, dtype=torch.int64)
    row[:, :prefix_blocks] = steps + 1
    return row


def block_steps(blocks: int, steps: int, ar_step: int, prefix_blocks: int) -> torch.Tensor:
    """Return the step index of every row and block, [R, blocks].

    Block n begins when block n - 1 has done ar_step steps, or is finished, whichever comes first; from then on it makes
    one step a row. So all follows from the first row of each block.
    """
    lag = min(ar_step, steps)
    number = torch.arange(blocks)
    begins = (number - prefix_blocks) * lag
    rows = steps + max(blocks - prefix_blocks - 1, 0) * lag
    index = torch.arange(1, rows + 1)[:, None] - begins[None, :]
    index[:, :prefix_blocks] = steps + 1
    return index.clamp(0, steps + 1)


def visible(update: torch.Tensor, window: int, ready: int) -> list[tuple[int, int]]:
    """Return the interval of blocks that each row sees: it moves on by one when the block behind it begins.

    With more known blocks than the window holds it starts at their end; the release starts at the beginning there,
    never gets to the blocks that it has to make, and returns them as noise.
    """
    intervals, end, blocks = [], max(window, ready), update.shape[1]
    for row in update:
        if end < blocks and row[end]:
            end += 1
        intervals.append((max(end - window, 0), end))
    return intervals

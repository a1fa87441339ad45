"""The schedule of diffusion forcing: which latent frame is at which denoising step in which row (model call).

With ar_step 0 all frames go together. With ar_step n each block of frames lags n steps behind the block before it, so
that the noise stands like stairs over the clip and a wave of denoising runs through it.

Source: `generate_timestep_matrix` of SkyReels-V2 (Chen et al. 2025); Chen et al. 2024, Diffusion Forcing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from ..errors import ScheduleError
from ..words import words


def padded_frames(num_frames: int, causal_block_size: int) -> int:
    """Return the least multiple of the block size that is not below num_frames."""
    return -(-num_frames // causal_block_size) * causal_block_size


class Schedule(NamedTuple):
    """Who is denoised when.

    Attributes:
        step_index: the step of every frame in every row, int64 [R, F]: 0 = not begun, i = step i is done in this row,
            steps + 1 = finished.
        update: the frames that a row denoises, bool [R, F].
        intervals: the (start, end) of the frames that a row sees.
    """

    step_index: torch.Tensor
    update: torch.Tensor
    intervals: tuple[tuple[int, int], ...]


def forcing_schedule(
    num_frames: int, steps: int, ar_step: int = 0, block: int = 1, prefix: int = 0, window: int | None = None
) -> Schedule:
    """Work out who is denoised when; R rows (model calls), F latent frames.

    Args:
        num_frames: latent frames, a multiple of the block size when ar_step is above 0.
        steps: denoising steps of a frame.
        ar_step: steps that a block lags behind the one before it; 0 = all together.
        block: latent frames of a block.
        prefix: known frames at the start; whole blocks of them count as finished from the first row on.
        window: latent frames that the model can see at once, at least one block; None = all.

    Raises:
        ScheduleError: a number out of range, or a window too small for the block or for ar_step.
    """
    check_numbers(num_frames, steps, ar_step, block, prefix)
    if window is not None and window < num_frames:
        check_window(window, steps, ar_step, block)
    stairs = staircase(num_frames, steps, ar_step, block, prefix, window)
    rows, blocks = range(stairs.num_rows), range(stairs.blocks)
    index, update = stairs.steps_of(rows, blocks)
    size = stairs.block
    return Schedule(
        index.repeat_interleave(size, dim=1),
        update.repeat_interleave(size, dim=1),
        tuple((start * size, end * size) for start, end in map(stairs.seen, rows)),
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
            "{prefix} of {num_frames} latent frames are known, so nothing is left to make: ask for more frames.",
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


@dataclass(frozen=True)
class Staircase:
    """Which block is at which step in which row, in closed form: any part of a schedule, however long the clip is.

    Block n begins when block n - 1 has done `lag` steps; from then on it makes one step a row.

    Attributes:
        blocks: of the clip.
        block: latent frames of one.
        steps: denoising steps of a block.
        lag: rows that a block begins after the one before it; 0 = all together.
        ready: blocks known at the start.
        window: blocks that a row sees.
    """

    blocks: int
    block: int
    steps: int
    lag: int
    ready: int
    window: int

    @property
    def num_rows(self) -> int:
        """Rows of the whole schedule."""
        return self.begins(max(self.blocks - 1, self.ready)) + self.steps

    def begins(self, block: int) -> int:
        """Return the row in which a block makes its first step; below 0 for one that is known."""
        return (block - self.ready) * self.lag

    def ends(self, block: int) -> int:
        """Return one past the row in which a block makes its last step; at most 0 for one that is known."""
        return self.begins(block) + self.steps if block >= self.ready else 0

    def busy(self, known: Sequence[bool]) -> list[tuple[int, int]]:
        """Return the rows (first, end) that denoise something; `known`: of every latent frame."""
        rows: list[tuple[int, int]] = []
        for number in range(self.ready, self.blocks):
            if not all(known[number * self.block : (number + 1) * self.block]):
                begin = self.begins(number)
                joins = bool(rows) and begin <= rows[-1][1]
                rows.append((rows.pop()[0] if joins else begin, self.ends(number)))
        return rows

    def seen(self, row: int) -> tuple[int, int]:
        """Return the blocks (start, end) that a row sees: the window moves on by one when the block behind it begins.

        With more known blocks than the window holds it starts at their end; the release starts at the beginning there,
        never gets to the blocks that it has to make, and returns them as noise.
        """
        begun = self.ready + row // self.lag + 1 if self.lag else self.blocks
        end = min(max(self.window, self.ready, begun), self.blocks)
        return max(end - self.window, 0), end

    def steps_of(self, rows: Sequence[int], blocks: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the step of some blocks in some rows, int64 [R, N], and which of them the row makes, bool [R, N].

        The step is 0 before the block begins, i in the row of step i, and steps + 1 when it is finished or known.
        """
        number = torch.tensor(blocks, dtype=torch.int64)
        index = torch.tensor(rows, dtype=torch.int64)[:, None] + 1 - (number - self.ready) * self.lag
        index[:, number < self.ready] = self.steps + 1
        return index.clamp(0, self.steps + 1), (index > 0) & (index <= self.steps)


def staircase(
    num_frames: int, steps: int, ar_step: int = 0, block: int = 1, prefix: int = 0, window: int | None = None
) -> Staircase:
    """Return the schedule of a clip in closed form; the arguments are those of `forcing_schedule`, checked."""
    block = block if ar_step > 0 else 1
    blocks = num_frames // block
    seen = blocks if window is None else min(window // block, blocks)
    return Staircase(blocks, block, steps, min(ar_step, steps), prefix // block, seen)

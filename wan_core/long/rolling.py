"""Video without end: a causal model makes block after block, and sees a window of those that are finished.

This is how distilled causal models of few steps are run (CausVid, Self Forcing, Causal Forcing, LongLive). A finished
block is computed once more, clean, and its keys and values go into a cache; what has left the window is forgotten, but
for frames at the beginning that may be kept as a sink. So the work and the memory of a block do not grow with the
video. Positions go on counting: a frame has the rotary position of its number in the video.

Sources: Yin et al. 2025, CausVid; Huang et al. 2025, Self Forcing; Yang et al. 2025, LongLive (window with sink
frames); Xiao et al. 2024, attention sinks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError, ScheduleError
from ..model.kv_cache import KVCache
from ..sampling.cached_calls import CachedCalls
from ..sampling.loop import sample
from ..sampling.noise import fresh_noise, noise_of_frames
from ..sampling.run import ForcingOptions, Row, Run, plan_run
from ..sampling.solvers import adds_noise
from ..words import words


@dataclass(frozen=True)
class Window:
    """How far back a block sees.

    Attributes:
        frames: latent frames that attention sees, the block in work and the sink included (`local_attn_size`).
        sink_frames: latent frames at the beginning of the video that are seen however long ago (`sink_size`).
        kv_budget: the share of the tokens of a finished frame, outside of the sink, whose keys and values are kept.
    """

    frames: int
    sink_frames: int = 0
    kv_budget: float = 1.0

    def check(self, block: int) -> None:
        """Refuse a window that cannot hold its sink and a block of so many latent frames; `Raises: ScheduleError`."""
        if block < 1:
            raise ScheduleError(
                "A chunk is {block} latent frames, but it has to be at least 1: 3 is usual.", block=block
            )
        if self.sink_frames < 0:
            raise ScheduleError(
                "sink_frames is {sink_frames}, but it has to be 0 or more: set 0.",
                sink_frames=self.sink_frames,
            )
        if not 0 < self.kv_budget <= 1:
            raise ScheduleError(
                "kv_budget is {budget:g}, but it is the share that is kept: set it above 0, up to 1 for all.",
                budget=self.kv_budget,
            )
        least = block + self.sink_frames
        if self.frames < least:
            sink = words(" and {count} sink frames", count=self.sink_frames) if self.sink_frames else ""
            raise ScheduleError(
                "window_frames is {frames} latent frames, but the window has to hold a chunk of {block}{sink}: raise "
                "it to {least} or more.",
                frames=self.frames,
                block=block,
                sink=sink,
                least=least,
            )

    def start(self, end: int) -> int:
        """Return the first frame, the sink aside, that is seen by a block that ends before frame `end`."""
        return max(end - (self.frames - self.sink_frames), 0)

    def cached(self, frames: int) -> int:
        """Return how many latent frames the keys and values are as large as, of a video of so many at most."""
        seen = min(self.frames, frames)
        sink = min(self.sink_frames, seen)
        return sink + math.ceil((seen - sink) * self.kv_budget)

    def carried(self, end: int, block: int) -> int:
        """Return how many latent frames before frame `end`, the sink included, a block that begins there sees."""
        return min(end, self.frames - block)


@dataclass(frozen=True)
class RollingRow:
    """One model call, in latent frames of the video.

    Attributes:
        first: first frame of the block that is computed.
        end: one past its last.
        seen_from: first frame that it sees, the sink aside.
        keep: whether the block is finished and its keys and values are kept; else it is denoised.
        block: number of the block.
        step: step of the solver, from 0; the number of steps for a finished block.
    """

    first: int
    end: int
    seen_from: int
    keep: bool
    block: int
    step: int


RollingDenoise = Callable[[Tensor, Tensor, RollingRow], Tensor]


class RollingCalls(CachedCalls):
    """The model calls of one video.

    Args:
        model: called with `(x, t, causal_block_size=..., cache=..., **inputs)` like a WanModel.
        num_layers: its attention blocks.
        window: how far back a block sees.
        device: where keys and values are kept; None leaves them where they were computed.
    """

    def __init__(
        self, model: Callable[..., Tensor], num_layers: int, window: Window, device: torch.device | None = None
    ):
        super().__init__(model, num_layers, device)
        self.window = window

    def __call__(
        self,
        x: Tensor,
        t: Tensor,
        row: RollingRow,
        key: Hashable = None,
        model: Callable[..., Tensor] | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Predict the velocity of a block.

        Args:
            x: noisy latents of the block [B, C, f, H, W].
            t: timesteps [B, f].
            row: where the block stands.
            key: whose keys and values these are: cond and uncond have their own.
            model: called in place of the run's, such as a copy of it on another device.
            inputs: handed to the model (context, fps, ...).

        Returns:
            Velocity [B, C, f, H, W]; zeros for a finished block that is kept already.

        Raises:
            InputError: a block before this one never came by, so that it would be missing from what is seen.
        """
        frames = row.end - row.first
        if x.shape[2] != frames:
            raise InputError(
                "The model was shown {shown} latent frames of a chunk of {frames}. Remove nodes that cut the video "
                "into windows of their own, such as Context Windows.",
                shown=x.shape[2],
                frames=frames,
            )
        cache = self.caches.setdefault(key, KVCache(self.num_layers, 1, self.device, self.window.kv_budget))
        if row.keep and cache.end == row.end:  # kept already, by a call that failed for another key
            return torch.zeros_like(x)
        unseen = row.seen_from >= row.first > cache.end  # what lies between is not looked at
        if cache.end != row.first and not unseen:
            raise InputError(
                "The cache holds {seen} latent frames, but {finished} are finished. Remove nodes that skip model "
                "calls, such as EasyCache, or that change the guidance on the way.",
                seen=cache.end,
                finished=row.first,
            )
        cache.begin(row.seen_from, row.end if row.keep else row.first, self.window.sink_frames)
        return self.call(cache, x, t, frames, model, **inputs)


@dataclass(frozen=True)
class BlockNoise:
    """All noise of a block: what it starts from, and what a few-step solver adds between its steps.

    Attributes:
        start: unit normal [B, C, f, H, W].
        fresh: unit normal [steps - 1, B, C, f, H, W]; None for the solvers that add none.
    """

    start: Tensor
    fresh: Tensor | None = None


def block_noise(shape: tuple[int, ...], seed: int, steps: int, first_frame: int, solver: str) -> BlockNoise:
    """Draw the noise of a block [B, C, f, H, W] that begins at a latent frame of the video, on the CPU."""
    start = noise_of_frames(shape, seed, first_frame)
    return BlockNoise(start, fresh_noise(shape, seed, steps, first_frame) if adds_noise(solver) else None)


def split_known(frames: int, block: int) -> list[int]:
    """Return the sizes of the blocks that known frames at the beginning go in: what is over goes first.

    An image is one latent frame: it is a block by itself, and the others follow in whole blocks.
    """
    over = frames % block
    return [*([over] if over else []), *[block] * (frames // block)]


def roll_out(
    denoise: RollingDenoise,
    noise: Iterable[BlockNoise],
    sigmas: Tensor,
    window: Window,
    solver: str = "lcm",
    known: Sequence[Tensor] = (),
    callback: Callable[[RollingRow, Tensor], None] | None = None,
    jump: tuple[int, int] = (0, 0),
) -> Iterator[Tensor]:
    """Make a video block by block.

    Args:
        denoise: `(x [B, C, f, H, W], frame_sigmas [f], row) -> x0 [B, C, f, H, W]`; the answer to a row to keep is not
            read.
        noise: the noise of one block after the other, as many as wanted.
        sigmas: [steps + 1], falling to 0.
        window: how far back a block sees.
        solver: one of `solvers.SOLVERS`; "lcm" is what distilled models are run with.
        known: clean latents [B, C, f, H, W] at the beginning of the video, block by block.
        callback: `(row, x0)` after each step.
        jump: where a video is gone on with: how many of the known blocks are of the sink, and the position of the first
            frame after these; what lay between is seen no more.

    Yields:
        Clean latents [B, C, f, H, W] of one block after the other, those of `known` not among them.

    Raises:
        ScheduleError: the window cannot hold a block.
    """
    steps, first, number = len(sigmas) - 1, 0, 0
    sink_blocks, position = jump
    run: Run | None = None  # all blocks are of one size
    waiting = list(known)  # finished, but not in the cache yet: the last block of a video never has to be

    def row_of(size: int, kept: bool) -> RollingRow:
        window.check(size)
        begin = max(first, position) if number >= sink_blocks else first
        seen = max(window.start(begin + size), position if number >= sink_blocks else 0)
        return RollingRow(begin, begin + size, seen, kept, number, steps if kept else 0)

    for drawn in noise:
        for block in waiting:
            row = row_of(block.shape[2], True)
            denoise(block, block.new_zeros(block.shape[2]), row)
            first, number = row.end, number + 1
        size = drawn.start.shape[2]
        place = row_of(size, False)
        if run is None or run.num_frames != size:
            run = plan_run(ForcingOptions(solver), sigmas, size)
        made = denoised_block(denoise, drawn, run, place, callback)
        waiting = [made]
        yield made


def denoised_block(
    denoise: RollingDenoise,
    noise: BlockNoise,
    run: Run,
    place: RollingRow,
    callback: Callable[[RollingRow, Tensor], None] | None,
) -> Tensor:
    """Return the clean latents of one block, made from its noise; `place` is its first row."""

    def step(x: Tensor, frame_sigmas: Tensor, row: Row) -> Tensor:
        return denoise(x, frame_sigmas, replace(place, step=row.index))

    def report(row: Row, x0: Tensor, x: Tensor) -> None:
        if callback is not None:
            callback(replace(place, step=row.index), x0)

    return sample(step, noise.start, run, callback=report, fresh_noise=noise.fresh)


def call_sigma(row: RollingRow, sigmas: Sequence[float], blocks: int) -> float:
    """Return one noise level for a whole call: the mean over the video, which falls strictly from call to call.

    Args:
        row: the call.
        sigmas: [steps + 1], falling to 0.
        blocks: blocks of the video, the known ones included.
    """
    level = sigmas[-2] / 2 if row.keep else sigmas[row.step]  # a finished block: behind its last step, before the next
    return (level + sigmas[0] * (blocks - 1 - row.block)) / blocks


def all_call_sigmas(sigmas: Sequence[float], known_blocks: int, new_blocks: int) -> list[float]:
    """Return `call_sigma` of every call of `roll_out`, in order."""
    steps, blocks, levels = len(sigmas) - 1, known_blocks + new_blocks, []
    for block in range(blocks):
        kept = block < blocks - 1  # nobody looks back at the last block
        denoised = range(steps) if block >= known_blocks else ()
        calls = [(False, step) for step in denoised] + [(True, steps)] * kept
        levels += [call_sigma(RollingRow(0, 0, 0, keep, block, step), sigmas, blocks) for keep, step in calls]
    return levels

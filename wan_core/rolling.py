"""Video without end: a causal model makes block after block, and sees a window of those that are finished.

This is how distilled causal models of few steps are run (CausVid, Self Forcing, LongLive). The work and the memory of a
block do not grow with the video: its keys and values lie in a cache, and what has left the window is forgotten, but for
blocks at the beginning that may be kept as a sink (Xiao et al. 2024, attention sinks).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .errors import ScheduleError
from .forcing import forcing_schedule
from .kv_cache import CausalRun
from .sampler import Row, sample
from .sampling import timesteps_of


@dataclass(frozen=True)
class Window:
    """How far back a block sees.

    Attributes:
        blocks: blocks that attention sees, the one in work included; at least 1, with a sink at least 2.
        sink_blocks: blocks at the beginning of the video that are seen beside them, however long ago.
    """

    blocks: int
    sink_blocks: int = 0

    def __post_init__(self) -> None:
        """Refuse a window that holds no block, or no finished one to become a sink; `Raises: ScheduleError`."""
        least = 2 if self.sink_blocks else 1
        if self.blocks < least or self.sink_blocks < 0:
            raise ScheduleError(
                f"The window is {self.blocks} blocks and {self.sink_blocks} sink blocks, but it has to be at least "
                f"{least} and 0: raise them."
            )


@dataclass(frozen=True)
class RollingRow:
    """Where the window stands, as the cache asks for it; in latent frames of the video."""

    start: int
    finished: int
    busy_end: int


def roll_out(
    run: CausalRun, noise: Iterable[Tensor], sigmas: Tensor, window: Window, solver: str = "euler", **inputs: Any
) -> Iterator[Tensor]:
    """Make a video block by block.

    Args:
        run: the model, with the window's `sink_blocks`; enter it as a context, so that its cache is freed.
        noise: unit normal [B, C, block size, H, W], one tensor per block, as many as wanted.
        sigmas: [steps + 1], falling to 0.
        window: how far back a block sees.
        solver: a name in SOLVERS (solvers.py).
        inputs: handed to the model (context, fps, ...).

    Yields:
        Clean latents [B, C, block size, H, W] of one block after the other.
    """
    block = run.block_size
    schedule = forcing_schedule(block, len(sigmas) - 1)
    finished: deque[Tensor] = deque(maxlen=window.blocks - 1)  # the first call of a block still needs the one before it
    for number, start_noise in enumerate(noise):
        first = number * block
        place = RollingRow(first - len(finished) * block, first, first + block)

        def denoise(x: Tensor, frame_sigmas: Tensor, row: Row, place: RollingRow = place) -> Tensor:
            video = torch.cat((*finished, x), dim=2)
            levels = torch.cat((frame_sigmas.new_zeros(len(finished) * block), frame_sigmas))
            t = timesteps_of(levels).expand(len(x), -1)
            velocity = run(video, t, place, **inputs)[:, :, -block:]
            return x - velocity * frame_sigmas[:, None, None]

        made = sample(denoise, start_noise, sigmas, schedule, solver)
        finished.append(made)
        yield made

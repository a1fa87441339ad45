"""The plain way from a model to what the loop calls: velocity, guidance, x0. No host and no cache of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .sigmas import timesteps_of

Velocity = Callable[[Tensor, Tensor, Tensor, Any], Tensor]


def model_denoise(
    velocity: Velocity,
    cond: Tensor,
    uncond: Tensor | None = None,
    cfg: float = 1.0,
    timesteps: Callable[[Tensor], Tensor] = timesteps_of,
) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return what `loop.sample` and `long.rolling.roll_out` call.

    Args:
        velocity: `(x [n * B, C, f, H, W], t [n * B, f], context [n * B, L, D], row) -> velocity like x`; n is 2 where
            guidance is on, prompts first.
        cond: text tokens of the prompts [B, L, D].
        uncond: those of the negative prompts, same shape; not read at cfg 1.
        cfg: guidance scale; 1 = the prompt alone.
        timesteps: turns noise levels 0..1 into timesteps: whole numbers (SkyReels-V2), or `exact_timesteps`.

    Source: Ho and Salimans 2022 (classifier-free guidance); x0 = x - sigma * velocity of flow matching.
    """
    guided = uncond is not None and cfg != 1
    context = torch.cat((cond, uncond)) if guided and uncond is not None else cond

    def denoise(x: Tensor, frame_sigmas: Tensor, row: Any) -> Tensor:
        both = torch.cat((x, x)) if guided else x
        found = velocity(both, timesteps(frame_sigmas)[None].expand(len(both), -1), context, row)
        if guided:
            asked, plain = found.chunk(2)
            found = plain + cfg * (asked - plain)
        return x - frame_sigmas[:, None, None] * found

    return denoise

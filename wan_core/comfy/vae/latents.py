"""Empty latent videos and their sizes."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import InputError
from ...long.segments import SPATIAL, latent_frames, whole_frames
from ..host_flags import handed_on
from ..model.checks import LATENT_CHANNELS

SIZES = {
    "540P landscape (960x544)": (960, 544),
    "540P portrait (544x960)": (544, 960),
    "720P landscape (1280x720)": (1280, 720),
    "720P portrait (720x1280)": (720, 1280),
}


def empty_latent(width: int, height: int, frames: int, batch_size: int) -> dict[str, Any]:
    """Return an empty LATENT.

    Args:
        width: pixels, a multiple of 16.
        height: pixels, a multiple of 16.
        frames: video frames, a multiple of 4 plus 1.
        batch_size: videos.

    Returns:
        LATENT of zeros [batch_size, 16, (frames - 1) // 4 + 1, height / 8, width / 8].

    Raises:
        InputError: a size or length the model cannot make.
    """
    if width % 16 or height % 16:
        raise InputError(
            "The size is {width}x{height}, but width and height have to be multiples of 16: "
            "{near_width}x{near_height} is the nearest.",
            width=width,
            height=height,
            near_width=round(width / 16) * 16,
            near_height=round(height / 16) * 16,
        )
    if (frames - 1) % 4:
        low = whole_frames(frames)
        raise InputError(
            "The length is {frames} frames, but it has to be a multiple of 4 plus 1: use {low} or {high}.",
            frames=frames,
            low=low,
            high=low + 4,
        )
    shape = (batch_size, LATENT_CHANNELS, latent_frames(frames), height // SPATIAL, width // SPATIAL)
    return {"samples": handed_on(torch.zeros(shape))}

"""Empty latent videos and their sizes."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import InputError
from ...model.geometry import WAN21
from ..host_flags import handed_on

SIZES = {
    "540P landscape (960x544)": (960, 544),
    "540P portrait (544x960)": (544, 960),
    "720P landscape (1280x720)": (1280, 720),
    "720P portrait (720x1280)": (720, 1280),
}


def empty_latent(width: int, height: int, frames: int, batch_size: int) -> dict[str, Any]:
    """Return an empty LATENT.

    Args:
        width: pixels.
        height: pixels.
        frames: video frames.
        batch_size: videos.

    Returns:
        LATENT of zeros [batch_size, C, F, h, w] in Wan 2.1's geometry; sampling and key frames give it their own.

    Raises:
        InputError: a size or length the model cannot make.
    """
    WAN21.check_size(width, height)
    low = WAN21.whole_frames(frames)
    if frames != low:
        raise InputError(
            "The length is {frames} frames, but it has to be a multiple of {step} plus 1: use {low} or {high}.",
            frames=frames,
            step=WAN21.temporal,
            low=low,
            high=low + WAN21.temporal,
        )
    shape = (batch_size, *WAN21.latent_shape(WAN21.latent_frames(frames), height, width))
    return {"samples": handed_on(torch.zeros(shape))}

"""Gives a MODEL of ComfyUI's own loader, or of a GGUF loader, the frame rate that its file was trained with."""

from __future__ import annotations

import os
from typing import Any

from ...checkpoint.frame_rate import frame_rate_shift
from ...errors import InputError
from ...finite import check_weights
from ...words import words
from ..model.base_model import SkyReelsV2
from ..model.checks import check_model
from ..model.origin import model_file

FRAME_RATE = "skyreels_v2_frame_rate"  # the attachment that says which frame rate a MODEL was given
BIAS = "diffusion_model.time_projection.1.bias"


def attach_frame_rate(patcher: Any, path: str | os.PathLike[str] | None, fps: int) -> Any:
    """Return a clone of a MODEL that aims at a frame rate.

    Args:
        patcher: a MODEL whose transformer is ComfyUI's own.
        path: a checkpoint with fps weights; None for the file that the MODEL was loaded from.
        fps: frames per second; 16 has weights of its own, anything else counts as 24.

    Returns:
        The clone, with one vector added to the bias of its time projection.

    Raises:
        InputError: a MODEL that reads its frame rate itself, has one already, names no file, or has another width.
        CheckpointError: a file without fps weights, or one that cannot be read.
    """
    check_model(patcher.model, causal_attention=False)
    if isinstance(patcher.model, SkyReelsV2):
        reads = patcher.model.diffusion_model.config.inject_sample_info
        raise InputError(
            "The model comes from SkyReels-V2 Model Loader, which drops no weights: {advice}.",
            advice=words("remove this node and set fps in the sampler") if reads else words("remove this node"),
        )
    attached = patcher.get_attachment(FRAME_RATE)
    if attached is not None:
        raise InputError(
            "The model already has {attached} fps attached: keep one Attach FPS Weights node.", attached=attached
        )
    path = path or model_file(patcher)
    if path is None:
        raise InputError(
            "The model doesn't say which file it is from (GGUF loaders don't): choose the file in place of auto."
        )
    shift = frame_rate_shift(path, fps)
    check_weights({"fps": shift}, str(path))
    bias = patcher.model.diffusion_model.time_projection[1].bias
    if tuple(bias.shape) != tuple(shift.shape):
        raise InputError(
            "The frame-rate weights are for a model of width {width}, but this one has width {wanted}: choose the "
            "file of the same model.",
            width=len(shift) // 6,
            wanted=len(bias) // 6,
        )
    patched = patcher.clone()
    patched.add_patches({BIAS: ("diff", (shift,))})
    patched.set_attachments(FRAME_RATE, fps)
    return patched

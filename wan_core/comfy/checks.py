"""What is refused before any long work starts: models, latents and conditioning that cannot go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_base
import torch

from ..errors import InputError
from ..segments import SPATIAL, video_frames
from ..words import Words, words
from .base_model import SkyReelsV2

LATENT_CHANNELS = 16


def check_model(model: Any, causal_attention: bool) -> None:
    """Refuse a BaseModel that has no one-to-one relation of latent frames and tokens; `Raises: InputError`."""
    if type(model) not in (comfy.model_base.WAN21, SkyReelsV2):
        raise InputError(
            "The model is {name}, but diffusion forcing needs a SkyReels-V2 or Wan 2.1 text-to-video or "
            "image-to-video model: load one with SkyReels-V2 Model Loader.",
            name=type(model).__name__,
        )
    if getattr(model.diffusion_model, "ref_conv", None) is not None:
        raise InputError(
            "The model takes a reference image as a frame of its own (ref_conv), which diffusion forcing cannot place: "
            "use a SkyReels-V2-DF model."
        )
    if causal_attention and not isinstance(model, SkyReelsV2):
        raise InputError(
            "Causal attention is on, but this model runs on ComfyUI's own transformer, which has none: load it with "
            "SkyReels-V2 Model Loader, or turn causal_attention off."
        )


def input_channels(model: Any) -> int:
    """Return how many channels the transformer of a BaseModel takes: more than a latent's for image-to-video models."""
    return model.diffusion_model.patch_embedding.weight.shape[1]


def refuse_image_to_video(model: Any, reason: Words) -> None:
    """Refuse an image-to-video model; `reason` goes on with the sentence. `Raises: InputError`."""
    channels = input_channels(model)
    if channels != LATENT_CHANNELS:
        raise InputError(
            "This is an image-to-video model ({channels} input channels), {reason}.", channels=channels, reason=reason
        )


def check_long_model(model: Any, causal_attention: bool) -> None:
    """Refuse a BaseModel that cannot go on from the frames of the segment before; `Raises: InputError`."""
    check_model(model, causal_attention)
    reason = words(
        "whose segments would all begin with one image, but a long video needs one with {channels}: load a "
        "SkyReels-V2-DF model and connect the image to start_image, or make one window with the Diffusion Forcing "
        "Sampler",
        channels=LATENT_CHANNELS,
    )
    refuse_image_to_video(model, reason)


def check_rolling_model(model: Any) -> None:
    """Refuse a BaseModel that cannot make block after block from a cache; `Raises: InputError`."""
    check_model(model, causal_attention=False)
    if not isinstance(model, SkyReelsV2):
        raise InputError(
            "This model runs on ComfyUI's own transformer, which cannot keep finished frames in a cache: load the same "
            "file (Self Forcing, CausVid, Causal Forcing, LongLive or SkyReels-V2-DF) with SkyReels-V2 Model Loader."
        )
    reason = words(
        "but rolling needs a causal text-to-video model ({channels} channels): load one, and give it its first frame "
        "with SkyReels-V2 Start/End/Key Frames",
        channels=LATENT_CHANNELS,
    )
    refuse_image_to_video(model, reason)


def check_latent(latent: dict[str, Any]) -> torch.Tensor:
    """Return the samples [B, 16, F, H, W] of a LATENT; `Raises: InputError` for any other shape."""
    samples = latent["samples"]
    if samples.ndim != 5 or samples.shape[1] != LATENT_CHANNELS:
        raise InputError(
            "The latent has the shape {shape}, but a video latent of [batch, {channels}, frames, "
            "height / 8, width / 8] is needed: connect SkyReels-V2 Empty Latent.",
            shape=list(samples.shape),
            channels=LATENT_CHANNELS,
        )
    return samples


def in_pixels(size: Sequence[int]) -> Words:
    """Return latent frames, rows and columns as a person knows them."""
    frames, rows, columns = size
    return words(
        "{frames} frames of {width}x{height}",
        frames=video_frames(frames),
        width=columns * SPATIAL,
        height=rows * SPATIAL,
    )

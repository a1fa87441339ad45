"""What is refused before any long work starts: models, latents and conditioning that cannot go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.ldm.wan.vae
import comfy.model_base
import comfy.taesd.taehv
import torch

from ...errors import InputError
from ...long.segments import SPATIAL, TEMPORAL, video_frames
from ...sampling.known import wrong_length
from ...words import Words, words
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


def check_vae(vae: Any, streamed: bool = False) -> None:
    """Refuse a VAE for other latents than Wan 2.1's; it looks at no latent, so that it can be asked before any work.

    Args:
        vae: a VAE.
        streamed: it has to decode a long video piece by piece, which only the Wan VAE itself can.

    Raises:
        InputError: it is of another kind.
    """
    model = getattr(vae, "first_stage_model", None)
    wanted = words(
        "SkyReels-V2 needs the Wan 2.1 VAE ({channels} latent channels): load wan_2.1_vae with Load VAE",
        channels=LATENT_CHANNELS,
    )
    if model is None:
        raise InputError("The VAE is empty, as from a checkpoint without one, but {wanted}.", wanted=wanted)
    is_wan = isinstance(model, comfy.ldm.wan.vae.WanVAE)
    known = (comfy.ldm.wan.vae.WanVAE, comfy.taesd.taehv.TAEHV)  # what other packs bring may fit as well
    of_other_models = type(model).__module__.startswith("comfy.") and not isinstance(model, known)
    if of_other_models or not decodes_wan_latents(vae) or (streamed and not is_wan):
        raise InputError("The VAE is {vae}, but {wanted}.", vae=vae_in_words(vae), wanted=wanted)
    colours = {getattr(vae, name, 3) for name in ("output_channels", "conv_out_channels")}
    if streamed and colours != {3}:
        raise InputError(
            "The VAE makes pictures of {colours} channels, but a long video has 3, and {wanted}.",
            colours=max(colours),
            wanted=wanted,
        )


def decodes_wan_latents(vae: Any) -> bool:
    """Whether a VAE says of itself that its latents have the channels and the strides of Wan 2.1."""
    if getattr(vae, "latent_channels", None) != LATENT_CHANNELS or getattr(vae, "latent_dim", None) != 3:
        return False
    return (vae.temporal_compression_decode(), vae.spacial_compression_decode()) == (TEMPORAL, SPATIAL)


def vae_in_words(vae: Any) -> Words:
    """Name a VAE's class and the latents that it takes."""
    channels = getattr(vae, "latent_channels", None)
    return words(
        "{name}{taken}{pictures}",
        name=type(vae.first_stage_model).__name__,
        taken="" if channels is None else words(" for {channels} latent channels", channels=channels),
        pictures=words(" and single pictures") if getattr(vae, "latent_dim", None) == 2 else "",
    )


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


def check_mask(mask: torch.Tensor, frames: int) -> None:
    """Refuse a noise mask that core would stretch in time or that holds no amounts of noise.

    Args:
        mask: as nodes make it: [B, C, F, H, W], or frames in front of [H, W] in any number of dimensions.
        frames: latent frames of the latent.

    Raises:
        InputError: neither one frame for all nor one for each latent frame, or values that are not 0 to 1.
    """
    given = mask.shape[2] if mask.ndim == 5 else mask.shape[:-2].numel()
    if given not in (1, frames):
        raise wrong_length(given, frames)
    if not bool(((mask >= 0) & (mask <= 1)).all()):  # nan too
        raise InputError("The noise mask holds values outside 0 to 1: check the node that makes it.")


def in_pixels(size: Sequence[int]) -> Words:
    """Return latent frames, rows and columns as a person knows them."""
    frames, rows, columns = size
    return words(
        "{frames} frames of {width}x{height}",
        frames=video_frames(frames),
        width=columns * SPATIAL,
        height=rows * SPATIAL,
    )

"""What is refused before any long work starts: models, latents and conditioning that cannot go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.model_base
import comfy.sampler_helpers
import torch
from comfy.taesd.taehv import TAEHV

from ...errors import InputError
from ...model.geometry import GEOMETRIES, WAN21, Geometry, geometry_of
from ...sampling.known import known_mask, wrong_length
from ...words import Words, words
from .base_model import SkyReelsV2

WAN_VAES = (comfy.ldm.wan.vae.WanVAE, comfy.ldm.wan.vae2_2.WanVAE)


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


def model_geometry(model: Any) -> Geometry:
    """Return the geometry of a BaseModel's latents; `Raises: InputError` for a model that is no Wan model."""
    check_model(model, causal_attention=False)
    transformer = model.diffusion_model
    return replace(geometry_of(transformer.out_dim), patch=tuple(transformer.patch_size))


def input_channels(model: Any) -> int:
    """Return how many channels the transformer of a BaseModel takes: more than a latent's for image-to-video models."""
    return model.diffusion_model.patch_embedding.weight.shape[1]


def takes_image(model: Any) -> bool:
    """Say whether a BaseModel is an image-to-video model, which takes an image's latents beside the noise."""
    return input_channels(model) > int(model.diffusion_model.out_dim)


def refuse_image_to_video(model: Any, reason: Words) -> None:
    """Refuse an image-to-video model; `reason` goes on with the sentence. `Raises: InputError`."""
    if takes_image(model):
        raise InputError(
            "This is an image-to-video model ({channels} input channels), {reason}.",
            channels=input_channels(model),
            reason=reason,
        )


def check_long_model(model: Any, causal_attention: bool) -> None:
    """Refuse a BaseModel that cannot go on from the frames of the segment before; `Raises: InputError`."""
    check_model(model, causal_attention)
    reason = words(
        "whose segments would all begin with one image, but a long video needs one with {channels}: load a "
        "SkyReels-V2-DF model and connect the image to start_image, or make one window with the Diffusion Forcing "
        "Sampler",
        channels=model.diffusion_model.out_dim,
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
        channels=model.diffusion_model.out_dim,
    )
    refuse_image_to_video(model, reason)


def check_vae(vae: Any, geometry: Geometry | None = None, streamed: bool = False) -> Geometry:
    """Refuse a VAE for other latents; it looks at no latent, so that it can be asked before any work.

    Args:
        vae: a VAE.
        geometry: of the latents; None: of any latents that are known.
        streamed: it has to decode a long video piece by piece, which only Wan's own VAEs and their tiny twins can.

    Returns:
        The geometry of the latents that the VAE is for.

    Raises:
        InputError: it is of another kind.
    """
    model = getattr(vae, "first_stage_model", None)
    made = vae_geometry(vae)
    needed = geometry or WAN21
    wanted = words(
        "SkyReels-V2 needs the {name} VAE ({channels} latent channels): load {file} with Load VAE",
        name=needed.name,
        channels=needed.channels,
        file=needed.vae_file,
    )
    if model is None:
        raise InputError("The VAE is empty, as from a checkpoint without one, but {wanted}.", wanted=wanted)
    is_known = isinstance(model, (*WAN_VAES, TAEHV)) and of_other_latents(model) is None
    # what other packs bring may fit as well
    of_other_models = type(model).__module__.startswith("comfy.") and not is_known
    fits = made is not None and made.channels == (geometry or made).channels
    if made is None or of_other_models or not fits or (streamed and not is_known):
        raise InputError("The VAE is {vae}, but {wanted}.", vae=vae_in_words(vae), wanted=wanted)
    colours = {getattr(vae, name, 3) for name in ("output_channels", "conv_out_channels")}
    if streamed and colours != {3}:
        raise InputError(
            "The VAE makes pictures of {colours} channels, but a long video has 3, and {wanted}.",
            colours=max(colours),
            wanted=wanted,
        )
    return made


def vae_geometry(vae: Any) -> Geometry | None:
    """Return the geometry of the latents that a VAE says it is for, None where that is none that is known."""
    found = GEOMETRIES.get(getattr(vae, "latent_channels", None) or 0)
    if found is None or getattr(vae, "latent_dim", None) != 3:
        return None
    strides = vae.temporal_compression_decode(), vae.spacial_compression_decode()
    return found if strides == (found.temporal, found.spatial) else None


def of_other_latents(model: Any) -> str | None:
    """Return whose latents a tiny VAE scales before it decodes them; None where it takes them as they are, as Wan's."""
    scaling = getattr(getattr(model, "process_in", None), "__self__", None)
    return None if scaling is None else type(scaling).__name__


def vae_in_words(vae: Any) -> Words:
    """Name a VAE's class and the latents that it takes."""
    channels, model = getattr(vae, "latent_channels", None), vae.first_stage_model
    other = of_other_latents(model)
    return words(
        "{name}{taken}{pictures}{other}",
        name=type(model).__name__,
        taken="" if channels is None else words(" for {channels} latent channels", channels=channels),
        pictures=words(" and single pictures") if getattr(vae, "latent_dim", None) == 2 else "",
        other=words(" of {other} (ComfyUI takes a tiny VAE in float16 for that one's)", other=other) if other else "",
    )


def check_latent(latent: dict[str, Any], geometry: Geometry) -> torch.Tensor:
    """Return the samples [B, C, F, h, w] of a LATENT in a geometry; `Raises: InputError` for any other shape.

    An empty latent stands for a size and a length: one of another geometry is made anew.
    """
    samples: torch.Tensor = latent["samples"]
    channels = samples.shape[1] if samples.ndim == 5 else 0
    if channels != geometry.channels and channels in GEOMETRIES and not samples.any():
        return samples.new_zeros(geometry.like(tuple(samples.shape), geometry_of(channels)))
    if channels != geometry.channels:
        raise InputError(
            "The latent has the shape {shape}, but a video latent of [batch, {channels}, frames, "
            "height / {stride}, width / {stride}] is needed: connect SkyReels-V2 Empty Latent.",
            shape=list(samples.shape),
            channels=geometry.channels,
            stride=geometry.spatial,
        )
    return samples


def mask_of(latent: dict[str, Any], frames: int) -> torch.Tensor | None:
    """Return a LATENT's noise mask in float32, None where it has none.

    Args:
        latent: its mask as nodes make it: [B, C, F, H, W], or frames in front of [H, W] in any number of dimensions, of
            any numbers.
        frames: latent frames of the latent.

    Raises:
        InputError: neither one frame for all nor one for each latent frame, which core would stretch in time.
    """
    mask: torch.Tensor | None = latent.get("noise_mask")
    if mask is None:
        return None
    given = mask.shape[2] if mask.ndim == 5 else mask.shape[:-2].numel()
    if given not in (1, frames):
        raise wrong_length(given, frames)
    if mask.is_complex():
        raise no_amounts()
    return mask.float()


def known_of(latent: dict[str, Any]) -> torch.Tensor:
    """Return which latent frames of a LATENT are known, bool [F]; `Raises: InputError` for a mask without an answer."""
    samples = latent["samples"]
    mask = mask_of(latent, samples.shape[2])
    if mask is not None:
        shape = (samples.shape[0], 1, *samples.shape[2:])
        mask = comfy.sampler_helpers.prepare_mask(mask, shape, torch.device("cpu"))
    return known_mask(mask, samples.shape[2])


def check_amounts(mask: torch.Tensor) -> None:
    """Refuse a noise mask with values outside 0 to 1; `Raises: InputError`."""
    if not bool(((mask >= 0) & (mask <= 1)).all()):  # nan too
        raise no_amounts()


def no_amounts() -> InputError:
    """Return the refusal of a noise mask with values outside 0 to 1."""
    return InputError("The noise mask holds values outside 0 to 1: check the node that makes it.")


def in_pixels(size: Sequence[int], geometry: Geometry) -> Words:
    """Return latent frames, rows and columns as a person knows them."""
    frames, rows, columns = size
    height, width = geometry.pixels(rows, columns)
    return words(
        "{frames} frames of {width}x{height}", frames=geometry.video_frames(frames), width=width, height=height
    )

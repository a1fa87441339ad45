"""Pixels to latents and back through ComfyUI's VAE: known frames pinned in time, decoding that fits the memory."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import comfy.utils
import torch

from ...errors import InputError
from ...finite import VAE_ADVICE, check_finite
from ...long.key_frames import GivenImages
from ...model.geometry import geometry_of
from ...words import words
from ..host_flags import spare_memory
from ..model.checks import check_amounts, check_latent, check_vae, mask_of

TILE = 256  # pixels
WHOLE_CLIP = 1 << 20  # a tile longer than any clip: tiles in time restart the causal VAE and leave seams


def encode_images(vae: Any, images: torch.Tensor, samples: torch.Tensor) -> torch.Tensor:
    """Encode a start of a clip, scaled and cropped about the centre to the size of a latent.

    Args:
        vae: a VAE of Wan 2.1 kind.
        images: [n, H, W, 3 or 4] in 0..1; 1 image, or the 4k + 1 first frames of a video.
        samples: the latent video [B, 16, F, H / 8, W / 8] they are for.

    Returns:
        [1, 16, (n - 1) // 4 + 1, H / 8, W / 8].

    Raises:
        InputError: the VAE is of another kind.
        NotFiniteError: the images or the latents made of them hold NaN or infinity.
    """
    check_finite(images, words("The images"), words("check the node that made them"))
    height, width = geometry_of(samples.shape[1]).pixels(*samples.shape[-2:])
    pixels = images[..., :3]
    if tuple(pixels.shape[1:3]) != (height, width):  # core's lanczos cuts to 8 bits even where nothing is scaled
        pixels = comfy.utils.common_upscale(pixels.movedim(-1, 1), width, height, "lanczos", "center").movedim(1, -1)
    latents = vae.encode(pixels)
    if latents.ndim != 5 or latents.shape[1] != samples.shape[1] or latents.shape[-2:] != samples.shape[-2:]:
        raise InputError(
            "The VAE makes latents of shape {shape}, but [1, {channels}, frames, {height}, {width}] is needed here: "
            "load {file} with Load VAE.",
            shape=list(latents.shape),
            file=geometry_of(samples.shape[1]).vae_file,
            channels=samples.shape[1],
            height=samples.shape[-2],
            width=samples.shape[-1],
        )
    latents = latents.float()  # with --fp16-intermediates they come in half precision
    return check_finite(latents, words("What the VAE made of the images"), VAE_ADVICE)


def pin_frames(vae: Any, latent: dict[str, Any], given: GivenImages) -> dict[str, Any]:
    """Put images into a LATENT as known frames: their samples are set and their noise_mask is 0.

    Args:
        vae: a VAE of Wan 2.1 kind.
        latent: samples [B, 16, F, H / 8, W / 8]; its noise_mask stays as it is elsewhere.
        given: the images.

    Returns:
        A new LATENT.

    Raises:
        InputError: a mask of another length, a frame outside the clip or named twice, or more start frames than the
            clip has.
    """
    geometry = check_vae(vae)
    samples = check_latent(latent, geometry)
    samples = check_finite(samples, words("The latent"), words("check the node that made it")).clone()
    frames = samples.shape[2]
    mask = mask_of(latent, frames)
    if mask is None:
        mask = samples.new_ones(1, 1, frames, *samples.shape[-2:])
    else:  # masks of other nodes come in many shapes
        check_finite(mask, words("The latent's noise_mask"), words("check the node that made it"))
        check_amounts(mask)
        mask = comfy.utils.reshape_mask(mask, samples.shape)[:, :1].clone()
    for at, images in given.placed(geometry.video_frames(frames), geometry).items():
        known = encode_images(vae, images, samples)
        samples[:, :, at : at + known.shape[2]] = known.to(samples)
        mask[:, :, at : at + known.shape[2]] = 0
    return {**latent, "samples": samples, "noise_mask": mask}


def decode_video(vae: Any, latent: dict[str, Any], tiling: str) -> torch.Tensor:
    """Decode a LATENT to images.

    Args:
        vae: a VAE of Wan 2.1 kind.
        latent: samples [B, 16, F, H / 8, W / 8].
        tiling: "never", "always", or "auto": in tiles when ComfyUI's estimate does not fit the free memory. Tiles are
            in space only.

    Returns:
        [B * frames, H, W, 3] in 0..1.

    Raises:
        InputError: a VAE or a latent of another kind.
        NotFiniteError: the latent or the images hold NaN or infinity.
    """
    geometry = check_vae(vae)
    samples = check_finite(check_latent(latent, geometry), words("The latent"), words("check the sampler that made it"))
    if tiling == "always" or (tiling == "auto" and not fits_memory(vae, samples)):
        tile = TILE // geometry.spatial
        images = vae.decode_tiled(samples, tile_x=tile, tile_y=tile, overlap=tile // 4, tile_t=WHOLE_CLIP, overlap_t=1)
    else:
        images = vae.decode(samples)  # retries in tiles by itself when the memory runs out all the same
    check_finite(images, words("What the VAE made of the latents"), VAE_ADVICE)
    return images.flatten(0, 1) if images.ndim == 5 else images


def fits_memory(vae: Any, samples: torch.Tensor) -> bool:
    """Whether decoding the whole frame at once fits, by ComfyUI's own estimate, once other models have made room."""
    needed = vae.memory_used_decode(samples.shape, vae.vae_dtype)
    comfy.model_management.load_models_gpu([vae.patcher], memory_required=needed)
    return needed <= spare_memory(vae.device)

"""A clip in whole blocks: latents, noise and conditions are padded to it; and what a part of a clip can't be shown."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import torch

from ...errors import InputError
from ...sampling.noise import seeded_noise
from ...words import words


def pad_frames(latents: torch.Tensor, frames: int) -> torch.Tensor:
    """Repeat the last latent frame of [B, C, F, H, W] until there are `frames`."""
    missing = frames - latents.shape[2]
    return torch.cat((latents, latents[:, :, -1:].expand(-1, -1, missing, -1, -1)), dim=2) if missing else latents


def pad_noise(noise: torch.Tensor, frames: int, seed: int) -> torch.Tensor:
    """Add seeded noise behind [B, C, F, H, W] until there are `frames`."""
    batch, channels, have, height, width = noise.shape
    if have == frames:
        return noise
    extra = seeded_noise((batch, channels, frames - have, height, width), seed, "padding")
    return torch.cat((noise, extra.to(noise)), dim=2)


def pad_conditions(conds: dict[str, list[dict[str, Any]] | None], have: int, frames: int) -> None:
    """Bring conditions with latent frames of their own (image-to-video channels) to the padded number of frames."""
    if have == frames:
        return
    for conditions in conds.values():
        for condition in conditions or ():
            for name, tensor in of_every_frame(condition["model_conds"], have):
                condition["model_conds"][name] = type(condition["model_conds"][name])(pad_frames(tensor, frames))


def check_movable(conds: dict[str, list[dict[str, Any]] | None], frames: int, padded: int) -> None:
    """Refuse conditions that say something of every frame of a clip where the model sees a part of it.

    Args:
        conds: a guider's conditions, processed.
        frames: latent frames of the clip.
        padded: the same in whole blocks.

    Raises:
        InputError: channels for every frame, an area that is a part of the clip's time, or a mask for every frame.
    """
    for conditions in conds.values():
        for condition in conditions or ():
            area: tuple[Any, ...] = tuple(condition.get("area") or ())
            mask = condition.get("mask")
            held: list[Any] = [name for name, _ in of_every_frame(condition.get("model_conds", {}), padded)]
            if len(area) == 6 and (area[3] > 0 or area[0] < frames):  # frames, height, width; where each begins
                held.append(words("an area in time"))
            if mask is not None and mask.ndim == 4 and mask.shape[1] > 1:
                held.append(words("a mask for every frame"))
            if held:
                raise InputError(
                    "The conditioning holds {what} for a clip of {frames} latent frames, but a moving window shows "
                    "the model only a part of them: set window_frames to 0, or remove the node that adds it.",
                    what=held[0],
                    frames=frames,
                )


def check_timeless(conditions: dict[str, list[Any]], size: tuple[int, int, int]) -> None:
    """Refuse CONDITIONING that says something of every frame of a clip, before it is processed for a part of it.

    Args:
        conditions: CONDITIONING by name.
        size: latent frames, rows and columns of the clip.

    Raises:
        InputError: see `check_movable`.
    """
    held = {name: [dict(options) for _, options in given] for name, given in conditions.items()}
    for entries in held.values():
        comfy.samplers.resolve_areas_and_cond_masks_multidim(entries, size, torch.device("cpu"))
    check_movable(dict(held), size[0], size[0])


def of_every_frame(model_conds: dict[str, Any], frames: int) -> list[tuple[str, torch.Tensor]]:
    """Return the conditions [B, C, F, H, W] that belong to every latent frame of a clip, by name."""
    tensors = {name: getattr(value, "cond", None) for name, value in model_conds.items()}
    return [
        (name, tensor)
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor) and tensor.ndim == 5 and tensor.shape[2] == frames
    ]

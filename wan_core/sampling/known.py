"""Known frames (start, end, key frames, overlap, extension): a fixed noise level, and never updated."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import InputError

SHARE_ERROR = 1e-3  # how far a mask's values may be from 0 and 1: what resizing a mask leaves


@dataclass(frozen=True)
class KnownFrames:
    """Frames that are known before a run begins.

    Attributes:
        latents: clean latents [B, C, F, H, W]; only those of known frames are read.
        mask: bool [F], True = known.
        noise: unit normal [B, C, F, H, W], drawn once for the run; None where the model sees them without noise.
    """

    latents: torch.Tensor
    mask: torch.Tensor
    noise: torch.Tensor | None = None

    def noised(self, level: float) -> torch.Tensor:
        """Return the frames as the model sees them at a noise level 0..1 (addnoise_condition / 1000).

        Raises:
            InputError: the model would be told a level that the frames do not have.
        """
        if level == 0:
            return self.latents
        if self.noise is None:
            raise InputError(
                "The noise level of the known frames is {noise_level}, but no noise was given for them: draw it "
                "once for the run, or set the level to 0.",
                noise_level=level,
            )
        return self.latents * (1 - level) + self.noise * level


def leading_known(mask: torch.Tensor) -> int:
    """Return how many frames are known at the start; `mask` is bool [F]."""
    return int(mask.long().cumprod(0).sum())


def known_mask(denoise_mask: torch.Tensor | None, frames: int) -> torch.Tensor:
    """Return which latent frames a host's mask keeps, bool [F].

    Args:
        denoise_mask: [B, C, F, H, W], 0 = known, 1 = to be made, the same over a whole frame; None = all to be made.
        frames: latent frames of the clip.

    Raises:
        InputError: a mask of another length, one that splits a frame, or one with something between 0 and 1.
    """
    if denoise_mask is None:
        return torch.zeros(frames, dtype=torch.bool)
    mask = denoise_mask.movedim(2, 0).flatten(1).cpu()  # [F, everything else]
    if len(mask) != frames:
        raise wrong_length(len(mask), frames)
    low, high = mask.amin(dim=1), mask.amax(dim=1)
    mixed = torch.nonzero(high - low > SHARE_ERROR).flatten().tolist()
    if mixed:
        raise InputError(
            "The noise mask splits latent frame {frame}, but diffusion forcing keeps or makes whole frames: "
            "set the mask of each frame to 0 (known) or 1 everywhere.",
            frame=mixed[0],
        )
    clear = torch.minimum(high.abs(), (high - 1).abs()) <= SHARE_ERROR  # False for nan too
    if not bool(clear.all()):
        frame = int(torch.nonzero(~clear)[0])
        raise InputError(
            "The noise mask is {value:.3g} on latent frame {frame}, but diffusion forcing keeps a frame (0) or makes "
            "it (1): use 0 or 1; addnoise_condition sets how much noise the model sees on kept frames.",
            value=float(high[frame]),
            frame=frame,
        )
    return high < 0.5


def wrong_length(given: int, frames: int) -> InputError:
    """Return the refusal of a mask of so many latent frames where the latent has others."""
    return InputError(
        "The noise mask has {given} latent frames, but the latent has {frames}: make the mask from the latent's "
        "own frames, or leave it out.",
        given=given,
        frames=frames,
    )

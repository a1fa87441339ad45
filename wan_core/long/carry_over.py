"""How a segment hands its end on to the next one. Another way is a class here and its entry of CARRY_OVERS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from .plan import Plan


@dataclass(frozen=True)
class Pixels:
    """The way to video frames and back.

    Attributes:
        decode: latents [B, C, F, h, w] -> frames [B, n, H, W, 3].
        encode: frames of a clip [B, n, H, W, 3] -> latents [B, C, f, h, w].
    """

    decode: Callable[[torch.Tensor], torch.Tensor]
    encode: Callable[[torch.Tensor], torch.Tensor]


class Latents:
    """The latents as they are: no colour shifts on a way through pixels.

    Args:
        pixels: for ways that need them.
    """

    about = "unchanged"  # for the tooltip of carry_over

    def __init__(self, pixels: Pixels | None = None):
        self.pixels = pixels

    def tail(self, window: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Return what the next segment begins with [B, C, overlap, h, w]; `window`: this one [B, C, F, h, w]."""
        return window[:, :, -plan.overlap :]


class Frames(Latents):
    """Decoded, and the last frames encoded as a clip of their own, as the authors' program does it."""

    about = "decoded and re-encoded, as in the authors' program; colours drift more"

    def tail(self, window: torch.Tensor, plan: Plan) -> torch.Tensor:
        """Return what the next segment begins with; see `Latents.tail`."""
        assert self.pixels is not None
        frames = plan.geometry.video_frames(plan.overlap)
        return self.pixels.encode(self.pixels.decode(window)[:, -frames:])


CARRY_OVERS: dict[str, type[Latents]] = {"latents": Latents, "frames": Frames}
USUAL = "latents"  # the one way that methods without overlaps accept, as they read none

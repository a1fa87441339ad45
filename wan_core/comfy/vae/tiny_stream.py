"""Decoding a latent video piece by piece with a tiny VAE (TAEHV): a draft of what the whole VAE shows, much sooner.

Its decoder remembers one frame at each of a few places, so a piece is decoded behind the last latent frames before it:
after as many as it can reach back, its frames are those of decoding everything at once, to the bit.

Source: TAEHV, Ollin Boer Bohan 2025; the decoder is ComfyUI's.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from comfy.taesd.taehv import TAEHV, MemBlock, TGrow

from ...finite import VAE_ADVICE, check_finite
from ...words import words
from ..model.checks import check_vae
from .stream import StreamingDecoder


def reach(decoder: torch.nn.Sequential) -> int:
    """Return how many latent frames a tiny decoder looks back: at its rate one frame for each block that remembers."""
    back, rate = 0.0, 1
    for layer in decoder:
        if isinstance(layer, TGrow):
            rate *= layer.stride
        back += isinstance(layer, MemBlock) / rate
    return math.ceil(back)


class TinyStreamingDecoder:
    """The decoder of a tiny VAE in the middle of a video; see `StreamingDecoder`, whose place it takes.

    Args:
        vae: a tiny VAE for the latents of a Wan model.

    Raises:
        InputError: the VAE is of another kind.
    """

    waiting: torch.Tensor | None = None  # no frame has to

    def __init__(self, vae: Any):
        self.geometry = check_vae(vae, streamed=True)
        self.vae = vae
        self.reach = reach(vae.first_stage_model.decoder)
        self.history = torch.zeros(0)  # the last latent frames pushed [1, C, f, h, w], on the CPU

    def push(self, samples: torch.Tensor, final: bool = False) -> torch.Tensor:
        """Decode the next piece.

        Args:
            samples: latent frames [1, C, f, h, w] that follow those pushed before.
            final: no piece follows; nothing is held back in any case.

        Returns:
            Video frames [n, H, W, 3] in 0..1 on the CPU; n is 4 for each latent frame, 1 for the very first.

        Raises:
            NotFiniteError: the samples or the pictures hold NaN or infinity.
        """
        check_finite(samples, words("The latents to decode"), words("check the sampler that made them"))
        begins, new = not self.history.numel(), samples.shape[2]
        together = samples.cpu() if begins else torch.cat((self.history, samples.cpu()), dim=2)
        frames = self.vae.decode(together)[0]
        if not begins:
            frames = frames[len(frames) - self.geometry.temporal * new :]
        self.warm_up(together)
        return check_finite(frames, words("What the VAE made of the latents"), VAE_ADVICE).float().cpu().clamp(0, 1)

    def park(self) -> None:
        """Nothing is on the device between two pieces."""

    def warm_up(self, samples: torch.Tensor) -> None:
        """Bring a new decoder into the state it had after a video, from its `history`."""
        self.history = samples[:, :, -self.reach :].clone()


Decoder = StreamingDecoder | TinyStreamingDecoder


def streaming_decoder(vae: Any) -> Decoder:
    """Return the decoder in the middle of a video that a VAE takes; `Raises: InputError` if it is of another kind."""
    tiny = isinstance(getattr(vae, "first_stage_model", None), TAEHV)
    return TinyStreamingDecoder(vae) if tiny else StreamingDecoder(vae)

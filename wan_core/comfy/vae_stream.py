"""Decoding a latent video piece by piece: the causal VAE's memory is carried from one piece to the next.

The frames are those of decoding everything at once, to the bit, but only one piece is in memory; the memory of a
decoder that waits (between two segments of a long video) can be parked on the CPU.

A Wan VAE turns the first latent frame into one video frame and every later one into four. Newer hosts decode later
frames in pairs, and give other values for single ones, so an odd frame waits here for the next piece.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.wan.vae
import comfy.model_management
import torch

from ..errors import InputError
from ..segments import SPATIAL

# Latent frames after which nothing of a frame is left in the memory: 2 for each causal convolution, at the rate it runs
# at: 11 convolutions at the latent rate, 7 at twice and 14 at four times of it, and those of the two upsamplings.
MEMORY_FRAMES = 40


class StreamingDecoder:
    """The decoder of a Wan 2.1 VAE in the middle of a video.

    Args:
        vae: a VAE of Wan 2.1 kind.

    Raises:
        InputError: the VAE is of another kind.
    """

    def __init__(self, vae: Any):
        model = vae.first_stage_model
        if not isinstance(model, comfy.ldm.wan.vae.WanVAE):
            raise InputError(
                f"The VAE is {type(model).__name__}, but a long video is decoded with a Wan 2.1 VAE: load wan_2.1_vae "
                "with VAELoader."
            )
        self.vae = vae
        self.model = model
        count_layers = getattr(comfy.ldm.wan.vae, "count_cache_layers", None)
        self.frames_at_once = 1 if count_layers is None else 2
        count_layers = count_layers or comfy.ldm.wan.vae.count_conv3d  # its name in 0.8
        self.memory: list[Any] = [None] * count_layers(model.decoder)
        self.waiting: torch.Tensor | None = None
        self.begun = False

    def push(self, samples: torch.Tensor, final: bool = False) -> torch.Tensor:
        """Decode the next piece.

        Args:
            samples: latent frames [1, 16, f, H / 8, W / 8] that follow those pushed before.
            final: no piece follows, so nothing is held back.

        Returns:
            Video frames [n, H, W, 3] in 0..1 on the CPU; n is 4 for each latent frame decoded, 1 for the very first.
        """
        if self.waiting is not None:
            samples = torch.cat((self.waiting, samples.to(self.waiting)), dim=2)
        chunks, self.waiting = self.split(samples, final)
        if not chunks:
            height, width = samples.shape[-2] * SPATIAL, samples.shape[-1] * SPATIAL
            return torch.zeros(0, height, width, 3)
        self.load(samples.shape)
        return torch.cat([self.decode(chunk) for chunk in chunks])

    def split(self, samples: torch.Tensor, final: bool) -> tuple[list[torch.Tensor], torch.Tensor | None]:
        """Return the chunks that can be decoded now, and what has to wait."""
        first = 0 if self.begun else 1
        chunks = [samples[:, :, :1]] if first and samples.shape[2] else []
        at, frames = first, samples.shape[2]
        while at < frames and (final or at + self.frames_at_once <= frames):
            chunks.append(samples[:, :, at : at + self.frames_at_once])
            at += self.frames_at_once
        return chunks, samples[:, :, at:] if at < frames else None

    def load(self, shape: torch.Size) -> None:
        """Bring the VAE, and what it remembers, onto its device."""
        needed = self.vae.memory_used_decode(shape, self.vae.vae_dtype)
        comfy.model_management.load_models_gpu([self.vae.patcher], memory_required=needed)
        self.memory = moved(self.memory, self.vae.device)

    def decode(self, chunk: torch.Tensor) -> torch.Tensor:
        """Decode one chunk [1, 16, 1 or 2, h, w] to frames [n, H, W, 3]."""
        z = self.model.conv2(chunk.to(device=self.vae.device, dtype=self.vae.vae_dtype))
        out = self.model.decoder(z, feat_cache=self.memory, feat_idx=[0])
        self.begun = True
        video = out if isinstance(out, torch.Tensor) else torch.cat(out, dim=2)  # a list of pieces in newer hosts
        video = self.vae.process_output(video.float().cpu())
        return video[0].movedim(0, -1)

    def park(self) -> None:
        """Move what the decoder remembers to the CPU, to leave the device to the transformer."""
        self.memory = moved(self.memory, torch.device("cpu"))

    def warm_up(self, samples: torch.Tensor) -> None:
        """Bring a new decoder into the state it had after a video, from the last latent frames of it.

        Args:
            samples: [1, 16, f, H / 8, W / 8], the last frames already decoded, an odd number of them or all; with
                MEMORY_FRAMES + 1 or more the frames that follow equal those of the undisturbed decoder to the bit.
        """
        self.push(samples)


def moved(memory: list[Any], device: torch.device) -> list[Any]:
    """Return the decoder's memory on a device; entries that are no tensor (none yet, a marker) stay as they are."""
    return [entry.to(device) if isinstance(entry, torch.Tensor) else entry for entry in memory]

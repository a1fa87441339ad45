"""The transformer's training clips as latents: drawn, rendered and encoded once, then kept in half precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from tqdm import tqdm

from demo.shapes import FPS, Clips, draw_clips, render, with_surges
from demo.training import half_precision
from demo.vae import encode

CLIP_LATENTS = 12  # latent frames of a clip
CLIP_FRAMES = 4 * (CLIP_LATENTS - 1) + 1
CLIPS_PER_CALL = 4
SURGE_SHARE = 1 / 3  # of the straight motions that change their pace


@dataclass(frozen=True)
class Pool:
    """Clips and their latents, half precision [B, 16, CLIP_LATENTS, 8, 8], in the transformer's scale.

    Attributes:
        clips: what they show.
        latents: of the clips.
        stills: for every latent frame its last picture encoded alone, as an end image or a key image is.
    """

    clips: Clips
    latents: Tensor
    stills: Tensor


@torch.inference_mode()
def encode_clips(vae: AutoencoderKLWan, clips: Clips, device: str) -> tuple[Tensor, Tensor]:
    """Return latents and stills of clips, see `Pool`."""
    latents, stills = [], []
    for first in tqdm(range(0, len(clips), CLIPS_PER_CALL), desc="encoding", unit="batch", mininterval=5):
        pixels = render(clips[slice(first, first + CLIPS_PER_CALL)], CLIP_FRAMES).to(device)
        with half_precision(device):
            latents.append(encode(vae, pixels).half().cpu())
            alone = encode(vae, pixels[:, ::4].flatten(0, 1).unsqueeze(1))  # [B * CLIP_LATENTS, 16, 1, 8, 8]
        stills.append(alone[:, :, 0].unflatten(0, (-1, CLIP_LATENTS)).transpose(1, 2).half().cpu())
    return torch.cat(latents), torch.cat(stills)


def make_pool(vae: AutoencoderKLWan, count: int, seed: int, device: str = "cpu", kept: Path | None = None) -> Pool:
    """Draw and encode clips.

    Args:
        vae: the trained one.
        count: number of clips.
        seed: of the clips.
        device: where to encode.
        kept: file for the latents, read when it is there.
    """
    clips = with_surges(draw_clips(count, seed), SURGE_SHARE, CLIP_FRAMES / max(FPS), seed)
    if kept is not None and kept.exists():
        return Pool(clips, *torch.load(kept, weights_only=True))
    latents, stills = encode_clips(vae.to(device), clips, device)
    if kept is not None:
        torch.save((latents, stills), kept)
    return Pool(clips, latents, stills)

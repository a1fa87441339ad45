"""The demo's tiny stand-ins: a Wan transformer, a VAE and a text encoder that fit a laptop. Their weights are random.

They have the architecture of the real ones, so the sampler does its real work; what they paint has no meaning until
trained weights take their place.
"""

from __future__ import annotations

import hashlib

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from wan_core.config import WanConfig
from wan_core.model import WanModel

WEIGHT_SEED = 2025
TEXT_TOKENS = 32
CONFIG = WanConfig(
    dim=96, ffn_dim=256, num_heads=4, num_layers=4, text_dim=64, text_len=TEXT_TOKENS, inject_sample_info=True
)


def tiny_transformer() -> WanModel:
    """Return a transformer of 0.7 million random weights, the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(WEIGHT_SEED)
        model = WanModel(CONFIG)
        model.init_weights()
        # training starts from a head of zeros, and a model that answers zero would show nothing at all
        nn.init.xavier_uniform_(model.head.head.weight)
    return model.eval().requires_grad_(False)


def tiny_vae() -> AutoencoderKLWan:
    """Return a Wan VAE a twelfth as wide as the real one, with random weights, the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(WEIGHT_SEED)
        vae = AutoencoderKLWan(base_dim=8, z_dim=CONFIG.out_dim, num_res_blocks=1)
    return vae.eval().requires_grad_(False)


def embed_prompt(prompt: str) -> Tensor:
    """Return random tokens [1, TEXT_TOKENS, text_dim], the same for the same prompt and unlike any other's."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:7], "big")
    return torch.randn(1, TEXT_TOKENS, CONFIG.text_dim, generator=torch.Generator().manual_seed(seed))


def decode(vae: AutoencoderKLWan, latents: Tensor) -> Tensor:
    """Return the pixels of latents.

    Args:
        vae: the decoder.
        latents: [1, 16, F, H, W], in the model's scale (unit spread per channel).

    Returns:
        float [4 * (F - 1) + 1, 8 * H, 8 * W, 3], 0..1.
    """
    mean = latents.new_tensor(vae.config.latents_mean)[:, None, None, None]
    spread = latents.new_tensor(vae.config.latents_std)[:, None, None, None]
    pixels = vae.decode(latents * spread + mean).sample[0]  # [3, frames, height, width], -1..1
    return (pixels.permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)

"""How much memory a forward pass takes beside weights and inputs, told before it runs; also with a cache."""

from __future__ import annotations

import math

from .config import WanConfig
from .layers import PART_TOKENS

# token streams [B, L, dim] that live at once: 5 at the peak (6 where an image is read too), and a margin for what
# attention kernels, neighbours' patches and weights that are cast on their way take
STREAMS = 9
# of the cached frames two: their keys and values, joined with those of the frames at work; and a margin for kernels
# that make their own copy of what they read (quantised attention)
SEEN_STREAMS = 3


def token_count(config: WanConfig, batch: int, latent: tuple[int, int, int]) -> int:
    """Return the tokens of `batch` latent videos of so many frames, rows and columns."""
    return batch * math.prod(-(-size // patch) for size, patch in zip(latent, config.patch_size, strict=True))


def forward_bytes(config: WanConfig, batch: int, latent: tuple[int, int, int], value_bytes: int) -> int:
    """Return the bytes to keep free for a forward pass with an attention kernel that builds no L x L tensor.

    Args:
        config: the model.
        batch: latent videos in one call.
        latent: latent frames, height and width.
        value_bytes: bytes of a value in the dtype that is computed in.
    """
    tokens = token_count(config, batch, latent)
    return value_bytes * (STREAMS * tokens * config.dim + min(tokens, PART_TOKENS) * config.ffn_dim)


def seen_bytes(config: WanConfig, batch: int, latent: tuple[int, int, int], value_bytes: int) -> int:
    """Return the bytes to keep free beside `forward_bytes` where a forward pass looks at cached frames.

    Attention joins them with its own in one layer after the other; on the device that computes, wherever they are kept.

    Args:
        config: the model.
        batch: latent videos in one call.
        latent: cached latent frames, height and width.
        value_bytes: bytes of a value in the dtype that is computed in.
    """
    return value_bytes * SEEN_STREAMS * token_count(config, batch, latent) * config.dim


def kept_bytes(config: WanConfig, batch: int, latent: tuple[int, int, int], value_bytes: int) -> int:
    """Return what the keys and values of latent frames take in all layers, for one condition; see `seen_bytes`."""
    return value_bytes * 2 * token_count(config, batch, latent) * config.dim * config.num_layers

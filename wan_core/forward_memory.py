"""How much memory a forward pass takes beside weights and inputs, told before it runs."""

from __future__ import annotations

from .blocks import PART_TOKENS
from .config import WanConfig

# token streams [B, L, dim] that live at once: 5 at the peak (6 where an image is read too), and a margin for what
# attention kernels, neighbours' patches and weights that are cast on their way take
STREAMS = 9


def forward_bytes(config: WanConfig, batch: int, latent: tuple[int, int, int], value_bytes: int) -> int:
    """Return the bytes to keep free for a forward pass with an attention kernel that builds no L x L tensor.

    Args:
        config: the model.
        batch: latent videos in one call.
        latent: latent frames, height and width.
        value_bytes: bytes of a value in the dtype that is computed in.
    """
    frames, rows, columns = (-(-size // patch) for size, patch in zip(latent, config.patch_size, strict=True))
    tokens = batch * frames * rows * columns
    return value_bytes * (STREAMS * tokens * config.dim + min(tokens, PART_TOKENS) * config.ffn_dim)

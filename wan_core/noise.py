"""Seeded noise: drawn on the CPU, so that a run is the same on any device, in streams that do not meet."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seeded_noise(shape: tuple[int, ...], seed: int, stream: str) -> torch.Tensor:
    """Draw unit normal noise.

    Args:
        shape: shape of the result.
        seed: the user's seed, 0 or more.
        stream: what the noise is for ("condition", "padding", ...): one seed gives each purpose noise of its own.

    Returns:
        float32 tensor on the CPU.
    """
    state = np.random.SeedSequence([seed, zlib.crc32(stream.encode())]).generate_state(1, np.uint64)
    generator = torch.Generator("cpu").manual_seed(int(state[0]) >> 1)
    return torch.randn(shape, generator=generator)

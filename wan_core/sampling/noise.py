"""Seeded noise: drawn on the CPU, so that a run is the same on any device, in streams that do not meet."""

from __future__ import annotations

import zlib

import numpy as np
import torch

KNOWN = -1  # the "step" of the noise that the model sees on known frames


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


def noise_of_frames(shape: tuple[int, ...], seed: int, first_frame: int = 0, step: int = 0) -> torch.Tensor:
    """Draw unit normal noise frame by frame, the same for a frame whatever is drawn with it or before it.

    So a video does not depend on how it is cut into blocks, and a longer one begins as a shorter one.

    Args:
        shape: [B, C, F, H, W].
        seed: the user's seed, 0 or more.
        first_frame: number of the first latent frame in the video.
        step: 0 for the noise to start from, n for what is added after step n, KNOWN for that of known frames.

    Returns:
        float32 [B, C, F, H, W] on the CPU.
    """
    batch, channels, frames, height, width = shape
    one = (batch, channels, 1, height, width)
    numbers = range(first_frame, first_frame + frames)
    return torch.cat([seeded_noise(one, seed, f"frame {number} step {step}") for number in numbers], dim=2)


def fresh_noise(shape: tuple[int, ...], seed: int, steps: int, first_frame: int = 0) -> torch.Tensor:
    """Draw what a few-step solver ("lcm") adds between its steps, see `noise_of_frames`.

    Args:
        shape: [B, C, F, H, W].
        seed: the user's seed, 0 or more.
        steps: denoising steps of a frame, 1 or more.
        first_frame: number of the first latent frame in the video.

    Returns:
        float32 [steps - 1, B, C, F, H, W] on the CPU.
    """
    drawn = [noise_of_frames(shape, seed, first_frame, step) for step in range(1, steps)]
    return torch.stack(drawn) if drawn else torch.zeros(0, *shape)

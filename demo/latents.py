"""What the embedded VAE's latents are: fixed linear functions of the pixels, which its encoder is taught to compute.

A picture that is a mixture of two has the mixture of their latents, so a shape looks alike in all colours, and latents
change smoothly as it moves. An encoder that is free to choose finds others, from which the tiny transformer learns
several times more slowly: the same outline has other numbers in each of the 18 pairs of colours.

For every colour channel a cell of 8 x 8 pixels has four values of the last of its video frames, seen through a soft
window of twice the size: the mean, the slope to the right, the slope downwards, and how much darker the middle is than
the rim. A fifth is how much the mean changed over the cell's four frames. The sixteenth latent channel is always 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CELL = 8  # pixels
WINDOW = 16  # pixels
COLOUR_CHANNELS = 3
PATTERNS = 4
CHANGE = slice(PATTERNS * COLOUR_CHANNELS, (PATTERNS + 1) * COLOUR_CHANNELS)  # channels; 0 in a picture alone
LATENT_CHANNELS = (PATTERNS + 1) * COLOUR_CHANNELS + 1  # one is spare
# so that the latents' spread is about 1 for means, 0.8 for slopes, 0.6 for the others
PATTERN_GAINS = (0.137, 0.615, 0.615, 1.0)
CHANGE_GAIN = 2.5


def patterns() -> Tensor:
    """Return what a cell is multiplied with, [PATTERNS, WINDOW, WINDOW]: rows, columns."""
    place = (torch.arange(WINDOW) + 0.5) / (WINDOW / 2) - 1
    bell, slope = torch.cos(math.pi / 2 * place) ** 2, torch.sin(math.pi * place)
    ring = bell * torch.cos(math.pi * place)
    ring = ring - bell * ring.sum() / bell.sum()  # blind to plain cells
    outer = torch.outer
    kernels = torch.stack(
        (outer(bell, bell), outer(bell, slope), outer(slope, bell), outer(bell, ring) + outer(ring, bell))
    )
    return kernels / kernels.flatten(1).norm(dim=1).view(-1, 1, 1) * torch.tensor(PATTERN_GAINS).view(-1, 1, 1)


def seen_through(kernels: Tensor, pixels: Tensor) -> Tensor:
    """Return the values [B, F, K, 3, H / 8, W / 8] of K patterns [K, WINDOW, WINDOW] in pictures [B, F, 3, H, W]."""
    margin = (WINDOW - CELL) // 2
    padded = functional.pad(pixels.flatten(0, 2).unsqueeze(1), (margin,) * 4, mode="replicate")
    values = functional.conv2d(padded, kernels.to(pixels).unsqueeze(1), stride=CELL)
    return values.unflatten(0, pixels.shape[:3]).transpose(2, 3)


def linear_latents(pixels: Tensor) -> Tensor:
    """Return the latents [B, 16, F, H / 8, W / 8], in the transformer's scale, of clips.

    Args:
        pixels: float [B, 4 * (F - 1) + 1, H, W, 3], 0..1.
    """
    frames = pixels.permute(0, 1, 4, 2, 3) * 2 - 1  # [B, N, 3, H, W]
    last, first = frames[:, ::4], torch.cat((frames[:, :1], frames[:, 1::4]), dim=1)  # of each latent frame
    kernels = patterns()
    now = seen_through(kernels, last)
    change = CHANGE_GAIN * (now[:, :, 0] - seen_through(kernels[:1], first)[:, :, 0])  # [B, F, 3, h, w]
    spare = torch.zeros_like(change[:, :, :1])
    return torch.cat((now.flatten(2, 3), change, spare), dim=2).transpose(1, 2)


def preview_factors() -> list[list[float]]:
    """Return what turns latents into the red, green and blue (-1..1) of a cell's mean: [LATENT_CHANNELS][3]."""
    plain = float(patterns()[0].sum())  # what the mean's pattern makes of a plain cell of value 1
    return [[(channel == colour) / plain for colour in range(COLOUR_CHANNELS)] for channel in range(LATENT_CHANNELS)]


def alone(latents: Tensor) -> Tensor:
    """Return for latents [B, 16, ...] of clips those of each latent frame's last picture, as key images have."""
    latents = latents.clone()
    latents[:, CHANGE] = 0
    return latents

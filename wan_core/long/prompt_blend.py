"""Prompt travel: how much each prompt counts in each latent frame, where one prompt goes over into the next.

The overlap of a segment is finished and stays as it is, so a blend lies in the first new frames behind it. There every
prompt gets a prediction of its own, and the weights here mix them frame by frame.

Source: mixing the predictions of several prompts is that of composable diffusion (Liu et al. 2022).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import torch


def prompt_weights(
    starts: Sequence[int], conditions: Sequence[int], frames: torch.Tensor, blend: int
) -> dict[int, torch.Tensor]:
    """Return the prompts that some latent frames are made from, and how much each counts.

    Where the prompt changes, the new one grows in equal steps: it counts k / (blend + 1) in the k-th new latent frame.
    A blend that is longer than its place goes on in the next.

    Args:
        starts: the first latent frame of every place that has a prompt, rising from 0 (`Plan.places`).
        conditions: number of the prompt of every place.
        frames: numbers of the latent frames [F], 0 or more.
        blend: latent frames that a change takes; 0 changes at once.

    Returns:
        Number of the prompt -> weights [F], the newest prompt first; in every frame they sum to 1. Prompts that count
        nowhere are left out.
    """
    left = torch.ones(len(frames))
    weights: dict[int, torch.Tensor] = {}
    index = bisect_right(starts, int(frames.max())) - 1
    while bool(left.any()):
        condition = conditions[index]
        while index and conditions[index - 1] == condition:
            index -= 1
        share = ((frames - starts[index] + 1) / (blend + 1)).clamp(0, 1) if index else torch.ones_like(left)
        if bool((left * share).any()):
            weights[condition] = weights.get(condition, 0) + left * share
        left = left * (1 - share)
        index -= 1
    return weights

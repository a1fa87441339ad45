"""Prompt travel: how much each prompt counts in each latent frame, where one prompt goes over into the next.

The overlap of a segment is finished and stays as it is, so a blend lies in the first new frames behind it. There every
prompt gets a prediction of its own, and the weights here mix them frame by frame.

Source: mixing the predictions of several prompts is that of composable diffusion (Liu et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .segments import Plan, Segment


def prompt_weights(plan: Plan, conditions: Sequence[int], segment: Segment, blend: int) -> dict[int, torch.Tensor]:
    """Return the prompts that a segment is made from, and how much each counts.

    Where the prompt changes, the new one grows in equal steps: it counts k / (blend + 1) in the k-th new latent frame.
    A blend that is longer than its segment goes on in the next.

    Args:
        plan: all segments.
        conditions: number of the prompt of every segment.
        segment: the one that is made.
        blend: latent frames that a change takes; 0 changes at once.

    Returns:
        Number of the prompt -> weights [F] of the window's latent frames, the newest prompt first; in every frame they
        sum to 1. Prompts that count nowhere are left out.
    """
    first, behind = segment.latents
    at = torch.arange(segment.start, segment.start + segment.length).clamp(first, behind - 1)  # known frames: any
    left = torch.ones(segment.length)
    weights: dict[int, torch.Tensor] = {}
    index = segment.index
    while bool(left.any()):
        condition = conditions[index]
        while index and conditions[index - 1] == condition:
            index -= 1
        share = torch.ones_like(left)
        if index:
            share = ((at - plan.segments[index].latents[0] + 1) / (blend + 1)).clamp(0, 1)
        weights[condition] = weights.get(condition, 0) + left * share
        left = left * (1 - share)
        index -= 1
    return weights

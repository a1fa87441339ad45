"""What the step cache will save of a long video, told before it is made."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..sampling.reuse import Way, expected
from ..sampling.run import ForcingOptions, plan_run
from .plan import MOVING_WINDOW, ROLLING, Plan

MOST_ROWS, MOST_FRAMES = 2000, 2000  # of what is looked through: the answer is wanted at once
WINDOWS = 3  # of a moving window are as good as all


def expected_ratio(plan: Plan, sigmas: Tensor, distance: float, causal_attention: bool = False) -> float | None:
    """Return how many times fewer latent frames are computed; None where it is not known or nothing is left out.

    A segment in the middle stands for all.

    Args:
        plan: of the video.
        sigmas: the noise schedule [steps + 1].
        distance: of the step cache, see `sampling.reuse`.
        causal_attention: whether a block sees only itself and those before it.
    """
    frames, moving = plan.seen, plan.method == MOVING_WINDOW
    if plan.method == ROLLING or plan.segments[0].rows > MOST_ROWS or frames > MOST_FRAMES:
        return None
    options = ForcingOptions(ar_step=plan.ar_step, causal_block_size=plan.causal_block_size)
    if moving:
        options, frames = replace(options, window_frames=frames), min(WINDOWS * frames, plan.latent_frames)
    known = [False] * frames if moving else plan.segments[min(1, len(plan.segments) - 1)].known()
    rows = plan_run(options, sigmas, len(known), torch.tensor(known)).rows
    report = expected(rows, Way(distance, causal_attention, apart=plan.ar_step > 0))
    return report.frames / report.computed if report.computed < report.frames else None

"""The noise schedule: flow-matching sigmas with a shift, and the timesteps the models were sampled with.

Source: Esser et al. 2024 (shifted rectified flow); numbers of the SkyReels-V2 release (1000 training steps).
"""

from __future__ import annotations

import numpy as np
import torch

from .errors import ScheduleError

TRAIN_STEPS = 1000
SIGMA_MAX = 0.999  # the first training step; a frame that has not begun is shown to the model at this level
FULL_NOISE = 0.99  # from here up a schedule starts from pure noise, below it from a noised video
FLOAT32_ERROR = 1e-4  # what float32 can lose of sigma * 1000: half a unit in the last place, twice


def flow_sigmas(steps: int, shift: float = 8.0) -> torch.Tensor:
    """Return the noise levels of a clip, evenly spaced before the shift.

    Args:
        steps: denoising steps, 1 or more.
        shift: 1 = even spacing; above 1 spends more steps at high noise.

    Returns:
        float32 [steps + 1], falling to 0.

    Raises:
        ScheduleError: no steps, or a shift that is not positive.
    """
    if steps < 1:
        raise ScheduleError(f"steps is {steps}, but at least 1 is needed: the authors use 30 to 50.")
    if not shift > 0:
        raise ScheduleError(f"shift is {shift}, but it has to be above 0: the authors use 8 or 5.")
    # the release keeps its first sigma in float32 before it computes in float64
    sigmas = np.linspace(float(np.float32(SIGMA_MAX)), 0.0, steps + 1)[:-1]
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    return torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))


def timesteps_of(sigmas: torch.Tensor) -> torch.Tensor:
    """Return the whole timesteps (0..1000, float32) of sigmas (0..1) of any shape.

    The release cuts timesteps to whole numbers. In float32 a sigma of exactly k / 1000 may come out a hair below k, so
    what is nearer to a whole number than float32 can tell is taken for it.
    """
    scaled = sigmas.float() * TRAIN_STEPS
    nearest = scaled.round()
    return torch.where((nearest - scaled).abs() < FLOAT32_ERROR, nearest, scaled.floor())


def noise_levels(sigmas: torch.Tensor) -> torch.Tensor:
    """Return the sigma of every step index, [steps + 2]: not begun, before step 1 ... steps, finished."""
    first = SIGMA_MAX if float(sigmas[0]) >= FULL_NOISE else float(sigmas[0])
    return torch.cat((sigmas.new_tensor([first]), sigmas))


def row_sigmas(sigmas: torch.Tensor, step_index: torch.Tensor, known: torch.Tensor | None = None) -> torch.Tensor:
    """Return one sigma for each row of a schedule: the mean over the frames that are being made.

    Every row denoises at least one frame, so this falls strictly from row to row; where all frames go together it is
    the ordinary sigma. A frame that has not begun counts as the first sigma.

    Args:
        sigmas: [steps + 1], falling to 0.
        step_index: [R, F], 0 = not begun, i = before step i, steps + 1 = finished.
        known: bool [F], frames that are not made and do not count.

    Returns:
        float32 [R] on the CPU.
    """
    sigmas = sigmas.cpu().double()  # in this order: not every device has float64
    levels = torch.cat((sigmas[:1], sigmas))[step_index]
    if known is not None:
        levels = levels[:, ~known]
    return levels.mean(dim=1).float()

"""The noise schedule: flow-matching sigmas with a shift, and the timesteps the models were sampled with.

Source: Esser et al. 2024 (shifted rectified flow); numbers of the SkyReels-V2 release (1000 training steps).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from ..errors import InputError, ScheduleError
from ..words import words

TRAIN_STEPS = 1000
SIGMA_MAX = 0.999  # the first training step; a frame that has not begun is shown to the model at this level
MOST_NOISE = 1.001  # of a flow model, with room for rounding
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
        raise ScheduleError("steps is {steps}, but at least 1 is needed: the authors use 30 to 50.", steps=steps)
    if not shift > 0:
        raise ScheduleError("shift is {shift}, but it has to be above 0: the authors use 8 or 5.", shift=shift)
    # the release keeps its first sigma in float32 before it computes in float64
    sigmas = np.linspace(float(np.float32(SIGMA_MAX)), 0.0, steps + 1)[:-1]
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    return torch.from_numpy(np.append(sigmas, 0.0).astype(np.float32))


def parse_timesteps(text: str) -> tuple[float, ...]:
    """Return the timesteps of a text such as "1000, 750, 500, 250"; a 0 at the end, where every list ends, is dropped.

    Raises:
        ScheduleError: no numbers, or numbers that are no timesteps or do not fall.
    """
    asks = words("write what the model was distilled with, from 1000 down, for example 1000, 750, 500, 250")
    seen = words('timesteps is "{text}"', text=text[:60])
    try:
        values = [float(part) for part in text.replace(",", " ").replace("\uff0c", " ").split()]
    except ValueError:
        raise ScheduleError(
            "{seen}, but it has to be numbers separated by commas: {asks}.", seen=seen, asks=asks
        ) from None
    if values and values[-1] == 0:
        values.pop()
    if not values:
        raise ScheduleError("timesteps is empty, but at least one step is needed: {asks}.", asks=asks)
    if not all(0 < value <= TRAIN_STEPS for value in values):
        raise ScheduleError(
            "{seen}, but each has to be above 0 and at most {most}: {asks}.", seen=seen, most=TRAIN_STEPS, asks=asks
        )
    if any(later >= earlier for earlier, later in pairwise(values)):
        raise ScheduleError("{seen}, but they have to fall from step to step: {asks}.", seen=seen, asks=asks)
    return tuple(values)


def warped_sigmas(timesteps: Sequence[float], shift: float = 5.0) -> torch.Tensor:
    """Return the noise levels of a list of timesteps, as few-step models are distilled with.

    Args:
        timesteps: falling from at most 1000, before the shift; without the 0 at the end.
        shift: 1 = the timesteps as they are.

    Returns:
        float32 [steps + 1], falling to 0.

    Raises:
        ScheduleError: a shift that is not positive.

    Source: the warped `denoising_step_list` of Self Forcing (Huang et al. 2025): 1000, 750, 500, 250 with shift 5 are
        the timesteps 1000, 937.5, 833.3, 625.
    """
    if not shift > 0:
        raise ScheduleError("shift is {shift}, but it has to be above 0: few-step Wan models use 5.", shift=shift)
    sigmas = torch.tensor([*timesteps, 0.0], dtype=torch.float64) / TRAIN_STEPS
    return (shift * sigmas / (1 + (shift - 1) * sigmas)).float()


def exact_timesteps(sigmas: torch.Tensor) -> torch.Tensor:
    """Return the timesteps (0..1000, float32, not rounded) of sigmas (0..1), as few-step models are distilled with."""
    return sigmas.float() * TRAIN_STEPS


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


def check_sigmas(sigmas: torch.Tensor) -> None:
    """Refuse sigmas that diffusion forcing cannot follow; `Raises: InputError`."""
    values = sigmas.tolist()
    if values[-1] != 0:
        raise InputError(
            "The sigmas end at {last:.4f}, but diffusion forcing has to end at 0: connect the whole "
            "schedule, not the first part of a split one.",
            last=values[-1],
        )
    if values[0] > MOST_NOISE:
        raise InputError(
            "The sigmas begin at {first:.4g}, but those of this model are 1 at most: connect SkyReels-V2 Sigmas, or "
            "the scheduler of a flow model.",
            first=values[0],
        )
    if not all(later < earlier for earlier, later in pairwise(values)):  # NaN too
        raise InputError("The sigmas do not fall from step to step: connect a scheduler's sigmas unchanged.")

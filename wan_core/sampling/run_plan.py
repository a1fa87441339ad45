"""What a person chooses for diffusion forcing, and what follows from it before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from ..errors import InputError
from .forcing import ForcingSchedule, forcing_schedule, padded_frames
from .loop import Row, leading_pinned, rows_of


@dataclass(frozen=True)
class ForcingOptions:
    """What a person chooses for diffusion forcing beside steps, shift and guidance.

    Attributes:
        solver: one of `solvers.SOLVERS`.
        fps: frames per second the model is told.
        ar_step: steps a block lags behind the one before it; 0 denoises all frames together.
        causal_block_size: latent frames of a block.
        causal_attention: whether a block sees only itself and those before it.
        addnoise_condition: noise on known frames, in timesteps 0..1000.
        window_frames: latent frames that the model sees at once, moving on as blocks are finished; 0 = the whole clip.
    """

    solver: str = "unipc"
    fps: int = 24
    ar_step: int = 0
    causal_block_size: int = 1
    causal_attention: bool = False
    addnoise_condition: int = 20
    window_frames: int = 0

    def window(self, frames: int) -> int | None:
        """Return the window that moves along a clip of so many latent frames; None where all of it is seen at once."""
        return self.window_frames if 0 < self.window_frames < frames else None

    @property
    def cached_block_size(self) -> int:
        """Latent frames of a block that a cache can keep; 0 without causal attention."""
        return self.causal_block_size if self.causal_attention else 0

    @property
    def needs_whole_blocks(self) -> bool:
        """Whether the number of latent frames has to be a multiple of the block size."""
        return self.causal_block_size > 1 and (self.ar_step > 0 or self.causal_attention)


@dataclass(frozen=True)
class RunPlan:
    """What follows from a clip and its settings before anything is computed.

    Attributes:
        known: bool [F], known frames of the padded clip.
        schedule: who is denoised when, of the padded clip.
        rows: its model calls.
    """

    known: torch.Tensor
    schedule: ForcingSchedule
    rows: tuple[Row, ...]

    @property
    def seen(self) -> int:
        """The most latent frames that a model call sees."""
        return max(row.end - row.start for row in self.rows)

    @property
    def in_step(self) -> bool:
        """Whether all frames have one noise level in every call."""
        return all(len(set(row.sigmas)) == 1 for row in self.rows)

    @property
    def moves(self) -> bool:
        """Whether the model sees a part of the clip that moves along it."""
        return self.seen < self.schedule.num_frames


def plan_run(
    options: ForcingOptions, frames: int, sigmas: torch.Tensor, denoise_mask: torch.Tensor | None
) -> RunPlan | None:
    """Plan a run; None where all frames are known and there is nothing to do.

    Args:
        options: the diffusion-forcing settings.
        frames: latent frames of the clip.
        sigmas: [steps + 1], falling to 0.
        denoise_mask: [B, C, F, H, W], 0 = known frame.

    Raises:
        InputError: the mask splits a frame, the sigmas do not fall to 0.
        ScheduleError: steps, frames, block size and window that do not go together.
    """
    check_sigmas(sigmas)
    known = known_frames(denoise_mask, frames)
    if all(known.tolist()):
        return None
    block = options.causal_block_size
    padded = padded_frames(frames, block) if options.needs_whole_blocks else frames
    known = torch.cat((known, known.new_zeros(padded - frames)))
    window = options.window(frames)
    schedule = forcing_schedule(padded, len(sigmas) - 1, options.ar_step, block, leading_pinned(known), window)
    schedule = schedule.without_idle_rows(known)
    return RunPlan(known, schedule, tuple(row for row, _ in rows_of(schedule, sigmas, known)))


def check_sigmas(sigmas: torch.Tensor) -> None:
    """Refuse sigmas that diffusion forcing cannot follow; `Raises: InputError`."""
    values = sigmas.tolist()
    if values[-1] != 0:
        raise InputError(
            "The sigmas end at {last:.4f}, but diffusion forcing has to end at 0: connect the whole "
            "schedule, not the first part of a split one.",
            last=values[-1],
        )
    if any(later >= earlier for earlier, later in pairwise(values)):
        raise InputError("The sigmas do not fall from step to step: connect a scheduler's sigmas unchanged.")


def known_frames(denoise_mask: torch.Tensor | None, frames: int) -> torch.Tensor:
    """Return which latent frames are known, bool [F]; `Raises: InputError` for a mask that splits a frame."""
    if denoise_mask is None:
        return torch.zeros(frames, dtype=torch.bool)
    mask = denoise_mask.movedim(2, 0).flatten(1).cpu()  # [F, everything else]
    low, high = mask.amin(dim=1), mask.amax(dim=1)
    mixed = torch.nonzero((low > 0.5) != (high > 0.5)).flatten().tolist()
    if mixed:
        raise InputError(
            "The noise mask splits latent frame {frame}, but diffusion forcing keeps or makes whole frames: "
            "set the mask of each frame to 0 (known) or 1 everywhere.",
            frame=mixed[0],
        )
    return high <= 0.5

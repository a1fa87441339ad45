"""The diffusion-forcing loop: a run, a model call per row, a solver. It knows no host and no model."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import ScheduleError
from .clip import Clip
from .known import KnownFrames
from .run import Row, Run

Denoise = Callable[[torch.Tensor, torch.Tensor, Row], torch.Tensor]
Callback = Callable[[Row, torch.Tensor, torch.Tensor], None]


def sample(
    denoise: Denoise,
    noise: torch.Tensor,
    run: Run,
    known: KnownFrames | None = None,
    callback: Callback | None = None,
    fresh_noise: torch.Tensor | None = None,
    begun: torch.Tensor | None = None,
    left: Callable[[torch.Tensor], None] | None = None,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Denoise a latent video.

    Args:
        denoise: `(x [B, C, f, H, W], frame_sigmas [f], row) -> x0 [B, C, f, H, W]` for the visible frames of a row.
        noise: what the clip starts from [B, C, F, H, W], not changed.
        run: what is done when.
        known: the frames that the run counts as known.
        callback: `(row, x0, x)` after each row; x0 [B, C, f, H, W] is the newest prediction of every visible frame.
        fresh_noise: unit normal [steps - 1, B, C, F, H, W] for a solver that adds some between its steps.
        begun: where the run is a part of a longer one, what the part before it left of the first frames
            [4, B, C, f, H, W]: their samples and what the solver remembers.
        left: called at the end with the same of all frames [4, B, C, F, H, W].
        device: where rows are computed; None = where the noise is. Only the frames that a moving window sees are
            brought there, but for a part of a longer run, which keeps all its frames at hand.

    Returns:
        The clip [B, C, F, H, W] on the device, or where the noise is if a window moved along it; known frames are their
        clean latents.

    Raises:
        InputError: known frames without the noise that they should have.
        ScheduleError: run, noise and known frames do not belong together.
    """
    check_fits(run, torch.zeros(noise.shape[2], dtype=torch.bool) if known is None else known.mask.cpu())
    clip = Clip(run, noise, known, fresh_noise, device, begun is not None or left is not None)
    if begun is not None:
        clip.go_on(begun)
    # all that depends on the schedule lies on the device before the loop, which so never waits for it
    levels = run.levels.to(clip.device)
    steps = (run.step_index - 1).clamp(0, run.num_steps - 1).to(clip.device)
    for row in run.rows:
        clip.reach(row)
        x0 = denoise(clip.seen(row)[1], levels[row.index, row.start : row.end], row)
        for start, end in row.runs:
            made, frames = x0[:, :, start - row.start : end - row.start], slice(start - clip.start, end - clip.start)
            clip.solver.step(clip.x, made, steps[row.index, start:end], frames)
            clip.clean[:, :, frames] = made
        if callback is not None:
            callback(row, *clip.seen(row))
    if left is not None:
        left(torch.stack((clip.x, *clip.solver.memory)))
    return clip.finished()


def check_fits(run: Run, known: torch.Tensor) -> None:
    """Refuse a clip that the run was not planned for; `known`: its known frames, bool [F]. `Raises: ScheduleError`."""
    if not torch.equal(known, run.known):
        raise ScheduleError(
            "The run is of {frames} latent frames, of which {known} are known, but it was given {given_frames} with "
            "{given} known: plan the run for this clip.",
            frames=run.num_frames,
            known=int(run.known.sum()),
            given_frames=len(known),
            given=int(known.sum()),
        )

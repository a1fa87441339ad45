"""The diffusion-forcing loop: a run, a model call per row, a solver. It knows no host and no model."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..errors import ScheduleError
from .known import KnownFrames
from .run import Row, Run
from .solvers import SolverState, make_solver

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
) -> torch.Tensor:
    """Denoise a latent video.

    Args:
        denoise: `(x [B, C, f, H, W], frame_sigmas [f], row) -> x0 [B, C, f, H, W]` for the visible frames of a row.
        noise: what the clip starts from [B, C, F, H, W], not changed.
        run: what is done when.
        known: the frames that the run counts as known.
        callback: `(row, x0, x)` after each row; x0 [B, C, F, H, W] is the newest prediction of every frame.
        fresh_noise: unit normal [steps - 1, B, C, F, H, W] for a solver that adds some between its steps.
        begun: where the run is a part of a longer one, what the part before it left of the first frames
            [4, B, C, f, H, W]: their samples and what the solver remembers.
        left: called at the end with the same of all frames [4, B, C, F, H, W].

    Returns:
        The clip [B, C, F, H, W]; known frames are their clean latents.

    Raises:
        InputError: known frames without the noise that they should have.
        ScheduleError: run, noise and known frames do not belong together.
    """
    mask = torch.zeros(noise.shape[2], dtype=torch.bool) if known is None else known.mask.cpu()
    check_fits(run, mask)
    # all that depends on the schedule lies on the device before the loop, which so never waits for it
    levels = run.levels.to(noise.device)
    steps = (run.step_index - 1).clamp(0, run.num_steps - 1).to(noise.device)
    state = SolverState(make_solver(run.options.solver, run.sigmas), noise, fresh_noise)
    x = noise.clone()
    if begun is not None:
        x[:, :, : begun.shape[3]] = begun[0].to(x)
        state.recall(begun[1:])
    clean = x.clone()
    if known is not None:
        where = mask.to(noise.device)[:, None, None]
        x = torch.where(where, known.noised(run.options.known_level).to(x), x)  # nothing updates them for the whole run
        clean = torch.where(where, known.latents.to(x), clean)
    for row in run.rows:
        x0 = denoise(x[:, :, row.start : row.end], levels[row.index, row.start : row.end], row)
        for start, end in row.runs:
            made = x0[:, :, start - row.start : end - row.start]
            state.step(x, made, steps[row.index, start:end], slice(start, end))
            clean[:, :, start:end] = made
        if callback is not None:
            callback(row, clean, x)
    if left is not None:
        left(torch.stack((x, *state.memory)))
    return x if known is None else torch.where(where, clean, x)


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

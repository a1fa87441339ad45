"""The diffusion-forcing loop: a schedule, a solver and a model call per row. It knows no host and no model.

Known frames (start, end, key frames, overlap) are frames with a fixed noise level that are never updated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..errors import InputError, ScheduleError
from .forcing import ForcingSchedule
from .sigmas import noise_levels, row_sigmas
from .solvers import SolverState, make_solver


@dataclass(frozen=True)
class Row:
    """One row of the schedule, as the model call sees it.

    Attributes:
        index: number of the row, from 0.
        num_rows: rows in all.
        start: first latent frame that the model sees.
        end: latent frame behind the last.
        sigma: one noise level for the whole row, falling strictly from row to row.
        finished: all latent frames of the clip before this one are finished or known, at their last noise level.
        busy_end: latent frame behind the last that this row denoises.
        sigmas: noise level of every visible frame, 0..1.
        busy: visible frames that this row denoises.
        last: those of them that it finishes.
    """

    index: int
    num_rows: int
    start: int
    end: int
    sigma: float
    finished: int
    busy_end: int
    sigmas: tuple[float, ...]
    busy: tuple[bool, ...]
    last: tuple[bool, ...]


@dataclass(frozen=True)
class PinnedFrames:
    """Frames that are known beforehand.

    Attributes:
        latents: clean latents [B, C, F, H, W]; only those of known frames are read.
        mask: bool [F], True = known.
        noise_level: how much noise the model sees on them, 0..1 (addnoise_condition / 1000).
        noise: unit normal [B, C, F, H, W], drawn once for the run; None with noise_level 0.
    """

    latents: torch.Tensor
    mask: torch.Tensor
    noise_level: float = 0.0
    noise: torch.Tensor | None = None

    def __post_init__(self) -> None:
        """Refuse a level that the model would be told, but that the frames do not have; `Raises: InputError`."""
        if self.noise is None and self.noise_level != 0:
            raise InputError(
                "The noise level of the known frames is {noise_level}, but no noise was given for them: draw it "
                "once for the run, or set the level to 0.",
                noise_level=self.noise_level,
            )

    def noised(self) -> torch.Tensor:
        """Return the frames as the model sees them."""
        if self.noise is None or self.noise_level == 0:
            return self.latents
        return self.latents * (1 - self.noise_level) + self.noise * self.noise_level


@dataclass(frozen=True)
class Job:
    """One row's work: made on the CPU, and what the device needs of it already there."""

    row: Row
    frame_sigmas: torch.Tensor  # [f] on the device, of the visible frames
    runs: tuple[tuple[slice, slice, torch.Tensor], ...]  # frames in the clip, in the interval, and their steps


Denoise = Callable[[torch.Tensor, torch.Tensor, Row], torch.Tensor]
Callback = Callable[[Row, torch.Tensor, torch.Tensor], None]


def leading_pinned(mask: torch.Tensor) -> int:
    """Return how many frames are known at the start; `mask` is bool [F]."""
    return int(mask.long().cumprod(0).sum())


def sample(
    denoise: Denoise,
    noise: torch.Tensor,
    sigmas: torch.Tensor,
    schedule: ForcingSchedule,
    solver: str = "unipc",
    pinned: PinnedFrames | None = None,
    callback: Callback | None = None,
    fresh_noise: torch.Tensor | None = None,
) -> torch.Tensor:
    """Denoise a latent video.

    Args:
        denoise: `(x [B, C, f, H, W], frame_sigmas [f], row) -> x0 [B, C, f, H, W]` for the visible frames of a row.
        noise: what the clip starts from [B, C, F, H, W], not changed.
        sigmas: [steps + 1], falling to 0.
        schedule: who is denoised when.
        solver: one of `solvers.SOLVERS`.
        pinned: known frames.
        callback: `(row, x0, x)` after each row; x0 [B, C, F, H, W] is the newest prediction of every frame.
        fresh_noise: unit normal [steps - 1, B, C, F, H, W] for the solver "lcm", which adds it between its steps.

    Returns:
        The clip [B, C, F, H, W]; known frames are their clean latents.

    Raises:
        ScheduleError: sigmas, schedule and noise do not belong together.
    """
    if len(sigmas) - 1 != schedule.steps or noise.shape[2] != schedule.num_frames:
        raise ScheduleError(
            "There are sigmas for {sigma_steps} steps and noise for {noise_frames} latent frames, but the "
            "schedule is of {steps} steps and {frames} frames: make them for the same clip.",
            sigma_steps=len(sigmas) - 1,
            noise_frames=noise.shape[2],
            steps=schedule.steps,
            frames=schedule.num_frames,
        )
    known = torch.zeros(schedule.num_frames, dtype=torch.bool) if pinned is None else pinned.mask.cpu()
    schedule = schedule.without_idle_rows(known)
    jobs = plan(schedule, sigmas, known, 0.0 if pinned is None else pinned.noise_level, noise.device)
    state = SolverState(make_solver(solver, sigmas), noise, fresh_noise)
    x, clean = noise.clone(), noise.clone()
    if pinned is not None:
        where = known.to(noise.device)[:, None, None]
        x = torch.where(where, pinned.noised().to(x), x)  # nothing updates them, so they stay so for the whole run
        clean = torch.where(where, pinned.latents.to(x), clean)
    for job in jobs:
        interval = slice(job.row.start, job.row.end)
        x0 = denoise(x[:, :, interval], job.frame_sigmas, job.row)
        for frames, visible, steps in job.runs:
            state.step(x, x0[:, :, visible], steps, frames)
            clean[:, :, frames] = x0[:, :, visible]
        if callback is not None:
            callback(job.row, clean, x)
    return x if pinned is None else torch.where(where, clean, x)


def plan(
    schedule: ForcingSchedule, sigmas: torch.Tensor, known: torch.Tensor, known_level: float, device: torch.device
) -> list[Job]:
    """Put all that depends on the schedule onto the device before the loop, so that the loop never waits for it."""
    levels = levels_of(schedule, sigmas, known, known_level).to(device)
    steps = (schedule.step_index - 1).clamp(0, schedule.steps - 1).to(device)
    jobs = []
    for row, busy in rows_of(schedule, sigmas, known, known_level):
        runs = tuple(
            (slice(first, behind), slice(first - row.start, behind - row.start), steps[row.index, first:behind])
            for first, behind in busy
        )
        jobs.append(Job(row, levels[row.index, row.start : row.end], runs))
    return jobs


def levels_of(schedule: ForcingSchedule, sigmas: torch.Tensor, known: torch.Tensor, known_level: float) -> torch.Tensor:
    """Return the noise level of every latent frame in every row [R, F], 0..1, on the CPU."""
    levels = noise_levels(sigmas.float().cpu())[schedule.step_index]
    levels[:, known] = known_level
    return levels


def rows_of(
    schedule: ForcingSchedule, sigmas: torch.Tensor, known: torch.Tensor, known_level: float = 0.0
) -> list[tuple[Row, list[tuple[int, int]]]]:
    """Return every row of a schedule with the runs (start, end) of latent frames that it denoises.

    Args:
        schedule: who is denoised when.
        sigmas: [steps + 1], falling to 0.
        known: bool [F], frames that are never updated.
        known_level: their noise level, 0..1.
    """
    levels = levels_of(schedule, sigmas, known, known_level).tolist()
    update = schedule.update_mask & ~known
    row_levels = row_sigmas(sigmas, schedule.step_index, known).tolist()
    settled = (schedule.step_index == schedule.steps + 1) | known
    finished = settled.long().cumprod(dim=1).sum(dim=1).tolist()
    last = (update & (schedule.step_index == schedule.steps)).tolist()
    rows = []
    for index, ((start, end), changes) in enumerate(zip(schedule.intervals, update.tolist(), strict=True)):
        busy = true_runs(changes[start:end], start)
        row = Row(
            index, schedule.num_rows, start, end, row_levels[index], finished[index], busy[-1][1] if busy else end,
            *(tuple(values[start:end]) for values in (levels[index], changes, last[index])),
        )  # fmt: skip
        rows.append((row, busy))
    return rows


def true_runs(values: list[bool], offset: int) -> list[tuple[int, int]]:
    """Return the (start, end) of every run of True, counted from `offset`."""
    edges = [at for at, (a, b) in enumerate(zip([False, *values], [*values, False], strict=True)) if a != b]
    return [(offset + first, offset + behind) for first, behind in zip(edges[::2], edges[1::2], strict=True)]

"""A sampling run, described once and whole before anything is computed: the settings, and what follows from them.

`plan_run` makes a `Run` from the settings, the noise schedule and which frames are known; the loop, the caches, the
memory estimate and the guidance range only read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from .known import leading_known
from .schedule import Schedule, Staircase, forcing_schedule, padded_frames, staircase
from .sigmas import TRAIN_STEPS, check_sigmas, noise_levels, row_sigmas


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

    @property
    def known_level(self) -> float:
        """The noise level at which the model sees known frames, 0..1."""
        return self.addnoise_condition / TRAIN_STEPS

    def stairs(self, known: torch.Tensor, steps: int) -> Staircase:
        """Return the schedule of a clip in whole blocks; `known`: bool [F], the frames that are given."""
        frames = len(known)
        return staircase(frames, steps, self.ar_step, self.causal_block_size, leading_known(known), self.window(frames))

    def padded(self, frames: int) -> int:
        """Return the latent frames that are computed for a clip of so many."""
        return padded_frames(frames, self.causal_block_size) if self.needs_whole_blocks else frames


@dataclass(frozen=True)
class Row:
    """One model call of a run. Frames are latent frames of the clip; f of them are visible.

    Attributes:
        start: first visible frame.
        end: one past the last.
        sigmas: noise level of every visible frame, 0..1 [f].
        steps: the step (from 0) that each of them makes [f]; None = this row leaves it as it is.
        num_steps: denoising steps of a frame.
        sigma: one noise level for the whole call, falling strictly from row to row.
        finished: all frames of the clip before this one are finished or known, at their last noise level.
        index: number of the row, from 0.
        num_rows: rows in all.
        runs: (start, end) of every run of frames that it denoises.
    """

    start: int
    end: int
    sigmas: tuple[float, ...]
    steps: tuple[int | None, ...]
    num_steps: int
    sigma: float = 0.0
    finished: int = 0
    index: int = 0
    num_rows: int = 1
    runs: tuple[tuple[int, int], ...] = ()

    @property
    def busy_end(self) -> int:
        """One past the last frame that this row denoises."""
        return self.runs[-1][1]

    @property
    def progress(self) -> list[float | None]:
        """The share of its steps that each visible frame has done, 0..1; None = the row leaves it as it is."""
        return [None if step is None else step / self.num_steps for step in self.steps]


@dataclass(frozen=True)
class Run:
    """A whole sampling run; R rows, F latent frames, those that only fill the last block among them.

    Attributes:
        options: the settings.
        sigmas: the noise schedule [steps + 1], falling to 0.
        known: bool [F], frames that are never updated.
        step_index: int64 [R, F]: 0 = not begun, i = step i is done in this row, steps + 1 = finished.
        levels: noise level of every frame in every row, float32 [R, F].
        rows: its model calls; none where all frames are known.
    """

    options: ForcingOptions
    sigmas: torch.Tensor
    known: torch.Tensor
    step_index: torch.Tensor
    levels: torch.Tensor
    rows: tuple[Row, ...]

    @property
    def num_frames(self) -> int:
        """Latent frames of the clip in whole blocks."""
        return len(self.known)

    @property
    def num_steps(self) -> int:
        """Denoising steps of a frame."""
        return len(self.sigmas) - 1

    @property
    def call_sigmas(self) -> torch.Tensor:
        """One noise level for each call and the 0 at the end [R + 1], as neighbours look their progress up in it."""
        return torch.tensor([*(row.sigma for row in self.rows), 0.0])

    def describes(self, options: ForcingOptions, sigmas: torch.Tensor, known: torch.Tensor) -> bool:
        """Say whether this is the run of these settings, sigmas and known frames of the clip (bool [frames])."""
        same = options == self.options and len(sigmas) == len(self.sigmas)
        if not same or options.padded(len(known)) != self.num_frames:
            return False
        return torch.equal(sigmas.cpu(), self.sigmas.cpu()) and torch.equal(known.cpu(), self.known[: len(known)])

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
        return self.seen < self.num_frames

    @property
    def leaves_frames(self) -> bool:
        """Whether some call leaves visible frames as they are."""
        return any(None in row.steps for row in self.rows)


def plan_run(options: ForcingOptions, sigmas: torch.Tensor, frames: int, known: torch.Tensor | None = None) -> Run:
    """Describe a run.

    Args:
        options: the settings.
        sigmas: the noise schedule [steps + 1], falling to 0.
        frames: latent frames of the clip; with blocks it is computed as `options.padded(frames)`.
        known: bool [frames], frames that are given; None = none.

    Raises:
        InputError: sigmas that do not fall to 0.
        ScheduleError: steps, frames, block size and window that do not go together.
    """
    check_sigmas(sigmas)
    known = torch.zeros(frames, dtype=torch.bool) if known is None else known.cpu()
    given = bool(known.all())
    known = torch.cat((known, known.new_zeros(options.padded(frames) - frames)))
    steps = len(sigmas) - 1
    if given:
        nothing = torch.zeros(0, len(known))
        return Run(options, sigmas, known, nothing.long(), nothing, ())
    size, prefix = options.causal_block_size, leading_known(known)
    schedule = forcing_schedule(len(known), steps, options.ar_step, size, prefix, options.window(frames))
    return described(options, sigmas, known, schedule)


def plan_rows(options: ForcingOptions, sigmas: torch.Tensor, known: torch.Tensor, rows: range) -> tuple[int, Run]:
    """Describe some rows of a run of any length, in time and memory of these rows.

    Args:
        options: the settings.
        sigmas: the noise schedule [steps + 1], falling to 0.
        known: bool [F], frames of the whole clip in whole blocks that are given.
        rows: of the whole run, those in which only known frames would be denoised among them; one or more.

    Returns:
        The first latent frame that the rows see, and the run of the frames that they see.
    """
    stairs = options.stairs(known, len(sigmas) - 1)
    size, blocks = stairs.block, range(stairs.seen(rows[0])[0], stairs.seen(rows[-1])[1])
    index, update = (table.repeat_interleave(size, dim=1) for table in stairs.steps_of(rows, blocks))
    first = blocks.start * size
    intervals = tuple((start * size - first, end * size - first) for start, end in map(stairs.seen, rows))
    return first, described(options, sigmas, known[first : blocks.stop * size], Schedule(index, update, intervals))


def described(options: ForcingOptions, sigmas: torch.Tensor, known: torch.Tensor, schedule: Schedule) -> Run:
    """Return the run of a schedule, without the rows that denoise nothing but known frames."""
    update = schedule.update & ~known
    busy = update.any(dim=1)  # an end frame's rows under ar_step denoise nothing else
    intervals = [interval for interval, keep in zip(schedule.intervals, busy.tolist(), strict=True) if keep]
    index, update = schedule.step_index[busy], update[busy]
    levels = noise_levels(sigmas.float().cpu())[index]
    levels[:, known] = options.known_level
    run = Run(options, sigmas, known, index, levels, ())
    return replace(run, rows=make_rows(run, update, intervals))


def make_rows(run: Run, update: torch.Tensor, intervals: Sequence[tuple[int, int]]) -> tuple[Row, ...]:
    """Return the rows of a run that has none yet; `update`: which frames each denoises, `intervals`: what it sees."""
    index, steps = run.step_index, run.num_steps
    finished = ((index == steps + 1) | run.known).long().cumprod(dim=1).sum(dim=1).tolist()
    call_sigmas = row_sigmas(run.sigmas, index, run.known).tolist()

    def row(number: int, start: int, end: int) -> Row:
        # row by row: a list of a long clip's whole table would stop the host's other threads for seconds
        made, busy, sigmas = (table[number, start:end].tolist() for table in (index, update, run.levels))
        done = tuple(at - 1 if works else None for at, works in zip(made, busy, strict=True))
        runs, count = true_runs(busy, start), len(intervals)
        return Row(start, end, tuple(sigmas), done, steps, call_sigmas[number], finished[number], number, count, runs)

    return tuple(row(number, *interval) for number, interval in enumerate(intervals))


def true_runs(values: list[bool], offset: int) -> tuple[tuple[int, int], ...]:
    """Return the (start, end) of every run of True, counted from `offset`."""
    edges = [at for at, (a, b) in enumerate(zip([False, *values], [*values, False], strict=True)) if a != b]
    return tuple((offset + first, offset + end) for first, end in zip(edges[::2], edges[1::2], strict=True))

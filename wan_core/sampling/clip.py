"""The latent frames of a run while it is computed: what a row sees is on the device, the rest where the noise is.

A window that moves along a clip leaves finished frames and comes to frames that have not begun. Neither need the
solver's memory or a place on the device.
"""

from __future__ import annotations

import torch

from .known import KnownFrames
from .run import Row, Run
from .solvers import SolverState, make_solver


class Clip:
    """A clip in work: F latent frames, f of them at hand.

    Args:
        run: what is done when.
        noise: what the clip starts from [B, C, F, H, W], not changed.
        known: the frames that the run counts as known, or None.
        fresh: unit normal [steps - 1, B, C, F, H, W] for a solver that adds some between its steps, or None.
        device: where rows are computed; None = where the noise is.
        whole: whether all frames stay at hand, though a window may move.

    Attributes:
        start: first frame at hand.
        end: one past the last.
        x: samples of the frames at hand [B, C, f, H, W].
        clean: the newest prediction of each of them [B, C, f, H, W].
        solver: what the solver remembers of them.
    """

    def __init__(
        self,
        run: Run,
        noise: torch.Tensor,
        known: KnownFrames | None = None,
        fresh: torch.Tensor | None = None,
        device: torch.device | None = None,
        whole: bool = False,
    ):
        self.noise, self.known, self.fresh = noise, known, fresh
        self.device, self.level = device or noise.device, run.options.known_level
        self.mask = run.known.to(self.device)[:, None, None]
        self.start, self.end = (0, run.num_frames) if whole or not run.rows else (run.rows[0].start, run.rows[0].end)
        self.made: torch.Tensor | None = None  # the clip, where not all of it is at hand
        if self.end - self.start < run.num_frames:
            self.made = noise.clone()
            if known is not None:
                where = run.known.to(noise.device)[:, None, None]
                self.made = torch.where(where, known.latents.to(self.made), self.made)
        self.x, self.clean = self.not_begun(self.start, self.end)
        fresh = self.fresh_of(self.start, self.end)
        self.solver = SolverState(make_solver(run.options.solver, run.sigmas), self.x, fresh)

    def go_on(self, begun: torch.Tensor) -> None:
        """Go on from what an earlier run left of the first frames [4, B, C, f, H, W], all frames being at hand."""
        frames = slice(begun.shape[3])
        x, clean = self.x.clone(), self.clean.clone()
        x[:, :, frames] = clean[:, :, frames] = begun[0].to(x)
        self.x, self.clean = torch.where(self.mask, self.x, x), torch.where(self.mask, self.clean, clean)
        self.solver.recall(begun[1:])

    def reach(self, row: Row) -> None:
        """Bring the frames that a row sees to hand, and what its window has left to where the noise is."""
        if self.made is None or (row.start, row.end) == (self.start, self.end):
            return
        gone = min(row.start, self.end) - self.start
        self.put_away(gone)
        begin = max(row.start, self.end)
        x, clean = self.not_begun(begin, row.end)
        self.x, self.clean = (
            torch.cat((old[:, :, gone:], new), dim=2) for old, new in ((self.x, x), (self.clean, clean))
        )
        self.solver.move_on(gone, row.end - begin, self.fresh_of(row.start, row.end))
        self.start, self.end = row.start, row.end

    def seen(self, row: Row) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `clean` and `x` of the frames that a row sees, which are at hand [B, C, f, H, W]."""
        frames = slice(row.start - self.start, row.end - self.start)
        return self.clean[:, :, frames], self.x[:, :, frames]

    def finished(self) -> torch.Tensor:
        """Return the whole clip [B, C, F, H, W], known frames as they were given."""
        if self.made is None:
            return self.x if self.known is None else torch.where(self.mask, self.clean, self.x)
        self.put_away(self.end - self.start)
        return self.made

    def put_away(self, frames: int) -> None:
        """Copy the first frames at hand into the clip."""
        if self.made is not None and frames:
            place = slice(self.start, self.start + frames)
            made = self.x[:, :, :frames]
            if self.known is not None:
                made = torch.where(self.mask[place], self.clean[:, :, :frames], made)
            self.made[:, :, place] = made.to(self.made.device)

    def not_begun(self, start: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return samples and predictions of frames before their first step, on the device."""
        x = self.noise[:, :, start:end].to(self.device, copy=True)
        if self.known is None:
            return x, x.clone()
        where, noise = self.mask[start:end], self.known.noise
        noise = None if noise is None else noise[:, :, start:end].to(x)
        known = KnownFrames(self.known.latents[:, :, start:end].to(x), where, noise)
        # nothing updates the known ones for the whole run
        return torch.where(where, known.noised(self.level), x), torch.where(where, known.latents, x)

    def fresh_of(self, start: int, end: int) -> torch.Tensor | None:
        """Return what the solver adds to some frames, on the device."""
        if self.fresh is None or self.fresh.ndim != self.noise.ndim + 1:
            return self.fresh  # a single step needs none, and other shapes are the solver's to refuse
        return self.fresh[:, :, :, start:end].to(self.x)

"""Velocities of steps that are not computed: forecast, block of frames by block, from the last ones that were.

Along a denoising path the velocity changes slowly, so some model calls can be left out. A block here is what shares one
noise level: the whole clip where all frames go together, a block of the schedule where each is at a step of its own.
For every block the velocities of the last two computed steps are kept, and the next ones are forecast along a straight
line over log(alpha / sigma). Whenever a block is computed, the forecast that could have been used instead is compared
with it; the difference, grown with the distance as the remainder of the interpolation says, is the error to be expected
of the next forecasts. A block is due when the expected errors since it was computed would add up to the threshold.

What a due block costs depends on attention. Bidirectional: every frame is seen by the others, so one due block computes
the call, all blocks are fresh after it, and a call is left out when no block is due. Causal: nobody before a block sees
it, so the call ends behind the last due block, and what is computed is what it would have been.

Sources: the idea of reusing steps while their change adds up to little: Liu et al. 2024, TeaCache; forecasting in place
of repeating: Liu et al. 2025, TaylorSeer. The error estimate is that of an adaptive multistep method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from threading import Lock
from types import TracebackType

import torch
from torch import Tensor

from ..errors import InputError
from ..words import Words, words
from .run import Row

SIGMA_RANGE = (0.001, 0.999)  # where log(alpha / sigma) is taken; timesteps are whole numbers of a thousand
SAME_LEVEL = 1e-3  # of log(alpha / sigma): computed again there, a velocity takes the place of the last one
MAX_REUSED = 4  # forecasts in a row: the error of longer ones is not known from what was tested


def log_snr(sigmas: Sequence[float]) -> Tensor:
    """Return log(alpha / sigma) of noise levels 0..1, float32 [F]."""
    levels = torch.tensor(sigmas).clamp(*SIGMA_RANGE)
    return torch.log((1 - levels) / levels)


def leeway(sigmas: Sequence[float]) -> Tensor:
    """Return how large an error may be at noise levels [F], against sigma 2/3, where it may be largest: 1.

    Early, what is decided of the video is little, and every later step builds on it; late, a step takes a frame far.
    Leaving out single steps cost the finished video about as much as this says.
    """
    levels = torch.tensor(sigmas).clamp(*SIGMA_RANGE)
    return 27 / 4 * (1 - levels) * levels.square()


@dataclass
class Report:
    """What a run left out; every condition counts for itself, so guidance doubles all numbers.

    Attributes:
        blocks: busy blocks of frames in all calls.
        reused: those of them that were forecast.
        calls: model calls that there would have been.
        skipped: those of them that were left out whole.
    """

    blocks: int = 0
    reused: int = 0
    calls: int = 0
    skipped: int = 0

    def sentence(self) -> Words:
        """Return the report as a sentence."""
        return words(
            "Step cache: {reused} of {blocks} block computations reused, {skipped} of {calls} model calls skipped",
            reused=self.reused,
            blocks=self.blocks,
            skipped=self.skipped,
            calls=self.calls,
        )


class History:
    """The last two computed velocities of every frame, for one condition, and how good forecasts of them were."""

    def __init__(self, velocity: Tensor):
        frames = velocity.shape[2]
        self.newest = torch.zeros_like(velocity)  # [B, C, F, H, W]
        self.older = torch.zeros_like(velocity)
        self.levels = torch.zeros(2, frames)  # log(alpha / sigma) of the newest and the older
        self.points = torch.zeros(frames, dtype=torch.int64)  # how many of the two there are
        self.reach = torch.zeros(frames)  # what the last forecast's error grows with; 0 = none was compared
        self.error = velocity.new_zeros(frames, dtype=torch.float32)  # mean square of the last forecast's error
        self.power = velocity.new_zeros(frames, dtype=torch.float32)  # mean square of the velocity

    def move(self, device: torch.device) -> None:
        """Have what is kept on the device that the condition is computed on now."""
        self.newest, self.older, self.error, self.power = (
            kept.to(device) for kept in (self.newest, self.older, self.error, self.power)
        )

    def distance(self, levels: Tensor) -> Tensor:
        """Return what the error of a forecast at levels [F] is proportional to: h, or h * (h + last h) of a line."""
        ahead = (levels - self.levels[0]).abs()
        return torch.where(self.points > 1, ahead * (levels - self.levels[1]).abs(), ahead)

    def forecast(self, levels: Tensor) -> Tensor:
        """Return the velocity [B, C, F, H, W] expected at levels [F]."""
        gap = self.levels[0] - self.levels[1]
        slope = torch.where(self.points > 1, (levels - self.levels[0]) / gap.where(gap != 0, torch.ones(())), 0.0)
        return torch.lerp(self.older, self.newest, 1 + slope.to(self.newest)[:, None, None])

    def keep(self, velocity: Tensor, levels: Tensor, frames: slice) -> None:
        """Take in computed velocities.

        Args:
            velocity: [B, C, F, H, W], computed where `frames` says.
            levels: log(alpha / sigma) of every frame, [F].
            frames: which frames were computed.
        """
        computed = torch.zeros(len(levels), dtype=torch.bool)
        computed[frames] = True
        onward = computed & (self.points > 0) & ((levels - self.levels[0]).abs() > SAME_LEVEL)
        if onward.any():
            wrong = (velocity.float() - self.forecast(levels).float()).pow(2).mean((0, 1, 3, 4))
            self.error = torch.where(onward.to(wrong.device), wrong, self.error)
            self.reach = torch.where(onward, self.distance(levels), self.reach)
            where = onward.to(velocity.device)[:, None, None]
            self.older = torch.where(where, self.newest, self.older)
            self.levels[1] = torch.where(onward, self.levels[0], self.levels[1])
        where = computed.to(velocity.device)
        self.newest = torch.where(where[:, None, None], velocity, self.newest)
        self.power = torch.where(where, velocity.float().pow(2).mean((0, 1, 3, 4)), self.power)
        self.levels[0] = torch.where(computed, levels, self.levels[0])
        self.points = torch.where(onward | (computed & (self.points == 0)), self.points + 1, self.points).clamp(max=2)

    def expected_error(self, levels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected mean square error of a forecast at levels [F], and the velocity's; infinite if unknown.

        This waits for the device: the numbers are needed to decide whether the next call is made at all.
        """
        growth = (self.distance(levels) / self.reach).where(self.reach > 0, torch.tensor(math.inf))
        error, power = torch.stack((self.error, self.power)).cpu()
        return (error * growth.square()).where(growth.isfinite(), growth), power


class StepCache:
    """The step cache of one sampling run; a context, so that nothing of it outlives the run.

    Args:
        threshold: what the expected errors of a block's forecasts may add up to, relative to its velocity and to the
            `leeway` of its noise level; 0 computes all.
    """

    def __init__(self, threshold: float):
        if not 0 <= threshold < math.inf:
            raise InputError(
                "The threshold is {threshold}, but it has to be 0 or more: 0.1 is a usual value.", threshold=threshold
            )
        self.threshold = threshold
        self.report = Report()
        self.histories: dict[Hashable, History] = {}
        self.reused = torch.zeros(0, dtype=torch.int64)  # [F], forecasts in a row
        self.spent = torch.zeros(0)  # [F], the expected errors of these forecasts, added up
        self.lock = Lock()  # a host may compute the conditions in threads, each on a device of its own
        self.row: Row | None = None
        self.causal = False
        self.seen: set[Hashable] = set()  # the conditions that were asked for in this row
        self.due: list[slice] = []

    def __enter__(self) -> StepCache:
        """Begin a run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what was kept."""
        self.histories.clear()
        self.row = None

    @property
    def num_bytes(self) -> int:
        """Memory that the kept velocities take."""
        return sum(history.newest.nbytes + history.older.nbytes for history in self.histories.values())

    def __call__(
        self, compute: Callable[[int], Tensor], keys: Sequence[Hashable], row: Row, causal: bool = False
    ) -> Tensor:
        """Return the velocities of a call, computed or forecast.

        Args:
            compute: given the latent frame behind the last one that is wanted, computes the velocities
                [conditions * B, C, F, H, W]; behind that frame they may be anything.
            keys: the conditions of the call, in the order of the batch; cond and uncond have histories of their own.
            row: where the clip stands.
            causal: whether no frame sees one after its block.

        Returns:
            Velocity [conditions * B, C, F, H, W].
        """
        levels, frames = log_snr(row.sigmas), len(row.sigmas)
        with self.lock:
            self.causal = causal
            self.meet(keys, row)
            known = [self.histories[key] for key in keys if key in self.histories]
            end = self.end_to_compute(row, all_known=len(known) == len(keys))
            self.count(len(keys), row, end)
        if end == 0:
            return torch.cat([history.forecast(levels) for history in known])
        parts = []
        for key, part in zip(keys, compute(end).chunk(len(keys)), strict=True):
            with self.lock:
                history = self.histories.setdefault(key, History(part))
            history.move(part.device)
            behind = history.forecast(levels)[:, :, end:]
            history.keep(part, levels, slice(end))
            parts.append(torch.cat((part[:, :, :end], behind), dim=2) if end < frames else part)
        return torch.cat(parts)

    def end_to_compute(self, row: Row, all_known: bool) -> int:
        """Return the frame behind the last one that a call computes, 0 for none; one that joins now computes all."""
        if all_known:
            return self.end_of_work(row)
        blocks = row.blocks()
        return blocks[-1].stop if self.causal and blocks else len(row.sigmas)

    def count(self, conditions: int, row: Row, end: int) -> None:
        """Take a call of so many conditions that computes the frames before `end` into the report."""
        blocks = row.blocks()
        self.report.calls += conditions
        self.report.blocks += conditions * len(blocks)
        self.report.reused += conditions * sum(block.start >= end for block in blocks)
        self.report.skipped += conditions * (end == 0)

    def meet(self, keys: Sequence[Hashable], row: Row) -> None:
        """Decide once for a row, whatever the number of calls that its conditions come in."""
        if self.row is not None and (self.row.start, self.row.end) != (row.start, row.end):
            self.histories.clear()  # the window has moved on: its frames are others
        if len(self.reused) != len(row.sigmas) or not self.histories:
            self.reused = torch.zeros(len(row.sigmas), dtype=torch.int64)
            self.spent = torch.zeros(len(row.sigmas))
        if row != self.row or not self.seen.isdisjoint(keys):
            self.row, self.seen = row, set()
            self.decide(row)
        self.seen.update(keys)

    def end_of_work(self, row: Row) -> int:
        """Return the latent frame behind the last one that has to be computed; 0 if none has."""
        if not self.due:
            return 0
        return self.due[-1].stop if self.causal else len(row.sigmas)

    def decide(self, row: Row) -> None:
        """Find the busy blocks whose expected errors would add up to the threshold, and account for the others."""
        expected = self.expected_errors(row)
        self.due = [
            block
            for block in row.blocks()
            if row.finishes(block.start)
            or int(self.reused[block].max()) >= MAX_REUSED
            or not float((self.spent + expected)[block].max()) < self.threshold
        ]
        forecast = torch.tensor([step is not None for step in row.steps])
        forecast[: self.end_of_work(row)] = False
        self.reused = torch.where(forecast, self.reused + 1, 0)
        self.spent = torch.where(forecast, self.spent + expected, 0.0)

    def expected_errors(self, row: Row) -> Tensor:
        """Return for every frame what a forecast would add to its block's error, [F]; the worst condition counts."""
        expected = torch.zeros(len(row.sigmas)) if self.histories else torch.full((len(row.sigmas),), math.inf)
        levels, leeways = log_snr(row.sigmas), leeway(row.sigmas)
        for history in self.histories.values():
            error, power = history.expected_error(levels)
            for block in row.blocks():
                relative = (error[block].mean() / power[block].mean()).sqrt().nan_to_num(nan=0.0, posinf=math.inf)
                expected[block] = torch.maximum(expected[block], relative / leeways[block])
        return expected

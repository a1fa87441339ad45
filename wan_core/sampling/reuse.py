"""Which frames of a model call are computed, told from the schedule alone: by how far their noise levels have moved.

A frame is due when it has come a given distance since it was last computed. Distance is not counted in sigma, nor in
steps, but in `change`: the share of what happens to a video between two noise levels. So all that a run computes is
known before it begins, and no number is read back from the device.

`change` was read off the embedded model, once, on prompts and seeds that no figure is made with: for 9 clips' worth of
budgets between 12 and 20 computed steps of 50, the steps were chosen (by dynamic programming) whose forecasts move the
finished video least, where an error of a velocity counts as much as the finished video was seen to answer to it: 8
times at sigma 0.99, twice at 0.9, less than half at 0.5. `change` is the mean share of the chosen steps before a level.

Source of the idea: reuse block by block, FlowCache (2025); its rule is the distance of the time embeddings.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, check_choice
from ..words import Words, words
from .run import Row

# (sigma, share of the change from pure noise down to it)
CHANGE = (
    (0.0, 1.0), (0.093, 0.949), (0.242, 0.88), (0.357, 0.833), (0.488, 0.789), (0.585, 0.75), (0.66, 0.714),
    (0.72, 0.678), (0.769, 0.64), (0.81, 0.6), (0.844, 0.552), (0.873, 0.503), (0.899, 0.441), (0.921, 0.37),
    (0.94, 0.295), (0.958, 0.231), (0.973, 0.159), (0.983, 0.108), (0.992, 0.061), (1.0, 0.0),
)  # fmt: skip
EARLY = 0.5  # of the distance: so far goes a frame whose answer was computed but once, and shows no direction yet
JOIN = 0.3  # of the distance: a frame that has come so far is computed along with one that is due
# how far frames at rest come, where the others come 1: what others see of them changes with what they see of others
WAITING, DONE = 0.5, 0.1
ROUNDING = 1e-6

USUAL_THRESHOLD, USUAL_DISTANCE, THRESHOLD_POWER = 0.1, 0.05, 0.3
DISTANCES = {"lossless-like": 0.05, "balanced": 0.075, "fast": 0.115}  # of the presets
BY_THRESHOLD = "by threshold"
PRESETS = (BY_THRESHOLD, *DISTANCES)


def distance_of(threshold: float) -> float:
    """Return the distance that a threshold stands for, as people set it before there were presets; 0 for 0.

    Raises:
        InputError: a number below 0, or none.
    """
    if not 0 <= threshold < math.inf:
        raise InputError(
            "The threshold is {threshold}, but it has to be 0 or more: 0.1 is a usual value.", threshold=threshold
        )
    return USUAL_DISTANCE * (threshold / USUAL_THRESHOLD) ** THRESHOLD_POWER if threshold else 0.0


def distance_for(preset: str, threshold: float) -> float:
    """Return the distance of one of PRESETS; the threshold is read where the preset says so.

    Raises:
        InputError: a preset that there is not, or a threshold below 0.
    """
    check_choice("preset", preset, PRESETS)
    return distance_of(threshold) if preset == BY_THRESHOLD else DISTANCES[preset]


def change(sigmas: Sequence[float]) -> Tensor:
    """Return the share of a video's change that lies before noise levels 0..1, float64 [F], rising from 0 to 1."""
    levels, shares = zip(*CHANGE, strict=True)
    return torch.from_numpy(np.interp(np.asarray(sigmas, dtype=np.float64), levels, shares))


@dataclass(frozen=True)
class Way:
    """How the calls of a run can be made.

    Attributes:
        distance: how far a frame may come before it is computed again; 0 computes all.
        causal: whether no frame sees one after its block.
        apart: whether a call can compute any frames and these see the others as they were (`ClipTokens`); otherwise it
            computes all, under causal attention those up to a frame.
    """

    distance: float
    causal: bool = False
    apart: bool = False


class Ages:
    """How far every visible frame has come since it was last computed, for one condition."""

    def __init__(self) -> None:
        self.row: Row | None = None
        self.places = torch.zeros(0, dtype=torch.float64)  # `change` in the row that was looked at last, [F]
        self.ages = torch.zeros(0, dtype=torch.float64)  # [F]; infinite for what was never computed
        self.answers = torch.zeros(0, dtype=torch.int64)  # how often each was computed at work, [F]

    def look(self, row: Row, causal: bool) -> bool:
        """Let the frames age up to a row; again for the same row changes nothing. Say whether others are seen now."""
        if row == self.row:
            return False
        now, last, self.row = change(row.sigmas), self.row, row
        moved_on = last is None or (last.start, last.end) != (row.start, row.end)
        if moved_on:
            self.ages = torch.full_like(now, math.inf)
            self.answers = torch.zeros_like(now, dtype=torch.int64)
        else:
            way = (now - self.places).abs()
            busy, waiting = at_work(row), not_begun(row)
            rest = way.max() * torch.where(waiting, WAITING, DONE)
            if causal:  # nobody before a frame is changed by it, and what is finished sees nothing else
                rest[waiting] = 0
                rest[: max(row.finished - row.start, 0)] = 0
            rest[way > 0] = math.inf  # it has just made its last step: once more, as what it is now
            self.ages += torch.where(busy, way, rest)
        self.places = now
        return moved_on

    def due(self, way: Way) -> Sequence[int]:
        """Return the visible frames that the row last looked at computes, rising; none for a call that is left out."""
        row = self.row
        assert row is not None
        busy = at_work(row)
        ends = torch.tensor([step in (0, row.num_steps - 1) for step in row.steps])
        distance = torch.where(self.answers == 1, EARLY, 1.0) * way.distance
        must = busy & (ends | (self.ages >= distance - ROUNDING))
        if not must.any():
            return ()
        if not way.apart:
            return range(int(must.nonzero().max()) + 1 if way.causal else len(busy))
        found = must | (self.ages >= JOIN * way.distance)
        if way.causal:
            found &= ~not_begun(row)
        return found.nonzero().flatten().tolist()

    def computed(self, frames: Sequence[int]) -> None:
        """Take in that these frames were computed."""
        assert self.row is not None
        self.ages[list(frames)] = 0.0
        self.answers[list(frames)] += at_work(self.row)[list(frames)]


def at_work(row: Row) -> Tensor:
    """Return which visible frames a row denoises, bool [F]."""
    return torch.tensor([step is not None for step in row.steps])


def not_begun(row: Row) -> Tensor:
    """Return which visible frames still wait for their first step, bool [F]: those at rest as noisy as can be."""
    levels, busy = torch.tensor(row.sigmas), at_work(row)
    return ~busy & (levels >= levels[busy].max())


@dataclass
class Report:
    """What a run computed and left out; every condition counts for itself, so guidance doubles all numbers.

    Attributes:
        frames: latent frames that all calls would have computed.
        computed: those of them that were.
        calls: model calls that there would have been.
        skipped: those of them that were left out whole.
    """

    frames: int = 0
    computed: int = 0
    calls: int = 0
    skipped: int = 0

    def add(self, row: Row, computed: int) -> None:
        """Take in a call for one condition that computes so many frames."""
        self.frames += len(row.sigmas)
        self.computed += computed
        self.calls += 1
        self.skipped += computed == 0

    def sentence(self) -> Words:
        """Return the report as a sentence."""
        return words(
            "Step cache: computed {computed} of {frames} latent frames, {ratio:.1f} times fewer; skipped {skipped} of "
            "{calls} model calls",
            computed=self.computed,
            frames=self.frames,
            ratio=self.frames / max(self.computed, 1),
            skipped=self.skipped,
            calls=self.calls,
        )


def expected(rows: Iterable[Row], way: Way, conditions: int = 1) -> Report:
    """Return what a run will report: all of it follows from its rows.

    Args:
        rows: of the run.
        way: how its calls are made.
        conditions: how many are computed in every row; 2 with guidance.
    """
    report, ages = Report(), Ages()
    for row in rows:
        ages.look(row, way.causal)
        frames = ages.due(way)
        ages.computed(frames)
        for _ in range(conditions):
            report.add(row, len(frames))
    return report

"""Velocities of frames that are not computed: forecast from the last ones that were.

Along a denoising path the velocity changes slowly. For every frame those of the last two computed steps are kept, and
the next ones are forecast along a part of the straight line through them over `reuse.change`. Which frames of a call
are computed is decided by `reuse`, for every condition by itself. A call computes

- some frames, where the model can show them the others as they were last computed (`apart`, see `model.clip_tokens`);
- all frames or none otherwise; under causal attention those up to the last that is due, since nobody sees the others.

Sources: leaving out steps, Liu et al. 2024 (TeaCache); forecasts in place of repeats, Liu et al. 2025 (TaylorSeer);
block by block, FlowCache (2025).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from threading import Lock
from types import TracebackType

import torch
from torch import Tensor

from ..model.clip_tokens import ClipTokens, SomeFrames
from .reuse import Ages, Report, Way
from .run import Row

SAME_PLACE = 1e-5  # computed again so near, a velocity takes the place of the last one
TRUST = 0.7  # part of the line's slope: a whole one forecasts steps worse that are far apart

Compute = Callable[[Sequence[Sequence[int]]], Tensor]


class History:
    """The last two computed velocities of every visible frame, for one condition.

    Args:
        like: a velocity [B, C, F, H, W]; gives shape, dtype and device.
    """

    def __init__(self, like: Tensor):
        frames = like.shape[2]
        self.newest = torch.zeros_like(like)  # [B, C, F, H, W]
        self.older = torch.zeros_like(like)
        self.places = torch.zeros(2, frames, dtype=torch.float64)  # `change` at the newest and the older
        self.points = torch.zeros(frames, dtype=torch.int64)  # how many of the two there are

    def move(self, device: torch.device) -> None:
        """Have what is kept on the device that the condition is computed on now."""
        self.newest, self.older = self.newest.to(device), self.older.to(device)

    def moved_on(self, by: int, frames: int) -> History:
        """Return the history of a window of so many frames that begins `by` frames later."""
        moved = History(self.newest.new_zeros(*self.newest.shape[:2], frames, *self.newest.shape[3:]))
        kept = max(min(len(self.points) - by, frames), 0)
        there = slice(by, by + kept)
        moved.newest[:, :, :kept], moved.older[:, :, :kept] = self.newest[:, :, there], self.older[:, :, there]
        moved.places[:, :kept], moved.points[:kept] = self.places[:, there], self.points[there]
        return moved

    def forecast(self, places: Tensor) -> Tensor:
        """Return the velocity [B, C, F, H, W] expected where the frames are, `change` float64 [F]."""
        gap = self.places[0] - self.places[1]
        known = (self.points > 1) & (gap != 0)
        slope = torch.where(known, TRUST * (places - self.places[0]) / torch.where(known, gap, 1.0), 0.0)
        return torch.lerp(self.older, self.newest, 1 + slope.to(self.newest)[:, None, None])

    def keep(self, velocity: Tensor, places: Tensor, computed: Tensor) -> None:
        """Take in computed velocities.

        Args:
            velocity: [B, C, F, H, W], computed where `computed` says.
            places: where the frames are, `change` float64 [F].
            computed: which frames were, bool [F].
        """
        onward = computed & (self.points > 0) & ((places - self.places[0]).abs() > SAME_PLACE)
        there = computed.to(velocity.device)[:, None, None]
        self.older = torch.where(onward.to(velocity.device)[:, None, None], self.newest, self.older)
        self.newest = torch.where(there, velocity, self.newest)
        self.places[1] = torch.where(onward, self.places[0], self.places[1])
        self.places[0] = torch.where(computed, places, self.places[0])
        self.points = torch.where(onward | (computed & (self.points == 0)), self.points + 1, self.points).clamp(max=2)


class Branch:
    """What a run remembers of one condition."""

    def __init__(self) -> None:
        self.ages = Ages()
        self.history: History | None = None
        self.tokens: ClipTokens | None = None  # the caller's, where frames are computed apart

    def look(self, row: Row, causal: bool) -> None:
        """Come to a row; where the window has moved on, what frames saw of one another is past."""
        before = self.ages.row
        if self.ages.look(row, causal):
            self.tokens = None
            if self.history is not None and before is not None:
                self.history = self.history.moved_on(max(row.start - before.start, 0), len(row.sigmas))

    def tokens_of(self, num_layers: int, frames: int) -> ClipTokens:
        """Return the keys and values of the visible frames in so many layers, made when first asked for."""
        if self.tokens is None:
            self.tokens = ClipTokens(num_layers, frames)
        return self.tokens

    def forecast(self) -> list[Tensor]:
        """Return the velocity [B, C, F, H, W] expected in the row last looked at; none for a condition without one."""
        return [] if self.history is None else [self.history.forecast(self.ages.places)]

    def take(self, velocity: Tensor, frames: Sequence[int]) -> Tensor:
        """Keep the computed frames of a velocity [B, C, F, H, W], and return it with the others forecast."""
        if self.history is None:
            self.history = History(velocity)
        history = self.history
        history.move(velocity.device)
        places = self.ages.places
        computed = torch.zeros(len(places), dtype=torch.bool)
        computed[list(frames)] = True
        self.ages.computed(frames)
        others = None if computed.all() else history.forecast(places)
        history.keep(velocity, places, computed)
        if others is None:
            return velocity
        return torch.where(computed.to(velocity.device)[:, None, None], velocity, others)


class StepCache:
    """The step cache of one sampling run; a context, so that nothing of it outlives the run.

    Args:
        distance: how far a frame may come before it is computed again, see `reuse`; 0 computes all.
    """

    def __init__(self, distance: float):
        self.distance = distance
        self.report = Report()
        self.branches: dict[Hashable, Branch] = {}
        self.lock = Lock()  # a host may compute the conditions in threads, each on a device of its own

    def __enter__(self) -> StepCache:
        """Begin a run."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what was kept."""
        self.branches.clear()

    @property
    def num_bytes(self) -> int:
        """Memory that the kept velocities, keys and values take."""
        histories = [branch.history for branch in self.branches.values() if branch.history is not None]
        tokens = [branch.tokens for branch in self.branches.values() if branch.tokens is not None]
        kept = sum(history.newest.nbytes + history.older.nbytes for history in histories)
        return kept + sum(each.num_bytes for each in tokens)

    def some_frames(
        self, keys: Sequence[Hashable], wanted: Sequence[Sequence[int]], num_layers: int, num_frames: int
    ) -> list[SomeFrames]:
        """Return what a model with so many layers is told to compute of every condition, out of the visible frames."""
        return [
            SomeFrames(frames, self.branches[key].tokens_of(num_layers, num_frames))
            for key, frames in zip(keys, wanted, strict=True)
        ]

    def __call__(
        self, compute: Compute, keys: Sequence[Hashable], row: Row, causal: bool = False, apart: bool = False
    ) -> Tensor:
        """Return the velocities of a call, computed or forecast.

        Args:
            compute: given the visible frames that are wanted of every condition, computes the velocities
                [conditions * B, C, F, H, W]; on other frames they may be anything.
            keys: the conditions of the call, in the order of the batch; cond and uncond are remembered apart.
            row: where the clip stands.
            causal: whether no frame sees one after its block.
            apart: whether `compute` can compute any frames, see `some_frames`; otherwise it is asked for the same ones
                of all conditions, from the first frame on.

        Returns:
            Velocity [conditions * B, C, F, H, W].
        """
        way = Way(self.distance, causal, apart)
        with self.lock:
            branches = [self.branches.setdefault(key, Branch()) for key in keys]
            for branch in branches:
                branch.look(row, causal)
            wanted = [branch.ages.due(way) for branch in branches]
            if not apart:
                wanted = [max(wanted, key=len)] * len(wanted)
            for frames in wanted:
                self.report.add(row, len(frames))
        if not any(wanted):
            return torch.cat([forecast for branch in branches for forecast in branch.forecast()])
        parts = compute(wanted).chunk(len(keys))
        return torch.cat([
            branch.take(part, frames)
            for branch, part, frames in zip(branches, parts, wanted, strict=True)
        ])  # fmt: skip

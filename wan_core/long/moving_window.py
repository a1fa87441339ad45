"""A long video by a window that moves along it: no seams, and every latent frame is made once.

Blocks lag behind each other, so at any time the window holds some that are finished, some in the middle of their steps,
and some that have not begun. A segment is what is finished and kept at a time; between two of them lies no seam, only
the state of the frames at work: their samples and what the solver remembers of them.

Source: the moving window of SkyReels-V2's diffusion forcing (Chen et al. 2025), here for a video of any length.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from ..errors import ScheduleError
from ..sampling.known import KnownFrames
from ..sampling.noise import KNOWN, noise_of_frames
from ..sampling.run import ForcingOptions, Run, plan_rows
from ..sampling.schedule import Staircase, check_window, least_ar_step, padded_frames, staircase
from ..sampling.solvers import adds_noise
from ..words import words
from .plan import MOST_SEGMENTS, MOVING_WINDOW, Plan, Segment, Wanted
from .prompt_blend import prompt_weights
from .rollout import check_amounts, check_known
from .sources import Finished, State, check_made, check_state

SAMPLES = "samples"  # what a state holds: see `WindowTask.begun`
FIRST = "first"  # and the latent frame of the video that it begins with


def plan_moving_window(wanted: Wanted) -> Plan:
    """Plan a video of any length by a moving window; an ar_step of 0 is the least that works.

    Returns:
        The plan; each segment but the last finishes as many blocks as the window holds.

    Raises:
        ScheduleError: settings that no plan can have, with the nearest ones that work.
    """
    wanted.check()
    geometry, total, known = wanted.geometry, wanted.latent_frames, frozenset(wanted.known)
    block, steps = wanted.causal_block_size, wanted.steps
    window = wanted.window(block)
    lag = wanted.ar_step or least_ar_step(window, steps, block)
    check_window(window, steps, lag, block)
    in_blocks = padded_frames(total, block)
    stairs = staircase(in_blocks, steps, lag, block, wanted.prefix, window)
    at_once = window // block
    count = -(-stairs.blocks // at_once)
    if count > MOST_SEGMENTS:
        raise ScheduleError(
            "{total_frames} video frames take {count} windows of {window} latent frames, but at most {most} can be "
            "planned: raise base_num_frames or ask for fewer frames.",
            total_frames=wanted.total_frames,
            count=count,
            window=window,
            most=MOST_SEGMENTS,
        )
    busy = stairs.busy([at in known for at in range(in_blocks)])
    segments: list[Segment] = []
    done = begin = 0
    for index in range(count):
        blocks = min((index + 1) * at_once, stairs.blocks)
        end = max(stairs.ends(blocks - 1), begin)
        seen = stairs.seen(begin)[0] * block, stairs.seen(max(end - 1, begin))[1] * block
        rows = sum(max(min(last, end) - max(first, begin), 0) for first, last in busy)
        finished, start = min(blocks * block, total), min(seen[0], done) if index else 0
        frames = (geometry.first_frame(done), min(geometry.first_frame(finished), wanted.total_frames))
        padding, ahead = blocks * block - finished, max(seen[1] - blocks * block, 0)
        segments.append(Segment(index, start, done - start, finished - done, 0, padding, rows, frames, ahead))
        done, begin = finished, end
    return Plan(
        wanted.total_frames, total, window, 0, block, lag, steps, tuple(segments), MOVING_WINDOW, 0, geometry
    )  # fmt: skip


@dataclass(frozen=True)
class WindowTask:
    """What has to be denoised for one segment: some rows of the run, and all frames that these see.

    Attributes:
        segment: the segment.
        first: latent frame of the video that the run begins with.
        run: F latent frames.
        noise: unit normal float32 [B, C, F, H, W] on the CPU.
        fresh: what the solver adds between its steps [steps - 1, B, C, F, H, W], or None.
        known: the known frames, or None.
        begun: what the segment before left of the first f frames [4, B, C, f, H, W], in the model's space: their
            samples and what the solver remembers; None at the start.
        weights: number of the prompt -> how much it counts in every frame [F].
    """

    segment: Segment
    first: int
    run: Run
    noise: torch.Tensor
    fresh: torch.Tensor | None
    known: KnownFrames | None
    begun: torch.Tensor | None
    weights: Mapping[int, torch.Tensor]

    @property
    def idle(self) -> torch.Tensor:
        """What is left of the frames where no row denoises anything, as all that is seen is given."""
        left = torch.stack([self.noise, *[torch.zeros_like(self.noise)] * 3])
        if self.begun is not None:
            left[:, :, :, : self.begun.shape[3]] = self.begun
        return left


SampleWindow = Callable[[WindowTask], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class MovingWindow:
    """The source of a video by a moving window; see `sources.Source`.

    Attributes:
        plan: of `plan_moving_window`.
        shape: B, C, H, W of its latents.
        options: the diffusion-forcing settings; the lag, the block and the window are the plan's.
        sigmas: the noise schedule [steps + 1], falling to 0.
        seeds: of every place (`Plan.places`), or one for all.
        sample: `task -> (latents [B, C, F, H, W], what is left of all frames [4, B, C, F, H, W])`; not called where
            all that is seen is given.
        known: given latent frames [B, C, 1, H, W] by their number in the video.
        conditions: number of the prompt of every place; empty = 0 for all.
        blend: latent frames over which a new prompt takes over, 0 = at once.
    """

    plan: Plan
    shape: tuple[int, int, int, int]
    options: ForcingOptions
    sigmas: torch.Tensor
    seeds: tuple[int, ...]
    sample: SampleWindow
    known: Mapping[int, torch.Tensor] = field(default_factory=dict)
    conditions: tuple[int, ...] = ()
    blend: int = 0
    state_names = (SAMPLES, FIRST)

    def __post_init__(self) -> None:
        check_amounts(self.options.addnoise_condition, 0.0)
        check_known(self.known, self.plan, self.shape)

    @cached_property
    def mask(self) -> torch.Tensor:
        """Which latent frames of the video in whole blocks are known, bool [F]."""
        mask = torch.zeros(padded_frames(self.plan.latent_frames, self.plan.causal_block_size), dtype=torch.bool)
        mask[list(self.known)] = True
        return mask

    @cached_property
    def forcing(self) -> ForcingOptions:
        """The settings as the run is planned with."""
        plan = self.plan
        return replace(
            self.options, ar_step=plan.ar_step, causal_block_size=plan.causal_block_size, window_frames=plan.window
        )

    @cached_property
    def stairs(self) -> Staircase:
        """The schedule of the whole video."""
        return self.forcing.stairs(self.mask, self.plan.steps)

    @cached_property
    def starts(self) -> list[int]:
        """The first latent frame of every place."""
        return [first for first, _ in self.plan.places]

    def rows(self, segment: Segment) -> range:
        """Return the rows of the whole run that a segment makes; none where all of it is given and nothing began."""
        block = self.plan.causal_block_size
        first, end = segment.latents
        begin = max(self.stairs.ends(first // block - 1), 0)
        return range(begin, max(self.stairs.ends(-(-end // block) - 1), begin))

    def make(self, segment: Segment, state: State | None) -> Finished:
        """Make one segment; see `Source.make`."""
        check_state(segment, state)
        rows, samples = self.rows(segment), torch.zeros(4, *self.shape[:2], 0, *self.shape[2:])
        begins, made = segment.latents[1], dict[int, torch.Tensor]()
        if rows:
            task = self.task(segment, rows, state)
            left, begins = task.idle, task.first
            if task.run.rows:
                latents, left = self.sample(task)
                name = words("Segment {number}", number=segment.index + 1)
                latents = check_made(latents, tuple(task.noise.shape), name).cpu()
                made = dict(enumerate(latents.split(1, dim=2), task.first))
            if rows.stop < self.stairs.num_rows:
                begins = self.stairs.seen(rows.stop)[0] * self.plan.causal_block_size
                samples = left[:, :, :, begins - task.first :].detach().cpu().clone()
        made |= self.known
        finished = torch.cat([made[at] for at in range(*segment.latents)], dim=2)
        return Finished(segment, finished, {SAMPLES: samples, FIRST: torch.tensor(begins)})

    def task(self, segment: Segment, rows: range, state: State | None) -> WindowTask:
        """Return what has to be denoised for a segment."""
        first, run = plan_rows(self.forcing, self.sigmas, self.mask, rows)
        frames = torch.arange(first, first + run.num_frames)
        begun = None if state is None else state[SAMPLES][:, :, :, max(first - int(state[FIRST]), 0) :]
        fresh = known = None
        if adds_noise(self.options.solver):
            drawn = [self.drawn(frames, step) for step in range(1, self.plan.steps)]
            fresh = torch.stack(drawn) if drawn else torch.zeros(0)
        if run.known.any():
            none = torch.zeros(*self.shape[:2], 1, *self.shape[2:])
            latents = torch.cat([self.known.get(at, none) for at in frames.tolist()], dim=2)
            known = KnownFrames(latents, run.known, self.drawn(frames, KNOWN))
        weights = {0: torch.ones(len(frames))}
        if self.conditions:
            weights = prompt_weights(self.starts, self.conditions, frames, self.blend)
        return WindowTask(segment, first, run, self.drawn(frames), fresh, known, begun, weights)

    def drawn(self, frames: torch.Tensor, step: int = 0) -> torch.Tensor:
        """Return the noise of some latent frames of the video, each from the seed of its place."""
        one = (*self.shape[:2], 1, *self.shape[2:])
        return torch.cat([noise_of_frames(one, self.seed_of(at), at, step) for at in frames.tolist()], dim=2)

    def seed_of(self, frame: int) -> int:
        """Return the seed of a latent frame."""
        return self.seeds[min(frame // self.plan.causal_block_size, len(self.seeds) - 1)]

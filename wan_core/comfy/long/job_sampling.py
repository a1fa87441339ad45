"""The sampling of a job: for each segment one run through ComfyUI's guider, by whichever method it is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ...finite import VAE_ADVICE, check_finite
from ...long.carry_over import CARRY_OVERS, Pixels
from ...long.moving_window import MovingWindow, WindowTask
from ...long.plan import MOVING_WINDOW, ROLLING, Segment
from ...long.rolling_video import RollingTask, RollingVideo
from ...long.rollout import Rollout, Segments, Task, seeded
from ...long.settings import PlannedVideo
from ...long.sources import Source
from ...words import Words, words
from ..sampling.guided import Guidance
from ..sampling.memory_ladder import OutOfMemory
from ..sampling.prompt_frames import marked
from ..sampling.rolling import RollingOptions, RollingSampler, run_rolling
from ..sampling.sampler import DiffusionForcingSampler, Stretch
from .inputs import Inputs
from .job_progress import JobProgress


class JobSampling:
    """What samples the segments of a job.

    Args:
        inputs: what comes from other nodes.
        video: what is made of them.
        known: given latent frames [1, 16, 1, H / 8, W / 8] by their number in the video.
        progress: the display.
    """

    def __init__(self, inputs: Inputs, video: PlannedVideo, known: dict[int, torch.Tensor], progress: JobProgress):
        self.inputs, self.settings, self.plan = inputs, video.settings, video.plan
        self.known, self.progress = known, progress
        self.sigmas = self.settings.sigmas
        channels, _, rows, columns = self.plan.geometry.latent_shape(1, self.settings.height, self.settings.width)
        self.shape = (1, channels, rows, columns)

    def source(self) -> Source:
        """Return what makes the video by the method that was chosen."""
        prompts, settings, method = self.inputs.prompts, self.settings, self.settings.method
        given: dict[str, Any] = {"known": self.known, "conditions": prompts.conditions, "blend": prompts.blend}
        seeds = prompts.seeds or (settings.seed,)
        if method.name == MOVING_WINDOW:
            forcing = settings.forcing
            return MovingWindow(self.plan, self.shape, forcing, self.sigmas, seeds, self.window, **given)
        if method.name == ROLLING:
            at_change = method.at_prompt_change
            return RollingVideo(
                self.plan, self.shape, method.window, seeds, self.rolling, at_change=at_change, **given
            )  # fmt: skip
        noise = seeded(prompts.seeds or seeds * len(self.plan.segments))
        rollout = Rollout(
            self.plan,
            self.shape,
            noise,
            **given,
            addnoise_condition=settings.forcing.addnoise_condition,
            drift_control=settings.drift_control,
        )
        return Segments(rollout, self.segment, CARRY_OVERS[settings.carry_over](Pixels(self.decode, self.encode)))

    def seed_of(self, segment: Segment) -> int:
        """Return the seed of a segment's run, where its noise is drawn elsewhere."""
        seeds = self.inputs.prompts.seeds
        return seeds[segment.index] if len(seeds) == len(self.plan.segments) else self.settings.seed

    def part(self, segment: Segment) -> Words:
        """Return what a segment is called."""
        return words("segment {number} of {count}", number=segment.index + 1, count=len(self.plan.segments))

    def guidance(self, positive: list[Any]) -> Guidance:
        """Return what a run with some prompts is guided by."""
        return Guidance(self.inputs.model, positive, self.inputs.negative, self.settings.cfg)

    def run(
        self, segment: Segment, positive: list[Any], sampler: DiffusionForcingSampler, noise: torch.Tensor
    ) -> torch.Tensor:
        """Return what a sampler makes of a segment with some prompts."""
        guidance, callback = self.guidance(positive), self.progress.begin(segment)
        with self.kept(segment):
            return guidance.run(sampler, noise, self.sigmas, self.seed_of(segment), callback=callback)

    def segment(self, task: Task) -> torch.Tensor:
        """Return the latents [1, 16, F, h, w] of a segment.

        Raises:
            OutOfMemory: the segment does not fit in any way; says what is kept of the others.
            NotFiniteError: the model's answer is NaN or infinite; says from which step on.
        """
        segment = task.segment
        sampler = DiffusionForcingSampler(self.settings.forcing, task.known, segment.start, self.part(segment))
        return self.run(segment, self.inputs.prompts.positive(task), sampler, task.noise)

    def window(self, task: WindowTask) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents [1, 16, F, h, w] of all frames that a segment sees, and what is left of them.

        Raises:
            OutOfMemory, NotFiniteError: see `segment`.
        """
        segment = task.segment
        stretch = Stretch(task.run, task.weights, task.fresh, task.begun)
        forcing = task.run.options
        sampler = DiffusionForcingSampler(forcing, task.known, task.first, self.part(segment), stretch)
        positive = marked(self.inputs.prompts.positives, [*task.weights])
        return self.run(segment, positive, sampler, task.noise), sampler.left

    def rolling(self, task: RollingTask) -> torch.Tensor:
        """Return the new latents [1, 16, new, h, w] of a segment.

        Raises:
            OutOfMemory, NotFiniteError: see `segment`.
        """
        segment, method, forcing = task.segment, self.settings.method, self.settings.forcing
        options = RollingOptions(
            self.sigmas, method.chunk_frames, method.window, method.solver(forcing.solver), forcing.fps
        )
        frames = task.known.shape[2] + task.new
        known = task.known if task.known.shape[2] else None
        sampler = RollingSampler(options, frames, known, task, self.part(segment))
        prompts = dict.fromkeys([*task.weights, *(number for number in task.made_from if number >= 0)])
        guidance = self.guidance(marked(self.inputs.prompts.positives, [*prompts]))
        if not self.settings.guided:
            guidance = replace(guidance, negative=None)
        with self.kept(segment):
            made = run_rolling(guidance, sampler, self.shape_of(frames), task.seed, self.progress.begin(segment))
        return made[:, :, task.known.shape[2] :]

    def shape_of(self, frames: int) -> tuple[int, ...]:
        """Return the shape [B, C, F, H, W] of so many latent frames."""
        return (*self.shape[:2], frames, *self.shape[2:])

    @contextmanager
    def kept(self, segment: Segment) -> Iterator[None]:
        """Say what is kept of the segments before where one does not fit in any way."""
        try:
            yield
        except OutOfMemory as error:
            if not segment.index:
                raise
            raise OutOfMemory(
                "{error} The first {finished} of {segments} segments are kept: free memory and queue the same settings "
                "again to resume after them; other settings start a new job.",
                error=error,
                finished=segment.index,
                segments=len(self.plan.segments),
            ) from None

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the video frames [1, n, H, W, 3] of latents [1, 16, F, h, w]."""
        return self.inputs.vae.decode(latents)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the latents of a clip of video frames [1, n, H, W, 3]."""
        latents = self.inputs.vae.encode(frames.flatten(0, 1)).float().cpu()
        return check_finite(latents, words("The re-encoded overlap"), VAE_ADVICE)

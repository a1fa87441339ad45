"""A long video in segments that overlap: what each one is given, and what it hands on to the next.

It samples nothing itself: the caller's `sample_segment` turns a task (noise, known frames, which prompt) into latents.

Source: the long-video loop of SkyReels-V2 (Chen et al. 2025), with latents carried over as diffusers' pipeline does it.
Drift control matches the mean and deviation of every latent channel (Huang and Belongie 2017, AdaIN).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from ..errors import InputError
from ..sampling.known import KnownFrames
from ..sampling.noise import seeded_noise
from ..sampling.sigmas import TRAIN_STEPS
from ..words import counted, words
from .carry_over import Latents
from .plan import Plan, Segment
from .prompt_blend import prompt_weights
from .sources import Finished, State, check_made, check_state

CARRIED = ("tail", "head", "mean", "deviation")  # names under which a Carry is stored
SMALLEST_DEVIATION = 1e-6  # of a channel; below it a channel is constant and only its mean is matched

NoiseSource = Callable[[Segment, str, tuple[int, ...]], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """What `sample_segment` has to denoise.

    Attributes:
        segment: the segment; its `length` is F.
        noise: unit normal float32 [B, C, F, H, W] on the CPU.
        known: the known frames, or None where there are none.
        condition: number of the prompt.
        weights: where prompts blend, how much each counts: number -> [F]; else empty.
    """

    segment: Segment
    noise: torch.Tensor
    known: KnownFrames | None
    condition: int
    weights: Mapping[int, torch.Tensor] = field(default_factory=dict)


SampleSegment = Callable[[Task], torch.Tensor]


@dataclass(frozen=True)
class Carry:
    """What a finished segment hands on; the same for every later segment but the tail.

    Attributes:
        tail: the last latents of the video so far [B, C, overlap, H, W], which the next segment begins with.
        head: the video's latents behind its first [B, C, closing, H, W], a loop's end; closing is 0 without one.
        mean: of every channel of the first segment [B, C], for drift control.
        deviation: the same of the standard deviation.
    """

    tail: torch.Tensor
    head: torch.Tensor
    mean: torch.Tensor
    deviation: torch.Tensor

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return all that has to be stored, by name."""
        return {name: getattr(self, name) for name in CARRIED}


def seeded(seeds: tuple[int, ...]) -> NoiseSource:
    """Return a noise source that draws every segment's noise from that segment's seed.

    Args:
        seeds: one seed for each segment; equal seeds still give every segment noise of its own.
    """

    def draw(segment: Segment, stream: str, shape: tuple[int, ...]) -> torch.Tensor:
        return seeded_noise(shape, seeds[segment.index], f"{stream} of segment {segment.index}")

    return draw


def check_amounts(addnoise_condition: int, drift_control: float) -> None:
    """Refuse amounts that mean nothing to a roll-out; `Raises: InputError`."""
    if not 0 <= addnoise_condition <= TRAIN_STEPS:
        raise InputError(
            "addnoise_condition is {addnoise_condition}, but it has to be 0 to {most}: the authors use 20.",
            addnoise_condition=addnoise_condition,
            most=TRAIN_STEPS,
        )
    if not 0 <= drift_control <= 1:
        raise InputError(
            "drift_control is {drift_control}, but it has to be 0 to 1: 0 turns it off.", drift_control=drift_control
        )


@dataclass(frozen=True)
class Rollout:
    """A long video to be made.

    Attributes:
        plan: its segments.
        shape: B, C, H, W of its latents.
        noise: `(segment, "noise" or "condition", shape) -> unit normal float32`; see `seeded`.
        known: given latent frames [B, C, 1, H, W] by their number in the video; see `known_clip`.
        conditions: number of the prompt of every segment; empty = 0 for all.
        addnoise_condition: noise that the model sees on known frames, 0..1000 timesteps.
        drift_control: how far latents are matched to the statistics of the first segment, 0 (not) to 1.
        blend: latent frames over which a new prompt takes over, 0 = at once; see `prompt_weights`.
    """

    plan: Plan
    shape: tuple[int, int, int, int]
    noise: NoiseSource
    known: Mapping[int, torch.Tensor] = field(default_factory=dict)
    conditions: tuple[int, ...] = ()
    addnoise_condition: int = 20
    drift_control: float = 0.0
    blend: int = 0

    def __post_init__(self) -> None:
        segments = len(self.plan.segments)
        if self.conditions and len(self.conditions) != segments:
            raise InputError(
                "There are prompts for {given}, but the video has {segments}: give one for each.",
                given=counted(len(self.conditions), "segments"),
                segments=segments,
            )
        check_amounts(self.addnoise_condition, self.drift_control)
        if self.blend < 0:
            raise InputError(
                "The blend of prompts is {blend} latent frames, but has to be 0 or more.", blend=self.blend
            )
        check_known(self.known, self.plan, self.shape)


def check_known(known: Mapping[int, torch.Tensor], plan: Plan, shape: tuple[int, int, int, int]) -> None:
    """Refuse given latent frames that a video of this plan and shape [B, C, H, W] cannot have; `Raises: InputError`."""
    batch, channels, height, width = shape
    for index, latent in known.items():
        if not 0 <= index < plan.latent_frames:
            raise InputError(
                "Latent frame {index} is given, but the video has {frames}: use 0 to {last}, that is video "
                "frames 0 to {last_frame}.",
                index=index,
                frames=plan.latent_frames,
                last=plan.latent_frames - 1,
                last_frame=plan.total_frames - 1,
            )
        if tuple(latent.shape) != (batch, channels, 1, height, width):
            raise InputError(
                "The given latent frame {index} has shape {shape}, but the video needs {wanted}: encode it at "
                "the size of the video.",
                index=index,
                shape=list(latent.shape),
                wanted=[batch, channels, 1, height, width],
            )


def known_clip(start: int, latents: torch.Tensor) -> dict[int, torch.Tensor]:
    """Return given latents [B, C, F, H, W] frame by frame, as `Rollout.known` wants them.

    Args:
        start: their first latent frame in the video: 0 for a start image or a video that is extended,
            `plan.latent_frames - 1` for an end image, `Geometry.latent_of_frame` for a key frame.
        latents: any number of frames.
    """
    return {start + at: frame for at, frame in enumerate(latents.split(1, dim=2))}


@dataclass(frozen=True)
class Segments:
    """The source of a video in segments; see `sources.Source`.

    Attributes:
        rollout: the video.
        sample: turns a task into latents [B, C, F, H, W] on any device; not called where all latents are given.
        carry_over: how a segment hands on its end.
    """

    rollout: Rollout
    sample: SampleSegment
    carry_over: Latents = field(default_factory=Latents)
    state_names = CARRIED

    @property
    def plan(self) -> Plan:
        """What the video is made of."""
        return self.rollout.plan

    def make(self, segment: Segment, state: State | None) -> Finished:
        """Make one segment; see `Source.make`."""
        check_state(segment, state)
        rollout = self.rollout
        carry = None if state is None else Carry(*(state[name] for name in CARRIED))
        task = make_task(rollout, segment, carry)
        window = segment.overlap + segment.new
        if task.known is not None and bool(task.known.mask[:window].all()):
            latents = task.known.latents
        else:
            latents = check_made(
                self.sample(task), tuple(task.noise.shape), words("Segment {number}", number=segment.index + 1)
            ).cpu()
        latents = latents[:, :, :window]
        if carry is not None and rollout.drift_control > 0:
            made = torch.tensor([not known for known in segment.known(rollout.known)[:window]])
            latents = match_statistics(latents, made, segment.overlap, carry, rollout.drift_control)
        return Finished(segment, latents, next_carry(rollout.plan, segment, carry, latents, self.carry_over).tensors())


def make_task(rollout: Rollout, segment: Segment, carry: Carry | None) -> Task:
    """Return the task of a segment: its noise, and all that is known in its window."""
    batch, channels, height, width = rollout.shape
    shape = (batch, channels, segment.length, height, width)
    noise = check_made(rollout.noise(segment, "noise", shape), shape, words("The noise"))
    condition = rollout.conditions[segment.index] if rollout.conditions else 0
    weights: Mapping[int, torch.Tensor] = {}
    if rollout.conditions:
        first, end = segment.latents
        frames = torch.arange(segment.start, segment.start + segment.length).clamp(first, end - 1)  # known ones: any
        starts = [first for first, _ in rollout.plan.places]
        weights = prompt_weights(starts, rollout.conditions, frames, rollout.blend)
    weights = weights if len(weights) > 1 else {}
    mask = torch.tensor(segment.known(rollout.known))
    if not mask.any():
        return Task(segment, noise, None, condition, weights)
    latents = torch.zeros_like(noise)
    first, behind = segment.latents
    for index in range(first, behind):
        if index in rollout.known:
            latents[:, :, index - segment.start] = rollout.known[index][:, :, 0].to(latents)
    if carry is not None:
        latents[:, :, : segment.overlap] = carry.tail.to(latents)
        closing = segment.overlap + segment.new
        latents[:, :, closing : closing + segment.closing] = carry.head[:, :, : segment.closing].to(latents)
    level = rollout.addnoise_condition / TRAIN_STEPS
    condition_noise = (
        check_made(rollout.noise(segment, "condition", shape), shape, words("The noise")) if level else None
    )
    return Task(segment, noise, KnownFrames(latents, mask, condition_noise), condition, weights)


def next_carry(plan: Plan, segment: Segment, carry: Carry | None, window: torch.Tensor, carry_over: Latents) -> Carry:
    """Return what the next segment needs; clones, so that the window itself can be freed."""
    last = segment.index == len(plan.segments) - 1
    tail = window[:, :, -plan.overlap :]
    if not last:
        tail = check_made(carry_over.tail(window, plan), tuple(tail.shape), words("The re-encoded overlap"))
    tail = tail.detach().cpu().clone()
    if carry is not None:
        return Carry(tail, carry.head, carry.mean, carry.deviation)
    head = window[:, :, 1 : 1 + plan.segments[-1].closing].clone()
    return Carry(tail, head, window.mean(dim=(2, 3, 4)), spread(window))


def match_statistics(
    window: torch.Tensor, made: torch.Tensor, overlap: int, carry: Carry, strength: float
) -> torch.Tensor:
    """Bring the channels of new latents to the mean and deviation of the first segment.

    The correction grows from nothing at the first new frame to its full strength at the last: so there is no jump where
    the segment begins, and the next one follows on from corrected frames.

    Args:
        window: [B, C, overlap + new, H, W].
        made: bool [overlap + new], frames that were made here; the others stay as they are.
        overlap: carried frames.
        carry: has the statistics.
        strength: 0..1.

    Returns:
        The window with its made frames corrected.
    """
    frames = window[:, :, made]
    mean, deviation = frames.mean(dim=(2, 3, 4)), spread(frames)
    scale = torch.where(deviation > SMALLEST_DEVIATION, carry.deviation / deviation.clamp(min=SMALLEST_DEVIATION), 1.0)
    wide = (..., None, None, None)
    matched = (window - mean[wide]) * scale[wide] + carry.mean[wide]
    at = torch.arange(1 - overlap, window.shape[2] - overlap + 1)
    ramp = strength * torch.where(made, at / max(window.shape[2] - overlap, 1), 0.0)[:, None, None]
    return window + ramp * (matched - window)


def spread(latents: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of every channel of [B, C, F, H, W], as [B, C]."""
    return latents.std(dim=(2, 3, 4), unbiased=False)

"""A plan for a person: its segments as a table, and what it needs beside the model."""

from __future__ import annotations

from dataclasses import dataclass

from ..words import Joined, Words, counted, lines, words
from .kept_states import most_kept
from .plan import Plan

FLOAT32 = 4  # bytes
MEGABYTE = 10**6
MOST_LINES = 200  # of a table
SAMPLER_TENSORS = 9  # latents that a run holds: noise, known, its noise, x, x0, one prediction and the solver's three


def table(plan: Plan, guided: bool = True) -> Joined:
    """Return the plan as text for a person, a long one without its middle; `guided`: every row calls it twice."""
    half = MOST_LINES // 2
    shown = [
        words(  # no columns: Chinese letters are as wide as no number of Latin ones
            "{number}: video frames {first}-{last}; {new} new, {carried} carried, {padding} padding; {rows}",
            number=segment.index + 1,
            first=segment.frames[0],
            last=segment.frames[1] - 1,
            new=segment.new,
            carried=segment.overlap,
            padding=segment.closing + segment.padding,
            rows=counted(segment.rows, "rows"),
        )
        for segment in (*plan.segments[:half], *plan.segments[half:][-half:])
    ]
    if len(plan.segments) > MOST_LINES:
        shown.insert(half, words("... {count} more segments", count=len(plan.segments) - MOST_LINES))
    shown.append(
        words(
            "{frames} video frames in {segments}; {rows}, {calls} (carried, new and padding are latent frames)",
            frames=plan.total_frames,
            segments=counted(len(plan.segments), "segments"),
            rows=counted(plan.rows, "rows"),
            calls=counted(plan.calls(guided), "model calls"),
        )
    )
    return lines(*shown)


@dataclass(frozen=True)
class Estimate:
    """What a plan needs beside the model, in bytes; nothing of it but the journal grows with the length.

    Attributes:
        tokens: tokens of the longest window: the model's work and memory follow from it.
        sampling: latents that the sampler holds, float32.
        pixels: the decoded frames of the longest segment, float32.
        journal: what is kept on disk to go on from and to repair from, float32, without the video itself.
    """

    tokens: int
    sampling: int
    pixels: int
    journal: int

    def text(self) -> Words:
        """Return it as a line for a person."""
        return words(
            "In addition to the model: {sampling:.0f} MB of latents and {pixels:.0f} MB of decoded frames at the same "
            "time, whatever the length ({tokens} tokens in the longest window); {journal:.0f} MB on disk besides the "
            "video.",
            sampling=self.sampling / MEGABYTE,
            pixels=self.pixels / MEGABYTE,
            tokens=self.tokens,
            journal=self.journal / MEGABYTE,
        )


def estimate(plan: Plan, height: int, width: int) -> Estimate:
    """Return what a plan needs beside the model for a picture of so many pixels."""
    geometry = plan.geometry
    _, down, across = geometry.patch
    channels, _, rows, columns = geometry.latent_shape(0, height, width)
    longest = max(segment.length for segment in plan.segments)
    latent = channels * rows * columns * FLOAT32
    pixels = max(segment.num_frames for segment in plan.segments) * height * width * 3 * FLOAT32
    return Estimate(
        tokens=plan.seen * (rows // down) * (columns // across),
        sampling=SAMPLER_TENSORS * longest * latent,
        pixels=pixels,
        journal=most_kept(len(plan.segments)) * plan.left_behind * latent,
    )

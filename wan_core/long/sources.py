"""Where finished latents come from: a source makes a video segment by segment, whichever way, and can go on anywhere.

A source is a function of its settings and of the state that the segment before left, a few tensors. So a video that is
stopped and resumed is to the bit the one that was not, and memory does not grow with the length. There are three:
`rollout.Segments`, `moving_window.MovingWindow` and `rolling_video.RollingVideo`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch

from ..errors import InputError
from ..finite import check_finite
from ..words import Words, words
from .journal import Journal
from .plan import Plan, Segment

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Finished:
    """A finished segment.

    Attributes:
        segment: which.
        window: its latents on the CPU, the new ones last [B, C, overlap + new, H, W] or [B, C, new, H, W].
        state: what the next segment needs, on the CPU.
    """

    segment: Segment
    window: torch.Tensor
    state: State

    @property
    def latents(self) -> torch.Tensor:
        """The new latents [B, C, new, H, W]: all segments' together are the video."""
        return self.window[:, :, self.window.shape[2] - self.segment.new :]


class Source(Protocol):
    """A way of making a video."""

    @property
    def plan(self) -> Plan:
        """What the video is made of."""
        ...

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the tensors of a state."""
        ...

    def make(self, segment: Segment, state: State | None) -> Finished:
        """Make one segment.

        Args:
            segment: which of the plan.
            state: of the segment before; None for the first. Tensors of other names are left alone.

        Raises:
            InputError: a state where there is none, or none where there should be one; latents of another shape.
            NotFiniteError: what was made holds NaN or infinity.
        """
        ...


def roll_out(source: Source, after: int = -1, state: State | None = None) -> Iterator[Finished]:
    """Make a long video; what is not kept of a finished segment is freed.

    Args:
        source: makes it.
        after: number of the last segment that is finished; -1 begins at the start.
        state: what that segment left.
    """
    for segment in source.plan.segments[after + 1 :]:
        finished = source.make(segment, state)
        state = finished.state
        yield finished
        del finished  # or it would live on while the next one is made


def continue_job(source: Source, journal: Journal) -> Iterator[Finished]:
    """Make the segments that a journal lacks, whichever they are.

    The consumer has to `journal.commit(segment.index, state, parts)` each before it asks for the next one; it may store
    tensors of its own among the state.

    Args:
        source: makes the video.
        journal: the open journal of this job, with as many segments.

    Raises:
        RuntimeError: the segment before was not committed.
    """
    last = None
    while (index := journal.next_segment()) is not None:
        if index == last:
            raise RuntimeError(f"segment {index} was not committed to the journal")
        state = journal.load(index - 1, *source.state_names) if index else None
        yield source.make(source.plan.segments[index], state)
        last = index


def check_state(segment: Segment, state: State | None) -> None:
    """Refuse a state that a segment cannot go on from; `Raises: InputError`."""
    if (state is None) != (segment.index == 0):
        raise InputError(
            "Segment {segment} needs what the segment before it left, but was given {given}: resume after the last "
            "finished one.",
            segment=segment.index + 1,
            given=words("nothing") if state is None else words("something"),
        )


def check_made(latents: torch.Tensor, shape: tuple[int, ...], what: Words) -> torch.Tensor:
    """Return latents that have the shape wanted and are finite; `Raises: InputError, NotFiniteError`."""
    if tuple(latents.shape) != shape:
        raise InputError(
            "{what} has shape {shape}, expected {wanted}: check the nodes that made it.",
            what=what,
            shape=list(latents.shape),
            wanted=list(shape),
        )
    return check_finite(latents, what, words("check the nodes that made it"))

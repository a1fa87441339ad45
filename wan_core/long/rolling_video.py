"""A long video by a causal few-step model, chunk after chunk, as a source that can go on anywhere.

What a chunk sees of the video are keys and values of finished chunks. They take too much room for a disk, so a segment
begins by making them again, from the clean latents that the window still holds. The same happens where the prompt
changes, and there a person may choose what the new prompt finds (`CHANGES`).

Sources: recaching at a change of prompt is that of LongLive (Yang et al. 2025); keeping little more than the sink that
of Infinity-RoPE (Yesiltepe et al. 2025).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import torch

from ..errors import InputError, ScheduleError
from ..words import words
from .plan import MOST_SEGMENTS, ROLLING, Plan, Segment, Wanted
from .prompt_blend import prompt_weights
from .rolling import Window, split_known
from .rollout import check_known
from .sources import Finished, State, check_made, check_state

RECACHE, KEEP, FLUSH, CUT = CHANGES = ("recache", "keep", "flush", "cut")
WINDOWS_AT_ONCE = 2  # of new latent frames in a segment: making keys and values again takes a tenth of the work then
SINK, TAIL, SCENE, MADE_FROM = STATE = ("sink", "tail", "scene", "made_from")


def plan_rolling(wanted: Wanted, window: Window, chunk_frames: int = 3) -> Plan:
    """Plan a video of any length, chunk after chunk.

    Args:
        wanted: length, steps and geometry; known frames are those at its start.
        window: what a chunk sees, in latent frames.
        chunk_frames: latent frames of a chunk.

    Raises:
        ScheduleError: settings that no plan can have, with the nearest ones that work.
    """
    wanted = replace(wanted, causal_block_size=chunk_frames)
    wanted.check()
    window.check(chunk_frames)
    geometry, total, steps = wanted.geometry, wanted.latent_frames, wanted.steps
    at_once = new_at_once(window, chunk_frames)
    if total // at_once > MOST_SEGMENTS:
        raise ScheduleError(
            "{total_frames} video frames take {count} segments of {new} new latent frames, but at most {most} can be "
            "planned: raise window_frames or ask for fewer frames.",
            total_frames=wanted.total_frames,
            count=-(-total // at_once),
            new=at_once,
            most=MOST_SEGMENTS,
        )
    shown = wanted.total_frames
    plan = Plan(shown, total, window.frames, 0, chunk_frames, 0, steps, (), ROLLING, wanted.prefix, geometry)
    return cut_at(plan, window)


def cut_at(plan: Plan, window: Window, cuts: Sequence[int] = ()) -> Plan:
    """Return a plan of chunks with segments that also begin at some latent frames, each the first of a chunk."""
    prefix, total, chunk = plan.prefix, plan.latent_frames, plan.causal_block_size
    ends: list[int] = []
    for begin, end in pairwise([prefix, *(cut for cut in cuts if prefix < cut < total), total]):
        at_once = new_at_once(window, chunk)
        ends += [*range(begin + at_once, end, at_once), end]
    segments, done, first_frame = list[Segment](), 0, plan.geometry.first_frame
    for index, end in enumerate(ends):
        begin = max(done, prefix)  # of what is made; the first segment holds what is given as well
        chunks = -(-(end - begin) // chunk)
        carried = window.carried(begin, chunk)
        seen_again = len(split_known(min(carried, begin), chunk))
        frames = (first_frame(done), min(first_frame(end), plan.total_frames))
        padding = chunks * chunk - (end - begin)
        rows = seen_again + chunks * plan.steps + max(chunks - 1, 0)
        overlap = min(carried, done)
        segments.append(Segment(index, done - overlap, overlap, end - done, 0, padding, rows if chunks else 0, frames))
        done = end
    return replace(plan, segments=tuple(segments))


def new_at_once(window: Window, chunk: int) -> int:
    """Return the new latent frames of a segment, whole chunks."""
    return max(WINDOWS_AT_ONCE * window.frames // chunk, 1) * chunk


@dataclass(frozen=True)
class RollingTask:
    """What has to be made for one segment.

    Attributes:
        segment: the segment.
        known: clean latents that its chunks see [B, C, k, H, W], those of the sink first; k may be 0.
        sink: how many of them are of the sink, at positions 0 and on.
        position: rotary position of the first known frame after the sink; the new ones follow them.
        first: number of the first new latent frame in the video, for its noise.
        new: latent frames to make.
        weights: number of the prompt -> how much it counts in every new frame [new], the newest prompt first.
        made_from: number of the prompt that each known frame's keys and values are made with; -1 = that of the frames
            to make.
        seed: of all noise.
    """

    segment: Segment
    known: torch.Tensor
    sink: int
    position: int
    first: int
    new: int
    weights: Mapping[int, torch.Tensor]
    made_from: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class RollingVideo:
    """The source of a video chunk after chunk; see `sources.Source`.

    Attributes:
        plan: of `plan_rolling`, cut where prompts change (`cuts_of`).
        shape: B, C, H, W of its latents.
        window: what a chunk sees.
        seeds: of every place (`Plan.places`), or one for all.
        sample: `task -> new latents [B, C, new, H, W]`.
        known: given latent frames [B, C, 1, H, W] by their number in the video; 0 and on, without a gap.
        conditions: number of the prompt of every place; empty = 0 for all.
        blend: latent frames over which a new prompt takes over, 0 = at once.
        at_change: what the chunks of a new prompt see of the video before it, one of CHANGES. recache: all of the
            window, its keys and values made again with the new prompt. keep: all of it, as the prompts before made it.
            flush: the sink and the last chunk. cut: nothing, as if a new video began.
    """

    plan: Plan
    shape: tuple[int, int, int, int]
    window: Window
    seeds: tuple[int, ...]
    sample: Callable[[RollingTask], torch.Tensor]
    known: Mapping[int, torch.Tensor]
    conditions: tuple[int, ...] = ()
    blend: int = 0
    at_change: str = RECACHE
    state_names = STATE

    def __post_init__(self) -> None:
        check_known(self.known, self.plan, self.shape)
        later = [at for number, at in enumerate(sorted(self.known)) if at != number]
        if later:
            raise InputError(
                "Latent frame {later} is known, but a rolling video is made from the start, so only its first frames "
                "can be known: use the method segments or moving window for end and key images.",
                later=later[0],
            )

    @cached_property
    def starts(self) -> list[int]:
        """The first latent frame of every place."""
        return [first for first, _ in self.plan.places]

    def place_of(self, frame: int) -> int:
        """Return the number of the place that a latent frame lies in."""
        return bisect_right(self.starts, frame) - 1

    def prompt_of(self, frame: int) -> int:
        """Return the number of the prompt of a latent frame, blends aside."""
        return self.conditions[self.place_of(frame)] if self.conditions else 0

    def make(self, segment: Segment, state: State | None) -> Finished:
        """Make one segment; see `Source.make`."""
        check_state(segment, state)
        first, end = max(segment.latents[0], self.plan.prefix), segment.latents[1]
        if state is None:
            given = [self.known[at] for at in range(self.plan.prefix)]
            past = torch.cat(given, dim=2) if given else torch.zeros(*self.shape[:2], 0, *self.shape[2:])
            size = min(self.window.sink_frames, past.shape[2])
            state = self.state_of(past[:, :, :size], past[:, :, size:], 0, self.prompts(0, past.shape[2]))
        elif self.prompt_of(first) != self.prompt_of(first - 1):
            state = self.changed(state, first)
        made = torch.zeros(*self.shape[:2], 0, *self.shape[2:])
        if end > first:
            task = self.task(segment, state, first, end)
            name = words("Segment {number}", number=segment.index + 1)
            made = check_made(self.sample(task), (*self.shape[:2], end - first, *self.shape[2:]), name).cpu()
        given = [self.known[at] for at in range(segment.latents[0], first)]
        return Finished(segment, torch.cat([*given, made], dim=2), self.after(state, made, first))

    def prompts(self, first: int, end: int) -> torch.Tensor:
        """Return the numbers of the prompts of some latent frames, int64 [n]."""
        return torch.tensor([self.prompt_of(at) for at in range(first, end)], dtype=torch.int64)

    def state_of(self, sink: torch.Tensor, tail: torch.Tensor, scene: int, made_from: torch.Tensor) -> State:
        """Return a state: of the frames that later chunks see, and with which prompts they were made.

        Args:
            sink: the frames at the beginning that stay.
            tail: those after it.
            scene: latent frame of the video whose rotary position is 0.
            made_from: int64 [sink + tail].
        """
        kept = max(self.window.frames - self.window.sink_frames - self.plan.causal_block_size, 0)
        size, left_out = sink.shape[2], max(tail.shape[2] - kept, 0)
        prompts = torch.cat((made_from[:size], made_from[size + left_out :]))
        tail = tail[:, :, left_out:]
        return {SINK: sink.clone(), TAIL: tail.clone(), SCENE: torch.tensor(scene), MADE_FROM: prompts}

    def changed(self, state: State, first: int) -> State:
        """Return what a new prompt finds where it begins, at a latent frame of the video."""
        if self.at_change == CUT:
            nothing = state[TAIL][:, :, :0]
            return self.state_of(nothing, nothing, first, torch.zeros(0, dtype=torch.int64))
        if self.at_change == FLUSH:
            last = min(self.plan.causal_block_size, state[TAIL].shape[2])
            size = state[SINK].shape[2]
            prompts = torch.cat((state[MADE_FROM][:size], state[MADE_FROM][len(state[MADE_FROM]) - last :]))
            return self.state_of(
                state[SINK], state[TAIL][:, :, state[TAIL].shape[2] - last :], int(state[SCENE]), prompts
            )
        return state

    def task(self, segment: Segment, state: State, first: int, end: int) -> RollingTask:
        """Return what has to be made for a segment."""
        sink, tail = state[SINK], state[TAIL]
        weights = {0: torch.ones(end - first)}
        if self.conditions:
            weights = prompt_weights(self.starts, self.conditions, torch.arange(first, end), self.blend)
        own = self.at_change == KEEP
        made_from = tuple(number if own else -1 for number in state[MADE_FROM].tolist())
        position = first - int(state[SCENE]) - tail.shape[2]
        seed = self.seeds[min(self.place_of(first), len(self.seeds) - 1)]
        known = torch.cat((sink, tail), dim=2)
        return RollingTask(
            segment, known, sink.shape[2], position, first, end - first, weights, made_from, seed
        )  # fmt: skip

    def after(self, state: State, made: torch.Tensor, first: int) -> State:
        """Return the state after new latents that begin at a latent frame of the video."""
        sink, tail = state[SINK], torch.cat((state[TAIL], made), dim=2)
        prompts = torch.cat((state[MADE_FROM], self.prompts(first, first + made.shape[2])))
        missing = self.window.sink_frames - sink.shape[2]
        if missing > 0:  # the scene is too young to have all of its sink
            sink, tail = torch.cat((sink, tail[:, :, :missing]), dim=2), tail[:, :, missing:]
        return self.state_of(sink, tail, int(state[SCENE]), prompts)


def cuts_of(plan: Plan, conditions: Sequence[int], seeds: Sequence[int] = (), blend: int = 0) -> tuple[int, ...]:
    """Return the latent frames at which a segment of a rolling video has to begin.

    They are where a prompt or a seed changes, and where a blend ends: what is computed is the same within a segment.

    Args:
        plan: without cuts; gives the places.
        conditions: number of the prompt of every place.
        seeds: of every place, or fewer where they are all alike.
        blend: latent frames that a change takes.
    """
    places, size, found = plan.places, plan.causal_block_size, set()
    for (_, first), (before, after) in zip(places, pairwise(conditions), strict=False):
        if before != after:
            found |= {first, first + -(-blend // size) * size}
    if len(seeds) == len(places):
        found |= {
            first for (_, first), (before, after) in zip(places, pairwise(seeds), strict=False) if before != after
        }
    return tuple(sorted(found))

"""The plan of a video in segments: which latent frames each carries over, makes and throws away. No tensors here.

A video longer than the model's window is made in segments. Each one begins with the last latent frames of the one
before it (the overlap) as known frames and adds new ones. Where frames go in whole blocks (ar_step or causal attention)
the windows are cut to whole blocks and the last one is filled up and trimmed again, so every length works.

Source: the long-video loops of SkyReels-V2 (Chen et al. 2025) and of its pipeline in diffusers; the segments are theirs
wherever those hold whole blocks. An overlap that is no whole number of blocks loses no frame here: it stays known.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

from ..errors import ScheduleError
from ..sampling.schedule import Staircase, padded_frames, staircase
from ..words import words
from .plan import MOST_SEGMENTS, Plan, Segment, Wanted


def plan_segments(wanted: Wanted) -> Plan:
    """Plan a video in segments.

    A loop goes once around: the last video frame of its last latent frame is the first frame again. So what is known as
    its future begins at the video's second latent frame - the first one holds one picture in place of four, and would
    put three steps of the motion into one - and that last video frame is trimmed. It has two segments or more.

    Raises:
        ScheduleError: settings that no plan can have, with the nearest ones that work.
    """
    wanted.check()
    geometry, total = wanted.geometry, wanted.latent_frames
    block = wanted.causal_block_size if wanted.ar_step > 0 or wanted.causal_attention else 1
    window, overlap = wanted.window(block), geometry.latent_frames(wanted.overlap_history)
    check_overlap(wanted, window, block)
    if wanted.loop:
        check_loop(wanted, overlap)
    closing = overlap if wanted.loop else 0
    whole = total <= geometry.latent_frames(wanted.base_num_frames) and not wanted.loop
    counts = [total] if whole else split(total, window, overlap, closing)
    if len(counts) > MOST_SEGMENTS:
        raise ScheduleError(
            "{total_frames} video frames take {count} segments of {new} new latent frames, but at most {most} can be "
            "planned: raise base_num_frames, lower overlap_history or ask for fewer frames.",
            total_frames=wanted.total_frames,
            count=len(counts),
            new=counts[1],
            most=MOST_SEGMENTS,
        )
    plan = Plan(
        wanted.shown_frames, total, window, overlap, block, wanted.ar_step, wanted.steps, (), geometry=geometry
    )  # fmt: skip
    return replace(plan, segments=segments_of(plan, counts, closing, sorted(wanted.known)))


def segments_of(plan: Plan, counts: list[int], closing: int, given: list[int]) -> tuple[Segment, ...]:
    """Return the segments of a plan that has none yet.

    Args:
        plan: the plan.
        counts: new latent frames of every segment.
        closing: latent frames known behind the last one's.
        given: known latent frames of the video, in order.
    """
    first_frame, segments, done = plan.geometry.first_frame, list[Segment](), 0
    rows: dict[tuple[object, ...], int] = {}  # most segments are alike
    for index, new in enumerate(counts):
        carried = plan.overlap if index else 0
        after = closing if index == len(counts) - 1 else 0
        padding = padded_frames(carried + new + after, plan.causal_block_size) - carried - new - after
        frames = (first_frame(done), min(first_frame(done + new), plan.total_frames))
        segment = Segment(index, done - carried, carried, new, after, padding, 0, frames)
        inside = given[bisect_left(given, done) : bisect_left(given, done + new)]
        kind = (carried, new, after, *(at - done for at in inside))
        if kind not in rows:
            rows[kind] = count_rows(plan, segment.known(inside), carried + new)
        segments.append(replace(segment, rows=rows[kind]))
        done += new
    return tuple(segments)


def count_rows(plan: Plan, known: list[bool], shown: int) -> int:
    """Return how many rows a segment takes, none where all that it shows is known.

    Args:
        plan: gives steps, lag and blocks.
        known: of every latent frame of its window.
        shown: latent frames at its start that are not made for others alone.
    """
    if all(known[:shown]):
        return 0
    return sum(end - first for first, end in stairs_of(plan, known).busy(known))


def stairs_of(plan: Plan, known: list[bool]) -> Staircase:
    """Return the schedule of a segment; `known`: of every latent frame of its window, of which not all are."""
    return staircase(len(known), plan.steps, plan.ar_step, plan.causal_block_size, known.index(False))


def check_overlap(wanted: Wanted, window: int, block: int) -> None:
    """Refuse an overlap that leaves no room for new frames in a window of whole blocks; `Raises: ScheduleError`."""
    carried, video_frames = wanted.geometry.latent_frames(wanted.overlap_history), wanted.geometry.video_frames
    sides = 2 if wanted.loop else 1  # both ends of a loop are known
    if sides * carried < window:
        return
    wider = video_frames(padded_frames(sides * carried + 1, block))
    smaller = (window - 1) // sides
    advice = words("raise base_num_frames to {wider}", wider=wider)
    if smaller:
        advice = words(
            "lower overlap_history to {smaller} or raise base_num_frames to {wider}",
            smaller=video_frames(smaller),
            wider=wider,
        )
    where = words(" at each end of a loop") if sides == 2 else ""
    raise ScheduleError(
        "overlap_history is {overlap} video frames ({carried} latent frames{where}) and base_num_frames is {base} "
        "({window} latent frames in whole blocks of {block}), which leaves no room for new frames: {advice}.",
        overlap=wanted.overlap_history,
        carried=carried,
        where=where,
        base=wanted.base_num_frames,
        window=window,
        block=block,
        advice=advice,
    )


def check_loop(wanted: Wanted, overlap: int) -> None:
    """Refuse a loop that cannot be closed; `overlap`: in latent frames. `Raises: ScheduleError`."""
    total_frames, geometry = wanted.total_frames, wanted.geometry
    if wanted.causal_attention:
        raise ScheduleError(
            "A loop needs frames that see their future, but causal attention hides it: turn causal_attention off."
        )
    # the first segment hands on `overlap` latent frames and the first stays behind
    least = geometry.video_frames(overlap + 2)
    nearest = max(geometry.video_frames(round((total_frames - 1) / geometry.temporal) + 1), least)
    if total_frames != nearest:
        raise ScheduleError(
            "A loop of {total_frames} video frames can't be closed: it has to be 4k + 1 frames and at least {least}. "
            "Use {nearest}.",
            total_frames=total_frames,
            least=least,
            nearest=nearest,
        )


def split(total: int, window: int, overlap: int, closing: int) -> list[int]:
    """Return the new latent frames of every segment.

    All windows but the last are full. In a loop, `closing` frames stand behind the last one: that one has as many new
    frames as there is room for, so that the bridge back to the start is as long as it can be, and the others are split
    as without a loop.
    """
    stride = window - overlap
    if closing:
        bridge = min(stride - closing, total - closing - 1)  # the first segment makes what the end leads to
        return [*split(total - bridge, window, overlap, 0), bridge]
    return [min(window, total), *(min(stride, total - at) for at in range(window, total, stride))]

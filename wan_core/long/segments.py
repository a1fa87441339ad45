"""The plan of a long video: which latent frames each segment carries over, makes and throws away. No tensors here.

A video longer than the model's window is made in segments. Each one begins with the last latent frames of the one
before it (the overlap) as known frames and adds new ones. Where frames go in whole blocks (ar_step or causal attention)
the windows are cut to whole blocks and the last one is filled up and trimmed again, so every length works.

Source: the long-video loops of SkyReels-V2 (Chen et al. 2025) and of its pipeline in diffusers; the segments are theirs
wherever those hold whole blocks. An overlap that is no whole number of blocks loses no frame here: it stays known.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, replace

from ..errors import ScheduleError
from ..model.geometry import WAN21, Geometry
from ..sampling.schedule import padded_frames
from ..words import Joined, Words, counted, lines, words

FLOAT32 = 4  # bytes
MEGABYTE = 10**6
SEGMENTS, MOVING_WINDOW, ROLLING = METHODS = ("segments", "moving window", "rolling")
MOST_SEGMENTS = 50_000  # of a plan
MOST_LINES = 200  # of its table
SAMPLER_TENSORS = 9  # latents that a run holds: noise, known, its noise, x, x0, one prediction and the solver's three


@dataclass(frozen=True)
class Segment:
    """One run of the sampler; it sees `overlap` + `new` + `closing` + `padding` + `ahead` latent frames.

    Attributes:
        index: number of the segment, from 0.
        start: latent frame of the video at which the window begins.
        overlap: latent frames carried over from the segment before.
        new: latent frames of the video that it finishes.
        closing: latent frames of the video's start, its second one first, known here as its future: the end of a
            loop.
        padding: latent frames made only to fill the last block.
        rows: calls of the model, twice as many with guidance.
        frames: the video frames (first, behind the last) that it finishes.
        ahead: latent frames behind them that it begins, for the segment after it to finish.
    """

    index: int
    start: int
    overlap: int
    new: int
    closing: int
    padding: int
    rows: int
    frames: tuple[int, int]
    ahead: int = 0

    @property
    def length(self) -> int:
        """Latent frames of the window."""
        return self.overlap + self.new + self.closing + self.padding + self.ahead

    @property
    def latents(self) -> tuple[int, int]:
        """The latent frames of the video (first, behind the last) that it finishes."""
        return self.start + self.overlap, self.start + self.overlap + self.new

    @property
    def num_frames(self) -> int:
        """Video frames that it finishes."""
        return self.frames[1] - self.frames[0]

    def known(self, given: Collection[int] = ()) -> list[bool]:
        """Return for every latent frame of the window whether it is known; `given`: latent frames of the video."""
        new = [at in given for at in range(*self.latents)]
        return [True] * self.overlap + new + [True] * self.closing + [False] * self.padding


@dataclass(frozen=True)
class Plan:
    """What a long video will be made of.

    Attributes:
        total_frames: video frames. A loop has one fewer than was asked for: its last would be its first again.
        latent_frames: latent frames that hold them.
        window: most latent frames that the model sees, unless the whole video is one padded segment.
        overlap: latent frames that a segment carries over.
        causal_block_size: latent frames of a block, 1 where frames need not go in blocks.
        ar_step: steps that a block lags behind the one before it.
        steps: denoising steps of a frame.
        segments: one or more.
        method: how the latents are made, one of METHODS.
        prefix: latent frames that are given at the start, by which the chunks of a rolling video move on.
        geometry: of the model.
    """

    total_frames: int
    latent_frames: int
    window: int
    overlap: int
    causal_block_size: int
    ar_step: int
    steps: int
    segments: tuple[Segment, ...]
    method: str = SEGMENTS
    prefix: int = 0
    geometry: Geometry = WAN21

    @property
    def places(self) -> list[tuple[int, int]]:
        """The latent frames (first, end) of every part of the video that has one prompt, whose change takes effect.

        They are segments, and blocks or chunks where the video is made without seams.
        """
        if self.method == SEGMENTS:
            return [segment.latents for segment in self.segments]
        begins = [0, *range(self.prefix or self.causal_block_size, self.latent_frames, self.causal_block_size)]
        return list(zip(begins, [*begins[1:], self.latent_frames], strict=True))

    @property
    def place_frames(self) -> list[tuple[int, int]]:
        """The video frames (first, end) of every place."""
        first_frame = self.geometry.first_frame
        return [(first_frame(first), min(first_frame(end), self.total_frames)) for first, end in self.places]

    @property
    def seen(self) -> int:
        """The most latent frames that the model sees at once."""
        longest = max(segment.length for segment in self.segments)
        return longest if self.method == SEGMENTS else min(self.window, longest)

    @property
    def left_behind(self) -> int:
        """The latents, counted in latent frames, that every segment leaves for the next one at most.

        A moving window leaves the samples at work and three more of each that the solver remembers.
        """
        by_method = {MOVING_WINDOW: 4 * self.window, ROLLING: self.window}
        return by_method.get(self.method, self.overlap + self.segments[-1].closing)

    @property
    def rows(self) -> int:
        """Calls of the model in all, twice as many with guidance."""
        return sum(segment.rows for segment in self.segments)

    @property
    def trimmed_frames(self) -> int:
        """Video frames at the end that are decoded but not wanted, 0 to 3: lengths other than 4k + 1, and loops."""
        return self.geometry.video_frames(self.latent_frames) - self.total_frames

    def calls(self, guided: bool = True) -> int:
        """Return the calls of the model in all; `guided`: every row calls it twice."""
        return self.rows * (2 if guided else 1)

    def table(self, guided: bool = True) -> Joined:
        """Return the plan as text for a person, a long one without its middle; `guided`: every row calls it twice."""
        shown: list[Words] = []
        left_out = max(len(self.segments) - MOST_LINES, 0)
        for segment in self.segments:
            if left_out and segment.index >= MOST_LINES // 2 and segment.index < MOST_LINES // 2 + left_out:
                if segment.index == MOST_LINES // 2:
                    shown.append(words("... {count} more segments", count=left_out))
                continue
            shown.append(  # no columns: Chinese letters are as wide as no number of Latin ones
                words(
                    "{number}: video frames {first}-{last}; {new} new, {carried} carried, {padding} padding; {rows}",
                    number=segment.index + 1,
                    first=segment.frames[0],
                    last=segment.frames[1] - 1,
                    new=segment.new,
                    carried=segment.overlap,
                    padding=segment.closing + segment.padding,
                    rows=counted(segment.rows, "rows"),
                )
            )
        shown.append(
            words(
                "{frames} video frames in {segments}; {rows}, {calls} (carried, new and padding are latent frames)",
                frames=self.total_frames,
                segments=counted(len(self.segments), "segments"),
                rows=counted(self.rows, "rows"),
                calls=counted(self.calls(guided), "model calls"),
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
        journal: what is kept on disk to go on from every segment, float32, without the video itself.
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


def plan_segments(
    total_frames: int,
    base_num_frames: int,
    overlap_history: int,
    causal_block_size: int = 1,
    ar_step: int = 0,
    steps: int = 30,
    causal_attention: bool = False,
    known: Collection[int] = (),
    loop: bool = False,
    geometry: Geometry = WAN21,
) -> Plan:
    """Plan a video of any length.

    A length that is not 4k + 1 is made up to the next one and trimmed after decoding (`Plan.trimmed_frames`).

    A loop goes once around: the last video frame of its last latent frame is the first frame again. So what is known as
    its future begins at the video's second latent frame - the first one holds one picture in place of four, and would
    put three steps of the motion into one - and that last video frame is trimmed.

    Args:
        total_frames: video frames wanted.
        base_num_frames: video frames of the model's window (97 or 121); cut to whole latent frames and whole blocks.
        overlap_history: video frames that a segment carries over (17 or 37); cut to whole latent frames.
        causal_block_size: latent frames of a block.
        ar_step: steps that a block lags behind the one before it; 0 = all together.
        steps: denoising steps of a frame.
        causal_attention: whether the model's attention goes block by block.
        known: latent frames of the video that are given (start, end, key frames), for the number of rows.
        loop: whether the end has to lead back to the start; the video then has two segments or more, and
            `total_frames` counts the first frame at either end.
        geometry: of the model.

    Returns:
        The plan.

    Raises:
        ScheduleError: settings that no plan can have, with the nearest ones that work.
    """
    check_counts(total_frames, base_num_frames, overlap_history, causal_block_size, ar_step, steps)
    block = causal_block_size if ar_step > 0 or causal_attention else 1
    base, overlap = geometry.latent_frames(base_num_frames), geometry.latent_frames(overlap_history)
    window = max(base // block, 1) * block
    closing = overlap if loop else 0
    check_overlap(base_num_frames, overlap_history, window, block, 2 if loop else 1, geometry)
    if loop:
        check_loop(total_frames, overlap, causal_attention, geometry)
    total = geometry.latent_of_frame(total_frames - 1) + 1
    wanted = total_frames - 1 if loop else total_frames
    counts = [total] if total <= base and not loop else split(total, window, overlap, closing)
    if len(counts) > MOST_SEGMENTS:
        raise ScheduleError(
            "{total_frames} video frames take {count} segments of {new} new latent frames, but at most {most} can be "
            "planned: raise base_num_frames, lower overlap_history or ask for fewer frames.",
            total_frames=total_frames,
            count=len(counts),
            new=counts[1],
            most=MOST_SEGMENTS,
        )
    given, segments, done = sorted(known), [], 0
    rows: dict[tuple[int, int, int], int] = {}  # of segments without given images, most of which are alike
    for index, new in enumerate(counts):
        carried = overlap if index else 0
        after = closing if index == len(counts) - 1 else 0
        padding = padded_frames(carried + new + after, block) - carried - new - after
        frames = (geometry.first_frame(done), min(geometry.first_frame(done + new), wanted))
        segment = Segment(index, done - carried, carried, new, after, padding, 0, frames)
        inside = given[bisect_left(given, done) : bisect_left(given, done + new)]
        kind = (carried, new, after)
        if inside or kind not in rows:
            mask = segment.known(set(inside))
            made = not all(mask[: carried + new])  # otherwise there is nothing to make
            count = count_rows(mask, block, ar_step, steps) if made else 0
            rows |= {} if inside else {kind: count}
        segments.append(replace(segment, rows=count if inside else rows[kind]))
        done += new
    return Plan(wanted, total, window, overlap, block, ar_step, steps, tuple(segments), geometry=geometry)


def estimate(plan: Plan, height: int, width: int, batch: int = 1) -> Estimate:
    """Return what a plan needs beside the model.

    Args:
        plan: the plan.
        height: pixels.
        width: pixels.
        batch: videos made at once.
    """
    geometry = plan.geometry
    _, down, across = geometry.patch
    channels, _, rows, columns = geometry.latent_shape(0, height, width)
    longest = max(segment.length for segment in plan.segments)
    latent = batch * channels * rows * columns * FLOAT32
    carried = plan.left_behind
    pixels = max(segment.num_frames for segment in plan.segments) * height * width * 3 * FLOAT32
    return Estimate(
        tokens=batch * plan.seen * (rows // down) * (columns // across),
        sampling=SAMPLER_TENSORS * longest * latent,
        pixels=batch * pixels,
        journal=len(plan.segments) * carried * latent,
    )


def check_counts(total: int, base: int, overlap: int, block: int, ar_step: int, steps: int) -> None:
    """Refuse numbers that are too small or too large by themselves; `Raises: ScheduleError`."""
    for name, value, least, most, usual in (
        (words("The number of frames"), total, 1, 2_000_000, words("97 or more")),
        (words("base_num_frames"), base, 1, 10_000, words("97 or 121")),
        (words("overlap_history"), overlap, 1, 10_000, words("17 or 37")),
        (words("causal_block_size"), block, 1, 10_000, words("1 or 5")),
        (words("ar_step"), ar_step, 0, 10_000, words("0 or 5")),
        (words("steps"), steps, 1, 10_000, words("30 to 50")),
    ):
        if not least <= value <= most:
            raise ScheduleError(
                "{name} is {value}, but it has to be {least} to {most}: the usual values are {usual}.",
                name=name,
                value=value if abs(value) < 10**15 else words("a number of over 15 digits"),
                least=least,
                most=most,
                usual=usual,
            )


def check_overlap(base: int, overlap: int, window: int, block: int, sides: int, geometry: Geometry) -> None:
    """Refuse an overlap that leaves no room for new frames; `sides`: 2 in a loop, where both ends are known."""
    carried, video_frames = geometry.latent_frames(overlap), geometry.video_frames
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
        overlap=overlap,
        carried=carried,
        where=where,
        base=base,
        window=window,
        block=block,
        advice=advice,
    )


def check_loop(total_frames: int, overlap: int, causal_attention: bool, geometry: Geometry) -> None:
    """Refuse a loop that cannot be closed; `Raises: ScheduleError`."""
    if causal_attention:
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


def busy_rows(known: list[bool], block: int, ar_step: int, steps: int) -> list[tuple[int, int]]:
    """Return the rows (first, end) that denoise something, without building the schedule.

    Args:
        known: of every latent frame of the window, a whole number of blocks.
        block: latent frames of a block.
        ar_step: rows that a block begins after the one before it.
        steps: rows that a block takes.
    """
    leading, lag = leading_blocks(known, block), min(ar_step, steps)
    rows: list[tuple[int, int]] = []
    for number in range(leading, len(known) // block):
        if not all(known[number * block : (number + 1) * block]):
            begin = (number - leading) * lag
            joins = bool(rows) and begin <= rows[-1][1]
            rows.append((rows.pop()[0] if joins else begin, begin + steps))
    return rows


def count_rows(known: list[bool], block: int, ar_step: int, steps: int) -> int:
    """Return how many rows denoise something; the arguments are those of `busy_rows`."""
    return sum(end - first for first, end in busy_rows(known, block, ar_step, steps))


def leading(known: Collection[int]) -> int:
    """Return how many latent frames are known at the start; `known`: their numbers."""
    return next((number for number, at in enumerate(sorted(known)) if at != number), len(known))


def leading_blocks(known: list[bool], block: int) -> int:
    """Return how many whole blocks are known at the start of a window."""
    return next((at for at, value in enumerate(known) if not value), len(known)) // block

"""What a long video is made of: what is wanted, the segments, and the plan that they are. No tensors here.

A way of making video turns a `Wanted` into a `Plan`: `segments.plan_segments`, `moving_window.plan_moving_window` or
`rolling_video.plan_rolling`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from ..errors import ScheduleError
from ..model.geometry import WAN21, Geometry
from ..words import words

SEGMENTS, MOVING_WINDOW, ROLLING = METHODS = ("segments", "moving window", "rolling")
MOST_SEGMENTS = 50_000  # of a plan


@dataclass(frozen=True)
class Wanted:
    """What the plan of a video follows from, whichever way it is made; a way that has no overlap or window reads none.

    Attributes:
        total_frames: video frames; a length that is not 4k + 1 is made up to the next one and trimmed after decoding.
        base_num_frames: video frames of the model's window (97 or 121); cut to whole latent frames and whole blocks.
        overlap_history: video frames that a segment carries over (17 or 37); cut to whole latent frames.
        causal_block_size: latent frames of a block.
        ar_step: steps that a block lags behind the one before it; 0 = all together.
        steps: denoising steps of a frame.
        causal_attention: whether the model's attention goes block by block.
        known: latent frames of the video that are given (start, end, key frames).
        loop: whether the end leads back to the start; `total_frames` then counts the first frame at either end.
        geometry: of the model.
    """

    total_frames: int
    base_num_frames: int = 97
    overlap_history: int = 17
    causal_block_size: int = 1
    ar_step: int = 0
    steps: int = 30
    causal_attention: bool = False
    known: Collection[int] = ()
    loop: bool = False
    geometry: Geometry = WAN21

    @property
    def shown_frames(self) -> int:
        """Video frames of the file: a loop's last would be its first again."""
        return self.total_frames - 1 if self.loop else self.total_frames

    @property
    def latent_frames(self) -> int:
        """Latent frames that hold them all."""
        return self.geometry.latent_of_frame(self.total_frames - 1) + 1

    @property
    def prefix(self) -> int:
        """How many latent frames are given at the start."""
        return next((number for number, at in enumerate(sorted(self.known)) if at != number), len(self.known))

    def window(self, block: int) -> int:
        """Return the latent frames of the model's window in whole blocks of so many."""
        return max(self.geometry.latent_frames(self.base_num_frames) // block, 1) * block

    def check(self) -> None:
        """Refuse numbers that are too small or too large by themselves; `Raises: ScheduleError`."""
        for name, value, least, most, usual in (
            (words("The number of frames"), self.total_frames, 1, 2_000_000, words("97 or more")),
            (words("base_num_frames"), self.base_num_frames, 1, 10_000, words("97 or 121")),
            (words("overlap_history"), self.overlap_history, 1, 10_000, words("17 or 37")),
            (words("causal_block_size"), self.causal_block_size, 1, 10_000, words("1 or 5")),
            (words("ar_step"), self.ar_step, 0, 10_000, words("0 or 5")),
            (words("steps"), self.steps, 1, 10_000, words("30 to 50")),
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

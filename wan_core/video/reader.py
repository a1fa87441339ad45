"""Video files of others, read frame by frame as players show them: which frames, when, and the last ones of many."""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch

from ..errors import InputError
from ..words import Words, words
from .pictures import progressive, shown, square_pixels

WHOLE_SHARE = 0.95  # of the promised frames; edit lists hide a few in files that are whole
USUAL_RATE = Fraction(24)  # of a file that says none, as one of a single frame
MOST_OFF = Fraction(1, 2)  # of a frame's duration, that a frame may be shown early or late
FILM = Fraction(1001, 1000)  # by which rates of television are slower than whole ones
LEAD = 2  # frames before the wanted ones, which a deinterlacer looks at
HIDES_FRAMES = ("vp8",)  # codecs some of whose packets are never shown

Source = str | os.PathLike[str] | bytes
Times = list[Fraction | None]


@dataclass(frozen=True)
class VideoStream:
    """What a video file says about its pictures.

    Attributes:
        width: pixels, as they lie in the file; a player may turn the picture.
        height: pixels.
        rate: frames per second.
    """

    width: int
    height: int
    rate: Fraction


@dataclass(frozen=True)
class Timing:
    """When the frames of a video are shown.

    Attributes:
        rate: frames per second; of frames at uneven times that of the last ones.
        times: of each frame, in seconds from the first on; () = at this rate.
        seconds: how long all are shown.
    """

    rate: Fraction
    times: tuple[Fraction, ...]
    seconds: Fraction


@dataclass(frozen=True)
class Cut:
    """The part of a video that is used.

    Attributes:
        begin: seconds of the file's clock; frames before it are left out.
        end: the same; frames from there on are left out. None = to the end.
    """

    begin: Fraction | None = None
    end: Fraction | None = None

    def holds(self, time: Fraction | None) -> bool:
        """Whether a frame shown at a time is in it; one that doesn't say when is."""
        if time is None:
            return True
        return (self.begin is None or time >= self.begin) and (self.end is None or time < self.end)


WHOLE = Cut()


def describe_video(source: Source) -> VideoStream:
    """Return size and rate of a video, from a file or its bytes; `Raises: InputError` for what is no video."""
    with opened(source) as container:
        stream = pictures_of(container)
        if not stream.width:
            raise InputError("{source} does not say its size: convert it to mp4 first.", source=name_of(source))
        size = square_pixels(stream, stream.width, stream.height)
        return VideoStream(*size, stream.average_rate or stream.guessed_rate or USUAL_RATE)


def pictures_of(container: av.container.InputContainer) -> av.VideoStream:
    """Return the stream that players show: not a cover picture that stands before it."""
    return cast(av.VideoStream, container.streams.best("video") or container.streams.video[0])


def read_frames(source: Source, times: Times | None = None, cut: Cut = WHOLE) -> Iterator[np.ndarray]:
    """Yield the frames of a video one after the other, uint8 [H, W, 3], as players show them.

    Args:
        source: a file or its bytes.
        times: takes up when each frame is shown, in seconds of the file's clock; None for a frame that doesn't say.
        cut: the part that is wanted.

    Raises:
        InputError: what is no video, is broken, or ends long before the number of frames it promises.
    """
    with opened(source) as container:
        stream, count = pictures_of(container), 0
        if cut.begin:
            _seek(container, stream, cut.begin)
        for frame, time in _decoded(container, stream, source):
            count += 1
            if cut.end is not None and time is not None and time >= cut.end:
                return
            if cut.holds(time):
                if times is not None:
                    times.append(time)
                yield shown(frame, stream)
        if not cut.begin and count < WHOLE_SHARE * stream.frames:
            raise InputError(
                "{source} is broken: it ends after {count} of {frames} frames; export or download it again.",
                source=name_of(source),
                count=count,
                frames=stream.frames,
            )


def _seek(container: av.container.InputContainer, stream: av.VideoStream, time: Fraction) -> None:
    """Go to where decoding has to begin for a frame; where a file cannot do that it stands at its beginning."""
    with suppress(av.FFmpegError):
        container.seek(int(time / Fraction(stream.time_base or 1)), stream=stream)


def _decoded(
    container: av.container.InputContainer, stream: av.VideoStream, source: Source
) -> Iterator[tuple[av.VideoFrame, Fraction | None]]:
    """Yield the frames from where a container stands, each with its time; `Raises: InputError` for broken ones."""
    stream.thread_type = "AUTO"
    try:
        for frame in progressive(container.decode(stream), stream):
            yield frame, None if frame.pts is None else frame.pts * Fraction(frame.time_base or 1)
    except av.FFmpegError as error:
        raise InputError(
            "{source} is broken ({error}): make or download it again.", source=name_of(source), error=error.strerror
        ) from error


def read_tail(source: Source, most: int, cut: Cut = WHOLE) -> tuple[torch.Tensor, Times]:
    """Return the last frames of a video of any length, in the memory of these frames.

    Only they are decoded where the file says when its frames are shown; else all are.

    Args:
        source: a file or its bytes.
        most: how many frames at most.
        cut: the part that is wanted.

    Returns:
        float32 [n, H, W, 3] in 0..1, and when each frame of the part is shown, as for `read_frames`.

    Raises:
        InputError: what is no video, or one without frames.
    """
    times: Times = [time for time in _packet_times(source) if cut.holds(time)]
    tail = _sought(source, [time for time in times[-most - LEAD :] if time is not None], most)
    if tail is None:
        times = []
        tail = deque(read_frames(source, times, cut), maxlen=most)
    if not tail:
        raise InputError("{source} has no frames: choose another video.", source=name_of(source))
    return torch.from_numpy(np.stack(tail)).float() / 255, times


def _packet_times(source: Source) -> list[Fraction]:
    """Return when each frame is shown, in order and without decoding; [] where the file does not tell it reliably."""
    with opened(source) as container:
        stream = pictures_of(container)
        if stream.codec_context.name in HIDES_FRAMES:
            return []
        base, times, count = Fraction(stream.time_base or 1), [], 0
        for packet in container.demux(stream):
            if packet.size:
                count += 1
                if packet.pts is None or packet.is_corrupt:
                    return []
                if not packet.is_discard:
                    times.append(packet.pts * base)
    times.sort()
    if not times or count < stream.frames or any(later <= time for time, later in pairwise(times)):
        return []
    with opened(source) as container:  # frames before the first that can be decoded are never shown
        first = next(container.decode(pictures_of(container)), None)
    return times if first is not None and first.pts is not None and first.pts * base == times[0] else []


def _sought(source: Source, times: Sequence[Fraction], most: int) -> deque[np.ndarray] | None:
    """Return the last frames, of which `times` says when they are shown, or None where others are found there."""
    if not times:
        return None
    tail: deque[np.ndarray] = deque(maxlen=most)
    found: deque[Fraction | None] = deque(maxlen=most)
    with opened(source) as container:
        stream = pictures_of(container)
        _seek(container, stream, times[0])
        for frame, time in _decoded(container, stream, source):
            if time is not None and times[0] <= time <= times[-1]:
                tail.append(shown(frame, stream))
                found.append(time)
    return tail if list(found) == list(times[-most:]) else None


def timing(times: Sequence[Fraction | None], said: Fraction, last: int) -> Timing:
    """Return when frames are shown.

    Args:
        times: of every frame, in seconds; None for one that doesn't say.
        said: frames per second, as the file says.
        last: how many of the last frames new ones go on from: as fast as these.
    """
    known = [time for time in times if time is not None]
    if len(known) < max(len(times), 2) or any(later <= time for time, later in pairwise(known)):
        return Timing(said, (), len(times) / said)
    measured = (len(known) - 1) / (known[-1] - known[0])
    usual = () if said.denominator in (1, 1001) else (round(said * FILM) / FILM, Fraction(round(said)))
    for rate in (*usual, said, measured.limit_denominator(1001)):
        if rate and all(abs((time - known[0]) * rate - number) <= MOST_OFF for number, time in enumerate(known)):
            return Timing(rate, (), len(known) / rate)
    seen = known[-max(last, 2) :]
    rate = ((len(seen) - 1) / (seen[-1] - seen[0])).limit_denominator(1001)
    return Timing(rate, tuple(time - known[0] for time in known), known[-1] - known[0] + 1 / rate)


def opened(source: Source) -> av.container.InputContainer:
    """Open a file or its bytes for reading; `Raises: InputError` for what holds no pictures."""
    try:
        container = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r")
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            "{source} cannot be read as a video ({error}): choose another.",
            source=name_of(source),
            error=error.strerror,
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError("{source} has no pictures, only sound or text: choose a video.", source=name_of(source))
    return container


def name_of(source: Source) -> Words:
    """Return what messages call a source."""
    if isinstance(source, bytes):
        return words("The video")
    return words("The video {name}", name=Path(source).name)

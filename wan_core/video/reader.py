"""Finished video files: reading one frame by frame, and joining parts without encoding them again."""

from __future__ import annotations

import heapq
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.video.reformatter import Colorspace

from ..errors import InputError
from ..words import Words, words
from .writer import CONTAINERS, replacing

HDR = {16: "PQ", 18: "HLG"}  # how a file codes brightness, by the numbers of ITU-T H.273, as those below
BT2020, UNTAGGED = 9, 2  # of primaries, of a matrix
HD_LINES = 720  # from here on players take what says nothing for BT.709
WHOLE_SHARE = 0.95  # of the promised frames; edit lists hide a few in files that are whole
OWN_TEXTS = frozenset(("major_brand", "minor_version", "compatible_brands", "encoder"))  # that a container writes

Source = str | os.PathLike[str] | bytes
Sound = Callable[[av.container.OutputContainer], Iterator[av.Packet]]  # adds its stream before its first packet


@dataclass(frozen=True)
class VideoStream:
    """What a video file says about its pictures.

    Attributes:
        width: pixels.
        height: pixels.
        rate: frames per second.
    """

    width: int
    height: int
    rate: Fraction


def describe_video(source: Source) -> VideoStream:
    """Return size and rate of a video, from a file or its bytes; `Raises: InputError` for what is no video."""
    with opened(source) as container:
        stream = pictures_of(container)
        if not stream.average_rate or not stream.width:
            raise InputError(
                "{source} does not say its size and frame rate: convert it to mp4 first.", source=_name(source)
            )
        context = stream.codec_context
        if context.color_trc in HDR or context.color_primaries == BT2020:
            raise InputError(
                "{source} is HDR or wide-gamut ({kind}), but the result has the colours of ordinary video (BT.709): "
                "convert it to SDR first.",
                source=_name(source),
                kind=HDR.get(context.color_trc, "BT.2020"),
            )
        return VideoStream(*square_pixels(stream, stream.width, stream.height), stream.average_rate)


def pictures_of(container: av.container.InputContainer) -> av.VideoStream:
    """Return the stream that players show: not a cover picture that stands before it."""
    return cast(av.VideoStream, container.streams.best("video") or container.streams.video[0])


def square_pixels(stream: av.VideoStream, width: int, height: int) -> tuple[int, int]:
    """Return the size of a stream's pictures as they are shown, with pixels as wide as they are high."""
    shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not shape or shape == 1:
        return width, height
    return (round(width * shape), height) if shape > 1 else (width, round(height / shape))


def read_frames(source: Source, times: list[Fraction | None] | None = None) -> Iterator[np.ndarray]:
    """Yield the frames of a video one after the other, uint8 [H, W, 3], as players show them.

    Args:
        source: a file or its bytes.
        times: takes up when each frame is shown, in seconds of the file's clock; None for a frame that doesn't say.

    Raises:
        InputError: what is no video, is broken, or ends long before the number of frames it promises.
    """
    with opened(source) as container:
        stream, count = pictures_of(container), 0
        stream.thread_type = "AUTO"
        try:
            for frame in container.decode(stream):
                width, height = square_pixels(stream, frame.width, frame.height)
                untagged = frame.colorspace == UNTAGGED and frame.height >= HD_LINES and not frame.format.is_rgb
                if untagged or (width, height) != (frame.width, frame.height):
                    space = Colorspace.ITU709 if untagged else None
                    frame = frame.reformat(width, height, "rgb24", src_colorspace=space)
                yield frame.to_ndarray(format="rgb24")
                count += 1
                if times is not None:
                    times.append(None if frame.pts is None else frame.pts * Fraction(frame.time_base or 1))
        except av.FFmpegError as error:
            raise InputError(
                "{source} is broken ({error}): make or download it again.", source=_name(source), error=error.strerror
            ) from error
        if count < WHOLE_SHARE * stream.frames:
            raise InputError(
                "{source} is broken: it ends after {count} of {frames} frames; make it again.",
                source=_name(source),
                count=count,
                frames=stream.frames,
            )


def read_tail(source: Source, most: int) -> tuple[torch.Tensor, list[Fraction | None]]:
    """Return the last frames of a video of any length, in the memory of these frames.

    Args:
        source: a file or its bytes.
        most: how many frames at most.

    Returns:
        float32 [n, H, W, 3] in 0..1, and when each frame of the whole video is shown, as for `read_frames`.

    Raises:
        InputError: what is no video, or one without frames.
    """
    times: list[Fraction | None] = []
    tail = deque(read_frames(source, times), maxlen=most)
    if not tail:
        raise InputError("{source} has no frames: choose another video.", source=_name(source))
    return torch.from_numpy(np.stack(tail)).float() / 255, times


def uneven_times(times: Sequence[Fraction | None], rate: Fraction) -> tuple[Fraction, ...]:
    """Return when each frame is shown, from 0 on, where that isn't at a constant rate; () where it is or isn't said.

    Args:
        times: of every frame, in seconds.
        rate: frames per second on average; a frame more or less is none of it, since containers round.
    """
    known = [time for time in times if time is not None]
    if len(known) < max(len(times), 2) or any(later <= time for time, later in pairwise(known)):
        return ()
    shown = tuple(time - known[0] for time in known)
    even = all(abs(time * rate - number) <= 1 for number, time in enumerate(shown))
    return () if even else shown


def join_videos(
    path: str | os.PathLike[str],
    parts: Sequence[str | os.PathLike[str]],
    metadata: Mapping[str, str] | None = None,
    sound: Sound | None = None,
    times: Sequence[Fraction] = (),
) -> int:
    """Put video files of one kind behind one another, without encoding them again.

    Args:
        path: the file to write, with the parts' suffix; its folder is made, an older file is replaced.
        parts: files that `write_video` wrote with the same settings, in order.
        metadata: texts to keep in the file, by name.
        sound: what is heard from the first frame on; None = nothing.
        times: when the first frames are shown, from 0 on; those after them, or all, follow at the parts' rate.

    Returns:
        The number of frames written.

    Raises:
        InputError: no part, or parts of different sizes or rates.
    """
    if not parts:
        raise InputError("There are no parts to join, but a video needs at least one.")
    kinds = [describe_video(part) for part in parts]
    for part, kind in zip(parts, kinds, strict=True):
        if kind != kinds[0]:
            raise InputError(
                "{part} is {kind}, but {first} is {first_kind}: remove it and make it again.",
                part=part,
                kind=kind,
                first=parts[0],
                first_kind=kinds[0],
            )
    rate = kinds[0].rate

    def clock(number: int) -> Fraction:
        """Return when a frame is shown, in seconds; below 0 at the parts' rate as well."""
        if not times or number < 0:
            return number / rate
        return times[number] if number < len(times) else times[-1] + (number - len(times) + 1) / rate

    delay = max(_reorder_delay(part, rate) for part in parts)
    count = 0
    with replacing(Path(path)) as unfinished, _writable(unfinished, Path(path).suffix) as container:
        container.metadata.update(metadata or {})
        with av.open(str(parts[0])) as source:
            target = container.add_stream_from_template(source.streams.video[0], opaque=True)
        pictures = _packets_behind_one_another(parts, target, rate, delay, clock)
        heard = sound(container) if sound else iter(())
        # in the order of time: or the container would hold one of the two in memory
        for packet in heapq.merge(pictures, heard, key=_decoding_time):
            count += packet.stream is target
            container.mux(packet)
    return count


def texts_of(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the texts in a file that `join_videos` was given, by name in lower case; not the container's own."""
    with av.open(str(path)) as container:
        found = {name.lower(): text for name, text in container.metadata.items()}
    return {name: text for name, text in found.items() if name not in OWN_TEXTS}


def _packets_behind_one_another(
    parts: Sequence[str | os.PathLike[str]],
    target: av.VideoStream,
    rate: Fraction,
    delay: int,
    clock: Callable[[int], Fraction],
) -> Iterator[av.Packet]:
    """Yield the packets of all parts for one stream.

    Args:
        parts: files.
        target: the stream.
        rate: frames per second of the parts.
        delay: frames that are decoded before the first is shown.
        clock: when a frame is shown, in seconds, by its number.
    """
    count = 0
    for part in parts:
        begins = count
        with av.open(str(part)) as source:
            base = Fraction(source.streams.video[0].time_base or 1)
            for packet, number in _packets(source, rate):
                # decoding times run on over all parts, each of which would begin before the one before it ends
                packet.pts, packet.dts = (round(clock(at) / base) for at in (begins + number, count - delay))
                packet.stream = target
                count += 1
                yield packet


def _decoding_time(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base or 1)


@contextmanager
def _writable(path: Path, suffix: str) -> Iterator[av.container.OutputContainer]:
    """Lend a file for writing, its kind by the suffix it will have."""
    options = {} if suffix == ".mkv" else {"movflags": "faststart+use_metadata_tags"}  # or unknown names are dropped
    # a file of ours: where the disk is full FFmpeg leaves its own open, which takes up space until the host ends
    with open(path, "rb+") as file, av.open(file, "w", format=CONTAINERS[suffix], options=options) as container:
        yield container


def opened(source: Source) -> av.container.InputContainer:
    """Open a file or its bytes for reading; `Raises: InputError` for what holds no pictures."""
    try:
        container = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source), "r")
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            "{source} cannot be read as a video ({error}): choose another.", source=_name(source), error=error.strerror
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError("{source} has no pictures, only sound or text: choose a video.", source=_name(source))
    return container


def _name(source: Source) -> Words:
    if isinstance(source, bytes):
        return words("The video")
    return words("The video {name}", name=Path(source).name)


def _packets(source: av.container.InputContainer, rate: Fraction) -> Iterator[tuple[av.Packet, int]]:
    """Yield the packets of a file's frames in decoding order, and as which frame of the file each is shown."""
    stream = source.streams.video[0]
    base = Fraction(stream.time_base or 1)
    for packet in source.demux(stream):
        if packet.pts is not None:
            yield packet, round(packet.pts * base * rate)


def _reorder_delay(path: str | os.PathLike[str], rate: Fraction) -> int:
    """Return how many frames have to be decoded before the first one can be shown."""
    with av.open(str(path)) as container:
        return max(at - number for at, (_, number) in enumerate(_packets(container, rate)))

"""Finished parts of a video put behind one another, without encoding them again."""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import cast

import av

from ..errors import InputError
from .codecs import CONTAINERS, INDEXED
from .reader import describe_video
from .sound import Sound
from .writer import replacing

OWN_TEXTS = frozenset(("major_brand", "minor_version", "compatible_brands", "encoder"))  # that a container writes


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
        if not times:  # Matroska keeps it as the duration of a frame, without which a copy loses its last frame
            target.codec_context.framerate = rate
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


def remove_texts(path: str | os.PathLike[str]) -> None:
    """Write a file once more without the texts that `join_videos` was given."""
    target = Path(path)
    with (
        replacing(target) as unfinished,
        av.open(str(path)) as source,
        _writable(unfinished, target.suffix) as container,
    ):
        streams = {each.index: container.add_stream_from_template(each, opaque=True) for each in source.streams}
        for each in source.streams.video:
            if each.average_rate:
                cast(av.VideoStream, streams[each.index]).codec_context.framerate = each.average_rate
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                container.mux(packet)


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
                shown, decoded, after = (begins + number, count - delay, begins + number + 1)
                packet.pts, packet.dts, ends = (round(clock(at) / base) for at in (shown, decoded, after))
                packet.duration = ends - packet.pts
                packet.stream = target
                count += 1
                yield packet


def _decoding_time(packet: av.Packet) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base or 1)


@contextmanager
def _writable(path: Path, suffix: str) -> Iterator[av.container.OutputContainer]:
    """Lend a file for writing, its kind by the suffix it will have."""
    # without it unknown names are dropped
    options = {"movflags": "faststart+use_metadata_tags"} if CONTAINERS[suffix] in INDEXED else {}
    # a file of ours: where the disk is full FFmpeg leaves its own open, which takes up space until the host ends
    with open(path, "rb+") as file, av.open(file, "w", format=CONTAINERS[suffix], options=options) as container:
        yield container


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

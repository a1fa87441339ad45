"""The sound of a video that is extended: kept as far as its pictures go, and silence behind them.

It is taken over as it is where the new container can hold it, and encoded once more where it cannot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
import torch

from ..finite import check_finite
from ..words import words
from .reader import Source, opened, pictures_of

Sound = Callable[[av.container.OutputContainer], Iterator[av.Packet]]  # adds its stream before its first packet

COPIED = {  # what players expect of each container; the rest becomes AAC, which all of them hold
    "mp4": ("aac", "mp3", "ac3", "alac", "opus"),
    "mov": ("aac", "alac", "pcm_s16le", "pcm_s24le"),
    "matroska": ("aac", "mp3", "ac3", "flac", "opus", "vorbis", "pcm_s16le", "pcm_s24le"),
}
ENCODER, SAMPLES, BIT_RATE = "aac", "fltp", 192_000
RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000)  # of samples, as every player knows them
LEAD = Fraction(1, 5)  # seconds before the first picture: packets there only set the decoder going


def sound_of_file(source: Source, seconds: Fraction, first: Fraction | None = None) -> Sound | None:
    """Return the sound of a video, or None where it has none that can be read.

    Args:
        source: a file or its bytes; it is read again each time the sound is asked for.
        seconds: how long the pictures are; what would be heard later is left out.
        first: when the first picture is shown, in seconds of the file's clock; None = when the file says.
    """
    with opened(source) as container:
        if _heard(container) is None:
            return None

    def packets(target: av.container.OutputContainer) -> Iterator[av.Packet]:
        with opened(source) as container:
            stream = cast(av.AudioStream, _heard(container))
            begin = _first_picture(container) if first is None else first
            if stream.codec_context.codec.canonical_name in COPIED.get(target.format.name, ()):
                copy = target.add_stream_from_template(stream)
                # matroska knows no time before 0 and would show the pictures later instead
                lead = Fraction(0) if target.format.name == "matroska" else LEAD
                yield from _shifted(_readable(container.demux(stream)), copy, begin, lead, seconds)
            else:
                context = stream.codec_context
                encoder = _encoder(target, context.sample_rate, context.layout.nb_channels)
                yield from _encoded(_readable(container.decode(stream)), encoder, begin, seconds)

    return packets


def sound_of_wave(wave: np.ndarray, rate: int, seconds: Fraction) -> Sound:
    """Return samples as the sound of a video.

    Args:
        wave: float32 [channels, samples], -1..1.
        rate: samples per second.
        seconds: how long the pictures are; what would be heard later is left out.

    Raises:
        NotFiniteError: a sample is NaN or infinite.
    """
    wave = wave[:2, : round(seconds * rate)]
    check_finite(torch.from_numpy(wave), words("The sound"), words("check the node that made it"))

    def packets(target: av.container.OutputContainer) -> Iterator[av.Packet]:
        yield from _encoded(_frames(wave, rate), _encoder(target, rate, len(wave)), Fraction(0), seconds)

    return packets


def _heard(container: av.container.InputContainer) -> av.AudioStream | None:
    """Return the stream that players play; of what FFmpeg has no decoder for, as phones add it, there is no context."""
    best = cast("av.AudioStream | None", container.streams.best("audio"))
    readable = (stream for stream in container.streams.audio if stream.codec_context is not None)
    return best if best is not None and best.codec_context is not None else next(readable, None)


def _frames(wave: np.ndarray, rate: int) -> Iterator[av.AudioFrame]:
    """Cut samples into frames of a second."""
    for at in range(0, wave.shape[1], rate):
        piece = np.ascontiguousarray(wave[:, at : at + rate], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format=SAMPLES, layout=_layout(len(wave)))
        frame.sample_rate, frame.pts, frame.time_base = rate, at, Fraction(1, rate)
        yield frame


def _readable(items: Iterable[Any]) -> Iterator[Any]:
    """Yield what can be read: a video that took hours is not refused for the broken end of its sound."""
    try:
        yield from items
    except av.FFmpegError:
        return


def _first_picture(container: av.container.InputContainer) -> Fraction:
    """Return when the first picture is shown, in seconds of the file's clock."""
    stream = pictures_of(container)
    return (stream.start_time or 0) * Fraction(stream.time_base or 1)


def _shifted(
    packets: Iterable[av.Packet], target: av.AudioStream, begin: Fraction, lead: Fraction, seconds: Fraction
) -> Iterator[av.Packet]:
    """Yield packets for another stream, timed from the first picture; what is not heard with a picture is left out."""
    for packet in packets:
        if packet.pts is None or packet.dts is None:
            continue
        base = Fraction(packet.time_base)
        at = packet.pts * base - begin
        if at >= seconds:
            return
        if at >= -lead:
            shift = round(begin / base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = target
            yield packet


def _encoder(target: av.container.OutputContainer, rate: int, channels: int) -> av.AudioStream:
    stream = cast(av.AudioStream, target.add_stream(ENCODER, rate=rate if rate in RATES else RATES[0]))
    stream.layout, stream.format, stream.bit_rate = _layout(channels), SAMPLES, BIT_RATE
    return stream


def _encoded(
    frames: Iterable[av.AudioFrame], encoder: av.AudioStream, begin: Fraction, seconds: Fraction
) -> Iterator[av.Packet]:
    """Yield frames encoded, timed from the first picture; the encoder brings them to its rate and layout."""
    for frame in frames:
        at = (frame.pts or 0) * Fraction(frame.time_base or 1) - begin
        if at >= seconds:
            break
        if at + Fraction(frame.samples, frame.sample_rate) > 0:
            frame.pts, frame.time_base = round(at * frame.sample_rate), Fraction(1, frame.sample_rate)
            yield from encoder.encode(frame)
    yield from encoder.encode(None)


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"

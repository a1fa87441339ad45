"""Pixels to files with PyAV: a video, PNG files one by one or as a sequence, a contact sheet. No latents, no host here.

Files appear whole or not at all: they are written under another name beside the target and renamed at the end.
Source: PyAV's documentation of containers and codec contexts; the colour tags are those of ITU-T H.273 (1 = BT.709).
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from torch import Tensor

from ..errors import InputError
from ..finite import check_finite
from ..words import words
from .codecs import CONTAINERS, DEEP_WHITE, INDEXED, Codec, find_codec

BT709, RGB = 1, 0  # RGB: as a matrix
SEQUENCE_SUFFIX = ".png"
PNG_WHITE = 65_535  # of 16 bits
PNG_HEADER = 8 + 25  # bytes: the signature, and the chunk that every file begins with
# x265 measures its delay at the third frame: in a shorter clip it gives whatever lay in memory as decoding times, which
# the mp4 writer refused now and then ("not yet implemented in FFmpeg")
FEWEST_REORDERED = 3


def check_rate(fps: float) -> None:
    """Refuse a frame rate that no video has; `Raises: InputError`."""
    if not 0 < fps < math.inf:
        raise InputError("fps is {fps}, but a video needs a positive number of frames per second, such as 24", fps=fps)


def write_video(
    path: str | os.PathLike[str],
    frames: Tensor | Iterable[Tensor],
    fps: float,
    crf: int = 18,
    codec: str = "h264",
) -> int:
    """Write frames to a video file; the usual codec makes one that every player opens (H.264, yuv420p, BT.709).

    The frames are taken one at a time, so a generator writes a video of any length in constant memory. Most codecs need
    an even width and height: of an odd one the last column or row is repeated once.

    Args:
        path: the file to write; its folder is made, an older file is replaced.
        frames: tensor [F, H, W, 3] or an iterable of [H, W, 3]; float 0..1 or uint8.
        fps: frames per second.
        crf: quality, 0 (best) to 51 (worst); 63 is the worst of av1, and prores and ffv1 have no such setting.
        codec: one of `codecs.available_codecs()`; of one that is a sequence only the video is written here.

    Returns:
        The number of frames written.

    Raises:
        InputError: no frame, a frame of another shape, an unknown codec, or fps or crf out of range. The target is then
            left as it was.
        NotFiniteError: a frame with NaN or infinity; the same.
    """
    check_rate(fps)
    how = find_codec(codec, crf)
    pictures = (to_uint16(frame) if how.is_deep else to_uint8(frame) for frame in frames)
    first = next(pictures, None)
    if first is None:
        raise InputError("there are no frames to write: a video needs at least one")
    with (
        replacing(Path(path)) as unfinished,
        open(unfinished, "rb+") as file,  # of ours: FFmpeg leaves its own open where the disk is full
        av.open(file, "w", format=CONTAINERS[how.suffix]) as container,
    ):
        if (
            CONTAINERS[how.suffix] in INDEXED
        ):  # the index goes to the front, so that a browser can play before it has the whole file
            container.options["movflags"] = "faststart"
        rate = Fraction(fps).limit_denominator(1001)
        stream = _stream_of(container, how, rate, crf, first)
        count = 0
        for picture in all_of_one_size(first, pictures):
            frame = _video_frame(picture, how)
            frame.pts, frame.time_base = count, 1 / rate
            container.mux(stream.encode(frame))
            count += 1
        rest = stream.encode(None)
        if count < FEWEST_REORDERED:
            for packet in rest:
                packet.dts = packet.pts
        container.mux(rest)
    return count


def _stream_of(
    container: av.container.OutputContainer, how: Codec, rate: Fraction, crf: int, first: np.ndarray
) -> av.VideoStream:
    """Return a new stream of a file, for pictures like the first."""
    stream = cast(av.VideoStream, container.add_stream(how.encoder, rate=rate))
    stream.height, stream.width = (size + size % 2 for size in first.shape[:2])
    stream.pix_fmt = how.pixel_format
    stream.options = {**how.encoder_options(crf, stream.width)}
    context = stream.codec_context
    if how.tag:
        context.codec_tag = how.tag
    context.color_primaries = context.color_trc = BT709
    context.colorspace = RGB if how.is_rgb else BT709
    context.color_range = ColorRange.JPEG if how.is_rgb else ColorRange.MPEG
    return stream


def save_png(
    path: str | os.PathLike[str], image: Tensor, texts: Mapping[str, str] | None = None, bits: int = 8
) -> None:
    """Write one picture as a PNG file.

    Args:
        path: the file to write; its folder is made, an older file is replaced.
        image: [H, W, 3], float 0..1 or uint8.
        texts: what is written into it, by name; Latin letters, as JSON can be.
        bits: of a colour, 8 or 16.

    Raises:
        InputError: the tensor is no RGB picture.
    """
    png = encoded_png(image, texts, bits)
    with replacing(Path(path)) as unfinished:
        unfinished.write_bytes(png)


def encoded_png(image: Tensor, texts: Mapping[str, str] | None = None, bits: int = 8) -> bytes:
    """Return one picture as a PNG file's bytes; see `save_png`."""
    picture, layout = (to_uint8(image), "rgb24") if bits == 8 else (to_uint16(image, PNG_WHITE), "rgb48be")
    encoder = av.CodecContext.create("png", "w")
    encoder.height, encoder.width = picture.shape[:2]
    encoder.pix_fmt = layout
    encoder.time_base = Fraction(1)
    packets = [*encoder.encode(av.VideoFrame.from_ndarray(picture, format=layout)), *encoder.encode(None)]
    return _with_texts(b"".join(bytes(packet) for packet in packets), texts or {})


def _with_texts(png: bytes, texts: Mapping[str, str]) -> bytes:
    """Return a PNG file with tEXt chunks behind its header (PNG specification, 11.3.3); FFmpeg writes none.

    They can hold Latin letters only, and a name of 79; other letters become question marks.
    """
    chunks = []
    for name, text in texts.items():
        content = b"tEXt" + name.encode("latin-1", "replace")[:79] + b"\0" + text.encode("latin-1", "replace")
        chunks.append(struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)))
    return b"".join([png[:PNG_HEADER], *chunks, png[PNG_HEADER:]])


def write_sequence(
    folder: str | os.PathLike[str],
    frames: Iterable[Tensor],
    first: int = 0,
    texts: Mapping[str, str] | None = None,
    bits: int = 8,
) -> Iterator[tuple[Path, Tensor]]:
    """Write every frame as a PNG file, one at a time, and hand it on: so frames are made once for a video as well.

    Args:
        folder: where; it is made, older files of the same numbers are replaced.
        frames: [H, W, 3] each, float 0..1 or uint8.
        first: number of the first one.
        texts: what is written into the file of frame 0, by name, as for `save_png`.
        bits: of a colour, 8 or 16.

    Yields:
        The files frame_000000.png and so on, each with its frame.

    Raises:
        InputError: a frame that is no RGB picture.
    """
    for number, frame in enumerate(frames, first):
        file = Path(folder) / f"frame_{number:06}{SEQUENCE_SUFFIX}"
        save_png(file, frame, None if number else texts, bits)
        yield file, frame


def to_uint8(frame: Tensor) -> np.ndarray:
    """Return one picture as bytes.

    Args:
        frame: [H, W, 3], float 0..1 (what lies outside is clipped) or uint8, on any device.

    Returns:
        uint8 array [H, W, 3], contiguous.

    Raises:
        InputError: another shape, or whole numbers that are not uint8.
        NotFiniteError: NaN or infinity.
    """
    frame = _checked(frame)
    if frame.is_floating_point():
        frame = _scaled(frame, 255).to(torch.uint8)
    return np.ascontiguousarray(frame.cpu().numpy())


def to_uint16(frame: Tensor, white: int = DEEP_WHITE) -> np.ndarray:
    """Return one picture in 16 bits, [H, W, 3] from 0 to `white`: `to_uint8` for files that store more than 8."""
    frame = _checked(frame)
    whole = _scaled(frame, white) if frame.is_floating_point() else frame.int() * (white // 255)
    return np.ascontiguousarray(whole.cpu().numpy().astype(np.uint16))


def _scaled(frame: Tensor, most: int) -> Tensor:
    """Return values of 0..1 as whole numbers up to `most`, still float32."""
    advice = words("it would be written black, so check the node that made it, the VAE for example")
    finite = check_finite(frame.detach(), words("A frame"), advice)
    return finite.float().clamp(0, 1).mul(most).round()


def _checked(frame: Tensor) -> Tensor:
    """Return a picture that can be written; `Raises: InputError`."""
    frame = torch.as_tensor(frame)
    if frame.ndim != 3 or frame.shape[2] != 3 or 0 in frame.shape:
        raise InputError(
            "a frame has the shape {shape}, but [height, width, 3] (RGB) is wanted", shape=list(frame.shape)
        )
    if not frame.is_floating_point() and frame.dtype != torch.uint8:
        raise InputError(
            "a frame has the type {dtype}, but float (0..1) or uint8 (0..255) is wanted", dtype=frame.dtype
        )
    return frame


def all_of_one_size(first: np.ndarray, others: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pictures; `Raises: InputError` at one of another size."""
    yield first
    for index, picture in enumerate(others, start=1):
        if picture.shape != first.shape:
            seen, wanted = (f"{array.shape[1]}x{array.shape[0]}" for array in (picture, first))
            raise InputError(
                "frame {index} is {seen}, but frame 0 is {wanted}: all frames must have one size",
                index=index,
                seen=seen,
                wanted=wanted,
            )
        yield picture


def _video_frame(picture: np.ndarray, how: Codec) -> av.VideoFrame:
    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    frame = av.VideoFrame.from_ndarray(even, format="rgb48le" if how.is_deep else "rgb24")
    if how.is_rgb:
        return frame.reformat(format=how.pixel_format)
    frame = frame.reformat(
        format=how.pixel_format,
        dst_colorspace=Colorspace.ITU709,
        src_color_range=ColorRange.JPEG,
        dst_color_range=ColorRange.MPEG,
    )
    with suppress(AttributeError):  # prores writes them into each frame; PyAV before 16 leaves them unsaid there
        frame.color_primaries = frame.color_trc = BT709
    return frame


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Lend a new file beside the target, which takes the target's place when it is written, or goes after an error.

    A link under either name is replaced, never written through.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.part")
    with suppress(FileNotFoundError):
        unfinished.unlink()
    try:
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666))
        yield unfinished
        os.replace(unfinished, target)
    finally:
        with suppress(FileNotFoundError):
            unfinished.unlink()

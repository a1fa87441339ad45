"""Decoded frames as players show them: deinterlaced, upright, with square pixels, over black, in BT.709's colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
import av.error
import av.filter
import numpy as np
from av.video.reformatter import Colorspace

from .codecs import DEEP_WHITE
from .tone import HLG, PQ, to_sdr

BT2020, UNTAGGED = 9, 2  # of primaries and of a matrix, by the numbers of ITU-T H.273
HD_LINES = 720  # from here on players take what says nothing for BT.709
DISPLAY_MATRIX = "DISPLAYMATRIX"


def square_pixels(stream: av.VideoStream, width: int, height: int) -> tuple[int, int]:
    """Return the size of a stream's pictures as they are shown, with pixels as wide as they are high."""
    shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not shape or shape == 1:
        return width, height
    return (round(width * shape), height) if shape > 1 else (width, round(height / shape))


def progressive(frames: Iterable[av.VideoFrame], stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Yield as many frames, interlaced ones as whole pictures (bwdif); others are passed on."""
    graph: av.filter.Graph | None = None
    for frame in frames:
        if graph is None and frame.interlaced_frame:
            graph = av.filter.Graph()
            source = graph.add_buffer(template=stream, time_base=frame.time_base)
            graph.link_nodes(source, graph.add("bwdif", "deint=interlaced:mode=send_frame"), graph.add("buffersink"))
            graph.configure()
        if graph is None:
            yield frame
        else:
            graph.vpush(frame)
            yield from _ready(graph)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph)


def _ready(graph: av.filter.Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return


def shown(frame: av.VideoFrame, stream: av.VideoStream) -> np.ndarray:
    """Return a frame as uint8 [H, W, 3]."""
    width, height = square_pixels(stream, frame.width, frame.height)
    context = stream.codec_context
    space = None
    if frame.colorspace == UNTAGGED and frame.height >= HD_LINES and not frame.format.is_rgb:
        space = Colorspace.ITU709
    if context.color_trc in (PQ, HLG) or context.color_primaries == BT2020:
        wide = BT2020 if frame.colorspace == UNTAGGED and not frame.format.is_rgb else None
        deep = frame.reformat(width, height, "rgb48le", src_colorspace=wide).to_ndarray()
        picture = to_sdr(np.minimum(deep / np.float32(DEEP_WHITE), 1), context.color_trc)
    elif frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components):
        layers = frame.reformat(width, height, "rgba", src_colorspace=space).to_ndarray()
        picture = (layers[..., :3] * (layers[..., 3:] / np.float32(255))).round().astype(np.uint8)
    else:
        picture = frame.reformat(width, height, "rgb24", src_colorspace=space).to_ndarray()
    return np.ascontiguousarray(_upright(picture, frame))


def _upright(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Turn and mirror a picture by the display matrix of its file, by quarter turns as players do."""
    entries: Any = frame.side_data  # a row of them, though PyAV's types say it is a mapping alone
    data = next((entry for entry in entries if entry.type.name == DISPLAY_MATRIX), None)
    if data is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()  # x' = a x + c y, y' = b x + d y
    across, down = a, d
    if abs(a) < abs(b):
        picture, across, down = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]

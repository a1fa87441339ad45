"""Look into a saved video file, and write a picture to start one from, with PyAV."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

CLIP, CLIP_FRAMES, CLIP_FPS = "clip.mp4", 30, 24  # a video in every test host's input folder


@dataclass(frozen=True)
class VideoFacts:
    """What a decoded video file turned out to be."""

    width: int
    height: int
    frames: int
    fps: Fraction


def probe(path: Path) -> VideoFacts:
    """Decode a whole file and return its size in pixels, frame count and frames per second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = sum(1 for _frame in container.decode(stream))
        return VideoFacts(stream.width, stream.height, frames, stream.average_rate)


def write_picture(path: Path, width: int, height: int, seed: int = 0) -> None:
    """Write a PNG of coloured noise in 8 x 8 squares: anything but flat, and different for every seed."""
    squares = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    pixels = squares.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
        for packet in [*stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")), *stream.encode()]:
            container.mux(packet)

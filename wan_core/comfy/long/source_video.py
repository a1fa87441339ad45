"""A VIDEO that is extended: its tail goes into the model, the rest only past it, frame by frame."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_api.latest import InputImpl

from ...errors import InputError
from ...long.job_files import file_digest
from ...model.geometry import WAN21, Geometry
from ...video.reader import WHOLE, Cut, describe_video, name_of, read_frames, read_tail, timing
from ...video.sound import Sound, sound_of_file, sound_of_wave

VideoFromComponents = InputImpl.VideoFromComponents


@dataclass(frozen=True)
class SourceVideo:
    """A video to go on from.

    Attributes:
        frames: gives its frames, one after the other, uint8 or float [H, W, 3].
        count: how many there are.
        tail: the last of them [n, H, W, 3] in 0..1; n = 4k + 1.
        rate: frames per second; of frames at uneven times that of the last ones.
        digest: SHA-256 of the file, or of the frames and the sound where a trimmed part was given.
        sound: what it sounds like, or None.
        times: when each frame is shown, in seconds from the first on; () = at a constant rate.
        geometry: of the model.
    """

    frames: Callable[[], Iterable[Any]]
    count: int
    tail: torch.Tensor
    rate: Fraction
    digest: str
    sound: Sound | None = None
    times: tuple[Fraction, ...] = ()
    geometry: Geometry = WAN21

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the video in pixels, cut to what the model can make; `Raises: InputError` for none."""
        height, width = self.tail.shape[1:3]
        multiple = self.geometry.multiple
        if min(height, width) < multiple:
            raise InputError(
                "The video is {width}x{height} pixels, but its own size has to be at least {least}x{least} to be kept: "
                "choose another size, to which it is scaled.",
                width=width,
                height=height,
                least=multiple,
            )
        return width // multiple * multiple, height // multiple * multiple

    @property
    def model_fps(self) -> int:
        """The rate that the model is told: it knows 16 and 24."""
        return 16 if self.rate < 20 else 24

    def scaled(self, width: int, height: int) -> Iterator[torch.Tensor]:
        """Yield all frames [height, width, 3], scaled and cropped about the centre as given images are."""
        for frame in self.frames():
            comfy.model_management.throw_exception_if_processing_interrupted()
            picture = torch.as_tensor(frame)
            if picture.shape[:2] != (height, width):
                wide = picture.float().movedim(-1, 0)[None]
                wide = comfy.utils.common_upscale(wide, width, height, "bicubic", "center")
                most = 1 if picture.is_floating_point() else 255
                picture = wide[0].movedim(0, -1).clamp(0, most).to(picture.dtype)
            yield picture


def read_source(video: Any, overlap: int, geometry: Geometry = WAN21) -> SourceVideo:
    """Read what has to be known of a VIDEO, in the memory of its tail; the rest is decoded once, when it is written.

    Args:
        video: a VIDEO; of one that is no file the host holds all frames in memory.
        overlap: video frames that the model is to see.
        geometry: of the model.

    Raises:
        InputError: a broken file, or a video with no frames.
    """
    if isinstance(video, VideoFromComponents):  # frames that some node made: as a stream the host would compress them
        return from_components(video, overlap, geometry)
    source = video.get_stream_source()
    data: str | bytes = source.getvalue() if isinstance(source, io.BytesIO) else str(source)
    cut = cut_of(video)
    tail, when = read_tail(data, overlap, cut)
    tail = whole_latents(tail, geometry)
    timed = timing(when, describe_video(data).rate, len(tail))
    digest = source_digest(data) if cut == WHOLE else f"{source_digest(data)} {cut.begin} to {cut.end}"
    return SourceVideo(
        lambda: all_frames(data, len(when), cut),
        len(when),
        tail,
        timed.rate,
        digest,
        sound_of_file(data, timed.seconds, None if cut == WHOLE else when[0]),
        timed.times,
        geometry,
    )


def all_frames(data: str | bytes, count: int, cut: Cut) -> Iterator[np.ndarray]:
    """Yield the frames of a video; `Raises: InputError` if they are not as many as the file said before."""
    number = 0
    for frame in read_frames(data, cut=cut):
        number += 1
        yield frame
    if number != count:
        raise InputError(
            "{source} is broken: {number} of its {count} frames can be read; make or download it again.",
            source=name_of(data),
            number=number,
            count=count,
        )


def cut_of(video: Any) -> Cut:
    """Return which part of its file a VIDEO is: the host can trim without writing a file."""
    if hasattr(video, "get_active_trim_window"):
        start, duration = video.get_active_trim_window()
    else:  # hosts before it keep both to themselves
        start, duration = (getattr(video, f"_VideoFromFile__{name}", 0) for name in ("start_time", "duration"))
        if start < 0:  # from the end
            start = max(video._get_raw_duration() + start, 0)
    if not start and not duration:
        return WHOLE
    begin = Fraction(start).limit_denominator(90_000)
    return Cut(begin, begin + Fraction(duration).limit_denominator(90_000) if duration else None)


def from_components(video: Any, overlap: int, geometry: Geometry) -> SourceVideo:
    """Read a VIDEO that is no file, by the frames that the host makes of it."""
    parts = video.get_components()
    images = parts.images
    if len(images) == 0:
        raise InputError("The video has no frames: choose another, or trim less of it.")
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.cpu().numpy().astype(np.float32).tobytes())
    tail, rate, sound = whole_latents(images[-overlap:, ..., :3], geometry), Fraction(parts.frame_rate), None
    if parts.audio is not None:
        wave = parts.audio["waveform"][0].float().cpu().numpy()
        digest.update(wave.tobytes())
        sound = sound_of_wave(wave, int(parts.audio["sample_rate"]), len(images) / rate)
    return SourceVideo(lambda: images[..., :3], len(images), tail, rate, digest.hexdigest(), sound, (), geometry)


def whole_latents(tail: torch.Tensor, geometry: Geometry) -> torch.Tensor:
    """Return as many of the last frames as whole latent frames hold: 4k + 1."""
    return tail[len(tail) - geometry.whole_frames(len(tail)) :]


def source_digest(data: str | bytes) -> str:
    """Return the SHA-256 of a file or of bytes."""
    return hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else file_digest(Path(data))

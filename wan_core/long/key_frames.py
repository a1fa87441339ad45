"""Given images in time: which frames key_times and key_frames name, and which latent frames each image fills."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..errors import InputError
from ..model.geometry import WAN21, Geometry
from ..words import Words, words
from .time_words import fold
from .times import read_time

BETWEEN = ",;、|[](){}\"'"  # beside spaces of any kind
SHOWN = 40  # characters that a message shows
MOST_IMAGES = 1000
MOST_FRAMES = 10**9  # past the end of every video


def is_between(char: str) -> bool:
    """Return whether a character may stand between two frames."""
    return char in BETWEEN or char.isspace()


def read_frames(text: str, fps: float, name: Words) -> tuple[int, ...]:
    """Return the video frames of a text such as "24, 2s; -1", by the grammar of `times`.

    Args:
        text: video frames, or times with a unit; between them commas, semicolons or spaces of any kind.
        fps: frames per second.
        name: of the input, for messages.

    Returns:
        One number each; below 0 counts from the end, -1 is the last frame.

    Raises:
        InputError: something else stands there.
    """
    folded, at = fold(text), 0
    frames: list[int] = []
    while at < len(folded):
        if is_between(folded[at]):
            at += 1
            continue
        sign = -1 if folded[at] == "-" else 1
        begin = at + (sign < 0)
        time, end = read_time(folded, begin)
        whole = time is not None and (time.unit != "" or not time.amount % 1) and time.amount < MOST_FRAMES
        if time is None or not whole or (end < len(folded) and not is_between(folded[end])):
            raise InputError(
                "{name} holds {seen!r}, but it takes video frames like 48, -1 (the last) or times like 2.5s, separated "
                "by commas.",
                name=name,
                seen=text[at : at + SHOWN].split()[0],
            )
        if len(frames) == MOST_IMAGES:
            raise InputError("{name} names more than {most} frames: give fewer.", name=name, most=MOST_IMAGES)
        frames.append(sign * round(time.frames(fps, bare="f")))
        at = end
    return tuple(frames)


def frame_within(frame: int, total: int) -> int:
    """Return the place of a video frame, counted from 0.

    Args:
        frame: below 0 counts from the end.
        total: video frames.

    Raises:
        InputError: it lies outside the video.
    """
    place = frame + total if frame < 0 else frame
    if not 0 <= place < total:
        raise InputError(
            "A key image is for frame {frame}, but the video has {total} frames: use 0 to {last}, or -1 to {first} to "
            "count from the end.",
            frame=frame,
            total=total,
            last=total - 1,
            first=-total,
        )
    return place


@dataclass(frozen=True)
class GivenImages:
    """Images that a video has to go through.

    Attributes:
        start: the first frame or frames [n, H, W, 3], or None; n is cut to 4k + 1.
        end: the last frame [1, H, W, 3], or None.
        keys: images for the frames between [m, H, W, 3], or None.
        key_frames: the m video frames of these, below 0 from the end.
    """

    start: torch.Tensor | None = None
    end: torch.Tensor | None = None
    keys: torch.Tensor | None = None
    key_frames: tuple[int, ...] = ()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return those that are given, by the name of their input."""
        images = {"start_image": self.start, "end_image": self.end, "key_images": self.keys}
        return {name: image for name, image in images.items() if image is not None}

    def placed(self, total: int, geometry: Geometry = WAN21) -> dict[int, torch.Tensor]:
        """Return clips [n, H, W, 3] by the latent frame that each begins at, in a video of `total` video frames.

        Four video frames share a latent frame, and a still image fills the last of the four best. So an image for one
        of the others is held: it fills the latent frame before its own as well, where no other image lies, as a clip of
        five equal frames. All four then show it.

        Raises:
            InputError: an input of no images, a frame outside the video, two images for one latent frame, or more start
                images than frames.
        """
        clips = self.in_time(total, geometry)
        last, found, taken = geometry.latent_of_frame(total - 1), dict[int, torch.Tensor](), dict[int, Words]()
        for what, frame, clip in clips:
            at = geometry.latent_of_frame(frame)
            for place in range(at - geometry.latent_frames(len(clip)) + 1, at + 1):
                if place in taken:
                    raise InputError(
                        "Two images are given for one place, {other} and {what}: {count} video frames share a latent "
                        "frame, so move them {count} frames apart or more.",
                        other=taken[place],
                        what=what,
                        count=geometry.temporal,
                    )
                taken[place] = what
        for what, frame, clip in clips:
            at = geometry.latent_of_frame(frame)
            free = at - 1 not in taken and len(taken) < last  # something has to be left to make
            if frame % geometry.temporal and len(clip) == 1 and free:
                taken[at - 1] = what
                clip = clip.expand(geometry.temporal + 1, *clip.shape[1:])
            found[at - geometry.latent_frames(len(clip)) + 1] = clip
        return found

    def in_time(self, total: int, geometry: Geometry) -> list[tuple[Words, int, torch.Tensor]]:
        """Return the name of every clip, the video frame of its last image, and the clip; raises as `placed` does."""
        for name, batch in self.tensors().items():  # a splitting node may give a batch of none
            if len(batch) == 0:
                raise InputError(
                    "The input {name} holds 0 images, but 1 is needed: check the node before it, or disconnect it.",
                    name=name,
                )
        clips: list[tuple[Words, int, torch.Tensor]] = []
        if self.start is not None:
            whole = geometry.whole_frames(len(self.start))
            if geometry.latent_frames(whole) > geometry.latent_of_frame(total - 1) + 1:
                raise InputError(
                    "There are {given} start images, but the video has only {frames} frames: give fewer, or make it "
                    "longer.",
                    given=len(self.start),
                    frames=total,
                )
            clips.append((words("the start"), whole - 1, self.start[:whole]))
        if self.keys is not None:
            for frame, clip in zip(self.key_frames, self.keys.split(1), strict=True):
                clips.append((words("frame {frame}", frame=frame), frame_within(frame, total), clip))
        if self.end is not None:
            clips.append((words("the end"), total - 1, self.end[:1]))
        return clips


def known_frames(clips: Mapping[int, torch.Tensor], geometry: Geometry = WAN21) -> tuple[int, ...]:
    """Return the latent frames that placed clips fill."""
    return tuple(sorted(at + n for at, clip in clips.items() for n in range(geometry.latent_frames(len(clip)))))


def read_key_frames(text: str, images: torch.Tensor | None, fps: float, name: Words) -> tuple[int, ...]:
    """Return the video frame of every key image, below 0 from the end.

    Args:
        text: see `read_frames`.
        images: [n, H, W, 3] or None.
        fps: frames per second.
        name: of the input that holds the text, for messages.

    Raises:
        InputError: what is no time, or not one time for each image.
    """
    frames, count = read_frames(text, fps, name), 0 if images is None else len(images)
    if len(frames) != count:
        raise InputError(
            "{name} names {frames} frames, but there are {images} key images: name one frame for each image.",
            name=name,
            frames=len(frames),
            images=count,
        )
    return frames


def trimmed(frames: torch.Tensor, count: int, ends_on_image: bool) -> torch.Tensor:
    """Return the last frames of a video without those that only fill up its last latent frame.

    Args:
        frames: video frames [n, H, W, 3].
        count: how many are too many.
        ends_on_image: whether they show an end image, which the very last shows best: the ones before it go.
    """
    best = len(frames) - 1 if ends_on_image and count else len(frames)
    return torch.cat((frames[: best - count], frames[best:]))

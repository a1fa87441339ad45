"""The VIDEO that a long video's node gives: a file in a job's folder, which a person or a size limit may remove."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from comfy_api.latest import InputImpl

from ...errors import InputError
from ...long.job_files import JournalError, size_and_digest

NOT_IN_MP4 = (".mov",)  # of the codecs that the pack writes: prores


class MadeVideo(InputImpl.VideoFromFile):
    """A finished file as a VIDEO, which says in one sentence when it is gone, changed, or not to be had as asked for.

    Args:
        path: the file.
        noted: its size and digest when it was finished.
    """

    def __init__(self, path: Path, noted: list[int | str]):
        super().__init__(str(path))
        self.path, self.noted = path, noted
        self.seen = self.state()

    def state(self) -> tuple[int, ...]:
        """Return what changes with a file, without reading it; () where it is gone."""
        try:
            found = os.lstat(self.path)
        except OSError:
            return ()
        return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def check(self) -> None:
        """Refuse to give what is gone or is no longer what was made; `Raises: InputError`."""
        if not self.path.is_file():
            raise InputError(
                "The video {path} was removed since it was made, by SkyReels-V2 Jobs or for keep_gb: change an "
                "input of the node that made it, job_name for example, and queue again.",
                path=self.path,
            )
        if (state := self.state()) != self.seen:
            if not self.is_unchanged():
                raise InputError(
                    "The video {path} was changed since it was made: change an input of the node that made it, "
                    "job_name for example, and queue again, or load the changed file with Load Video.",
                    path=self.path,
                )
            self.seen = state

    def is_unchanged(self) -> bool:
        """Whether the file is to the bit what was made; reads all of it."""
        try:
            return size_and_digest(self.path) == self.noted
        except (OSError, JournalError):
            return False

    def get_dimensions(self) -> tuple[int, int]:
        """Return width and height in pixels."""
        self.check()
        return super().get_dimensions()

    def get_components(self) -> Any:
        """Return all frames and the sound."""
        self.check()
        return super().get_components()

    def get_stream_source(self) -> Any:
        """Return the file's name."""
        self.check()
        return super().get_stream_source()

    def save_to(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Write the video to another file; `Raises: InputError` where that cannot hold it."""
        self.check()
        if self.path.suffix in NOT_IN_MP4 and str(path).endswith(".mp4"):
            raise InputError(
                "SaveVideo writes an mp4 file, which cannot hold this codec; the finished video is {path}: take "
                "it from there, or choose another codec.",
                path=self.path,
            )
        super().save_to(path, *args, **kwargs)

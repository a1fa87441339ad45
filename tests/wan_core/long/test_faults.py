"""A disk that fails at any moment of a whole job, from its folder to the joined video: one sentence, and it resumes."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from wan_core.long import jobs
from wan_core.long.job_files import JournalError
from wan_core.long.jobs import limit_size, list_jobs, show_jobs
from wan_core.long.journal import Journal
from wan_core.video.join import join_videos
from wan_core.video.writer import write_sequence, write_video

SEGMENTS, FRAMES = 3, 4
CALLS = ("open", "replace", "fsync", "mkdir")  # of os: what each write goes through, Python's own `open` among them


def make(root: Path) -> list[bytes]:
    """Make a job of a few pictures as a long video is made, or go on with it; return its video and its parts."""
    with Journal(root, "video", {"seed": 1}, SEGMENTS) as job:
        while (index := job.next_segment()) is not None:
            part = job.part_path(index, ".mp4")
            pictures = torch.rand(FRAMES, 64, 64, 3, generator=torch.Generator().manual_seed(index))
            with job.writing():
                write_video(part, pictures, 24)
                files = [file for file, _ in write_sequence(job.frames_folder, pictures, FRAMES * index)]
            job.commit(index, {"tail": pictures[-1]}, [part, *files])
        result = job.folder / "video.mp4"
        if not job.has(result):
            with job.writing():
                join_videos(result, job.parts(".mp4"))
            job.finish(result)
        return [result.read_bytes(), *(part.read_bytes() for part in job.parts(".png"))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return make(tmp_path_factory.mktemp("whole"))


class Fails:
    """The calls of os that write below a folder, of which one and all later ones fail."""

    def __init__(self, patch: pytest.MonkeyPatch, root: Path, code: int, at: int):
        self.root, self.code, self.at, self.count = str(root), code, at, 0
        for name in CALLS:
            patch.setattr(os, name, self.counted(name, getattr(os, name)))

    def counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            writes = name != "open" or args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and (name == "fsync" or str(args[0]).startswith(self.root)):
                self.count += 1
                if self.count > self.at:
                    raise OSError(self.code, os.strerror(self.code))
            return None if name == "fsync" else real(*args, **kwargs)  # which is slow, and no power is lost here

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_disk_that_fails_at_any_write_of_a_whole_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[bytes], code: int
) -> None:
    with monkeypatch.context() as patch:
        writes = Fails(patch, tmp_path / "count", code, 10**9)
        make(tmp_path / "count")
    print(f"{writes.count} writes")
    assert writes.count > 80
    noticed = 0
    for at in range(0, writes.count, 1 if code == errno.ENOSPC else 7):
        root = tmp_path / str(at)
        with monkeypatch.context() as patch:
            Fails(patch, root, code, at)
            try:
                made = make(root)
            except JournalError as error:
                assert "start the same job again" in str(error) and "\n" not in str(error)
                noticed += 1
            else:
                assert made == whole, "what failed was not needed, as syncing a folder"
        left = [path.name for path in root.rglob("*") if path.name.endswith((".unfinished", ".part"))]
        assert left == []
        assert make(root) == whole
        shutil.rmtree(root)
    assert noticed > 0.8 * writes.count / (1 if code == errno.ENOSPC else 7)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a disk of so many kilobytes, where the system lets the tests mount one."""
    mount = shutil.which("mount")
    if not mount or not hasattr(os, "geteuid") or os.geteuid():
        pytest.skip("needs the right to mount a tmpfs")
    disk = tmp_path / "disk"
    disk.mkdir()

    def sized(kilobytes: int) -> Path:
        how = "remount," if os.path.ismount(disk) else ""
        command = [mount, "-t", "tmpfs", "-o", f"{how}size={kilobytes}k", "tmpfs", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        return disk

    yield sized
    gc.collect()  # an error's traceback holds the file that could not be written
    if os.path.ismount(disk):
        subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_full_in_the_middle_of_a_video(small_disk: Callable[[int], Path], whole: list[bytes]) -> None:
    """The encoder's own writes fail here, which no call of Python goes through."""
    stopped = []
    for kilobytes in range(32, 900, 48):
        disk = small_disk(kilobytes)
        try:
            assert make(disk) == whole
            break
        except JournalError as error:
            assert str(error).startswith("The disk is full under ")
            stopped.append(len(list(disk.glob("video-*/segment-*.json"))))
        assert not list(disk.rglob("*.part")) and not list(disk.rglob("*.unfinished"))
    assert kilobytes < 800 and stopped == sorted(stopped) and set(stopped) >= set(range(SEGMENTS))


@pytest.mark.parametrize("now", [0.0, -1e9, 1e6, 1e12])
def test_a_clock_that_jumps_harms_no_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: list[bytes], now: float
) -> None:
    monkeypatch.setattr(time, "time", lambda: now)
    assert make(tmp_path) == whole and make(tmp_path) == whole
    (job,) = list_jobs(tmp_path)
    os.utime(job.folder / "segment-0000.json", (2**40, 2**40))
    assert "finished" in str(show_jobs(tmp_path)) and jobs.date_of(2.0**60) == "?"
    assert limit_size(tmp_path, 0, untouched_for=3600) == [] and make(tmp_path) == whole

"""Damaged job folders, links and pipes among them: the right video or a sentence of ours, nothing outside touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from tests.fuzz.budget import fuzz, state_of
from tests.fuzz.damage import damaged, odd_json, something_else
from wan_core.errors import SkyReelsError
from wan_core.long import job_records
from wan_core.long.jobs import limit_size, list_jobs, make_room, remove_job, show_jobs
from wan_core.long.journal import Journal
from wan_core.video.writer import replacing

SEGMENTS = 3
NEW_NAMES = (
    "lock", "holder", "holder-0123456789ab", "job.json.unfinished", "segment-0001.json.unfinished", "clock-0",
    ".video.bin.77.part", "frames/.x.png.1.part", "segment-0002.json", "part-0002.bin", "job.json", "frames",
    f".video.bin.{os.getpid()}.part", f".part-0001.bin.{os.getpid()}.part", "segment-9999.json",
    "video.bin",
)  # fmt: skip
Way = Callable[[Path, Path, Random], None]


def make_segments(job: Journal) -> None:
    """Make what a job lacks."""
    while (index := job.next_segment()) is not None:
        before = job.load(index - 1, "tail")["tail"] if index else torch.zeros(3)
        picture = job.frames_folder / f"frame_{index:06}.png"
        with job.writing():
            for path in (job.part_path(index, ".bin"), picture):
                with replacing(path) as unfinished:
                    unfinished.write_bytes(bytes([index]) * 50)
        job.commit(index, {"tail": before * 0.5 + index}, [job.part_path(index, ".bin"), picture])


def make(job: Journal) -> list[Any]:
    """Make what a job lacks, join it, and return what it holds in the end: the last tail follows from all others."""
    make_segments(job)
    result = job.folder / "video.bin"
    if not job.has(result):
        with job.writing(), replacing(result) as unfinished:
            unfinished.write_bytes(b"".join(part.read_bytes() for part in job.parts(".bin")))
        job.finish(result)
    tail = job.load(job.segments - 1, "tail")["tail"].tolist()
    return [tail, [part.read_bytes() for part in job.parts(".png")], result.read_bytes()]


def open_job(root: Path) -> Journal:
    return Journal(root, "video", {"seed": 1}, SEGMENTS, removable=True)


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def bytes_damaged(folder: Path, _outside: Path, numbers: Random) -> None:
    path = numbers.choice(files_of(folder))
    path.write_bytes(damaged(path.read_bytes(), numbers))


def removed(folder: Path, _outside: Path, numbers: Random) -> None:
    numbers.choice(files_of(folder)).unlink()


def swapped(folder: Path, _outside: Path, numbers: Random) -> None:
    first, second = numbers.choice(files_of(folder)), numbers.choice(files_of(folder))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(numbers.choice([one, other]))


def replaced(folder: Path, outside: Path, numbers: Random) -> None:
    paths = [*files_of(folder), folder / "frames", *(folder / name for name in NEW_NAMES)]
    path = numbers.choice(paths)
    with suppress(FileNotFoundError, NotADirectoryError):  # an earlier way may have taken the folder
        something_else(path, outside, numbers)


def elsewhere(folder: Path, outside: Path, numbers: Random) -> None:
    """The whole job, or its pictures, lie outside and a link leads there."""
    path = numbers.choice([folder, folder / "frames"])
    if path.is_dir() and not path.is_symlink():
        target = outside / f"moved {path.name}"
        shutil.move(path, target)
        path.symlink_to(target)


def time_gone_wild(folder: Path, _outside: Path, numbers: Random) -> None:
    with suppress(OSError, OverflowError):
        when = numbers.choice([0, -1, 2**31, 2**33, 2**40, -(2**40), 2**55])
        os.utime(numbers.choice([folder, *files_of(folder)]), (when, when))


def forged(folder: Path, _outside: Path, numbers: Random) -> None:
    """A record that somebody wrote with its right checksum."""
    path = numbers.choice([each for each in files_of(folder) if each.suffix == ".json"] or [folder / "job.json"])
    record = job_records.read_record(path) or {}
    changed = odd_json(record, numbers)
    with suppress(SkyReelsError, OSError, RecursionError):
        job_records.write_record(path, changed if isinstance(changed, dict) else {"x": changed})


HONEST: list[Way] = [bytes_damaged, removed, swapped, replaced, elsewhere, time_gone_wild]
ACTIONS = ("run", "run", "run", "other", "list", "remove", "limit", "room")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Any]]:
    """A finished job, one with all its segments that was stopped before they were joined, and what both come to."""
    finished, stopped = (tmp_path_factory.mktemp(name) for name in ("finished", "stopped"))
    with open_job(stopped) as job:
        make_segments(job)
    with open_job(finished) as job:
        return [finished, stopped], make(job)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
@pytest.mark.parametrize("honest", [True, False], ids=["damaged", "forged"])
def test_a_damaged_job_ends_in_the_same_video_or_in_a_sentence(
    whole: tuple[list[Path], list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, honest: bool
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # no power is lost here
    templates, expected = whole
    ways = HONEST if honest else [*HONEST, forged, forged, forged]
    number = 0

    def case(drawn: tuple[list[tuple[Way, int]], str]) -> None:
        nonlocal number
        number += 1
        base = tmp_path / str(number)
        root, outside = base / "jobs", base / "outside"
        outside.joinpath("folder").mkdir(parents=True)
        (outside / "file").write_bytes(b"precious")
        (outside / "folder" / "inner").write_bytes(b"too")
        shutil.copytree(templates[number % 2], root)
        (folder,) = root.iterdir()
        damages, action = drawn
        for way, seed in damages:
            if folder.is_dir() and files_of(folder):
                way(folder, outside, Random(seed))
        before = state_of(outside)
        try:
            made = act(root, folder, action)
        except SkyReelsError as error:
            assert str(error)
        else:
            assert made is None or not honest or made == expected
        assert state_of(outside) == before
        shutil.rmtree(base)

    steps = st.lists(st.tuples(st.sampled_from(ways), st.integers(0, 2**32)), min_size=1, max_size=3)
    assert fuzz(case, st.tuples(steps, st.sampled_from(ACTIONS))) > 0


def act(root: Path, folder: Path, action: str) -> list[Any] | None:
    """Do what a node does with a job's folder; for a run return what the job holds in the end."""
    if action == "run":
        with open_job(root) as job:
            return make(job)
    if action == "other":
        with Journal(root, "video", {"seed": 2}, SEGMENTS) as job:
            assert job.next_segment() == 0
    elif action == "list":
        assert str(show_jobs(root))
    elif action == "remove":
        assert str(show_jobs(root, folder.name))
        remove_job(folder)
    elif action == "limit":
        limit_size(root, 0)
    else:
        (root / "keep_gb.txt").write_text("20")
        make_room(root, 1e-9, 0.0)
    assert list_jobs(root) is not None
    return None

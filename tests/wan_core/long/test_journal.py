"""The journal of a long job: killed, torn, full, locked, and always going on from what is whole."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_core.errors import InputError
from wan_core.long import job_files, job_records, jobs
from wan_core.long.finished_segments import FinishedSegments
from wan_core.long.job_files import JournalError
from wan_core.long.jobs import limit_size, list_jobs, make_room, remove_job, show_jobs
from wan_core.long.journal import Journal
from wan_core.long.kept_states import LANDMARK, most_kept
from wan_core.long.plan import Wanted
from wan_core.long.rollout import Rollout, Segments, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import continue_job

SETTINGS = {"prompt": "a cat", "steps": 30, "sizes": (544, 960), "shift": 8.0}
ROOT = Path(__file__).parents[3]


def make(job: Journal, until: int = 99) -> list[int]:
    """Make what a small job lacks, each segment from the one before; returns the segments that were made."""
    made = []
    while (index := job.next_segment()) is not None and index < until:
        before = job.load(index - 1)["tail"] if index else torch.zeros(3, 5)
        part = job.part_path(index, ".bin")
        part.write_bytes(bytes([index]) * 50)
        job.commit(index, {"tail": before * 0.5 + index, "flag": torch.tensor([True])}, [part])
        made.append(index)
    return made


def content(job: Journal) -> list:
    """Return the digests of all that was committed, the last tensors, and the parts."""
    paths = [job.folder / f"segment-{index:04}.json" for index in range(job.segments)]
    last = job.load(job.segments - 1)["tail"].tolist()
    return [job_records.read_record(path)["files"] for path in paths] + [last] + [p.read_bytes() for p in job.parts()]


def states(folder: Path) -> list[int]:
    """Return the segments whose tensors are on the disk."""
    return sorted(int(path.name[8:12]) for path in folder.glob("segment-*.safetensors"))


def test_a_job_goes_on_behind_its_last_finished_segment(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 5) as job:
        assert job.is_new and make(job, 3) == [0, 1, 2]
    with Journal(tmp_path, "video", SETTINGS, 5) as job:
        assert not job.is_new and job.next_segment() == 3 and make(job) == [3, 4]
        assert job.next_segment() is None and len(job.parts()) == 5
        once = content(job)
    with Journal(tmp_path, "whole", SETTINGS, 5) as job:
        make(job)
        assert content(job) == once


def test_the_same_inputs_find_the_job_and_others_do_not(tmp_path):
    tensors = {"positive": torch.arange(6.0), "image": torch.zeros(2, 2, dtype=torch.bfloat16)}
    with Journal(tmp_path, "video", SETTINGS, 5, tensors) as job:
        first = job.folder
        assert job.changed == ()
    same = {key: tensor.clone() for key, tensor in tensors.items()}
    with Journal(tmp_path, "video", dict(reversed(SETTINGS.items())), 5, same) as job:
        assert job.folder == first and not job.is_new
    others = [
        ({**SETTINGS, "prompt": "a dog"}, 5, tensors, ("prompt",)),
        (SETTINGS, 5, {**tensors, "positive": torch.arange(6.0) + 1e-6}, ("positive",)),
        (SETTINGS, 5, {**tensors, "image": torch.zeros(4, dtype=torch.bfloat16)}, ("image",)),
        (SETTINGS, 5, {"positive": tensors["positive"]}, ("image",)),
        (SETTINGS, 6, tensors, ()),
    ]
    for changed_settings, segments, changed_tensors, names in others:
        with Journal(tmp_path, "video", changed_settings, segments, changed_tensors) as job:
            assert job.is_new and job.folder != first and job.changed == names
            folder = job.folder
        remove_job(folder)
    assert [info.folder for info in list_jobs(tmp_path)] == [first]


def finished_job(root: Path) -> tuple[Path, list]:
    with Journal(root, "torn", SETTINGS, 4) as job:
        make(job)
        job.finish()
        return job.folder, content(job)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_torn_file_is_noticed_and_made_again_from_the_last_tensors_before_it(data):
    with tempfile.TemporaryDirectory() as root:
        folder, whole = finished_job(Path(root))
        names = sorted(path.name for path in folder.iterdir() if path.name != "lock")
        assert len(names) == 11 and states(folder) == [2, 3]
        path = folder / data.draw(st.sampled_from(names), label="file")
        torn = bytearray(path.read_bytes())
        how = data.draw(st.sampled_from(["truncate", "flip", "remove", "append"]), label="how")
        at = data.draw(st.integers(0, len(torn) - 1), label="offset")
        if how == "flip":
            torn[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
        path.write_bytes(bytes(torn[:at]) if how == "truncate" else bytes(torn) + b"x" * (how == "append"))
        if how == "remove":
            path.unlink()
        expected = []
        if path.name not in ("job.json", "segment-0002.safetensors"):  # nothing goes on from the last but one
            torn_segment = int(path.name.split("-")[1][:4])
            expected = list(range(torn_segment + 1))[-1 if torn_segment == 3 else -4 :]
        with Journal(root, "torn", SETTINGS, 4) as job:
            assert make(job) == expected
            assert job.next_segment() is None and content(job) == whole


def test_the_newest_two_tensors_are_kept_and_one_of_every_eight(tmp_path):
    """At no commit are there fewer, so a kill at any moment leaves what the next segment is made from."""
    with Journal(tmp_path, "video", SETTINGS, 30) as job:
        for index in range(30):
            make(job, index + 1)
            landmarks = {at for at in range(index) if at % LANDMARK == LANDMARK - 1}
            assert states(job.folder) == sorted(landmarks | {max(index - 1, 0), index})
            assert len(states(job.folder)) == most_kept(index + 1)
        whole = content(job)
    job.part_path(20, ".bin").write_bytes(b"torn")
    with Journal(tmp_path, "video", SETTINGS, 30) as job:
        assert make(job) == [16, 17, 18, 19, 20] and content(job) == whole
    job._made.tensor_path(29).unlink()
    with Journal(tmp_path, "video", SETTINGS, 30) as job:
        assert make(job) == [29] and content(job) == whole


def test_a_kill_before_old_tensors_are_removed_leaves_them_to_the_next_run(tmp_path, monkeypatch):
    with Journal(tmp_path, "video", SETTINGS, 5) as job:
        with monkeypatch.context() as patch:
            patch.setattr(FinishedSegments, "drop_states", lambda self, newest: None)
            make(job, 4)
        assert states(job.folder) == [0, 1, 2, 3]
    with Journal(tmp_path, "video", SETTINGS, 5) as job:
        assert states(job.folder) == [2, 3] and make(job) == [4] and states(job.folder) == [3, 4]


def test_a_finished_job_that_lost_its_last_tensors_is_made_again(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        make(job)
        result = job.result_path(".bin")
        result.write_bytes(b"whole")
        job.finish(result)
    job._made.tensor_path(3).unlink()
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert make(job) == [0, 1, 2, 3] and all(part.is_file() for part in job.parts())


def test_a_segment_that_comes_out_different_makes_those_behind_it_again(tmp_path):
    folder, _ = finished_job(tmp_path)
    (folder / "segment-0003.json").unlink()
    (folder / "segment-0002.json").unlink()
    with Journal(tmp_path, "torn", SETTINGS, 4) as job:
        assert job.next_segment() == 0, "the tensors of segment 1 went when segment 3 was finished"
        job.commit(0, {"tail": torch.full((3, 5), 7.0)})
        assert job.next_segment() == 1 and make(job) == [1, 2, 3]


def test_a_record_of_another_job_does_not_count(tmp_path):
    folder, _ = finished_job(tmp_path)
    with Journal(tmp_path, "torn", {**SETTINGS, "steps": 20}, 4) as job:
        for path in folder.iterdir():
            if path.name.startswith(("segment", "part")):
                (job.folder / path.name).write_bytes(path.read_bytes())
    with Journal(tmp_path, "torn", {**SETTINGS, "steps": 20}, 4) as job:
        assert job.next_segment() == 0


def test_a_second_run_of_one_job_is_refused(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 3) as job:
        here = f"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(JournalError, match=f"worked on by {here} since 2.* UTC: wait"):
            Journal(tmp_path, "video", SETTINGS, 3)
        with pytest.raises(JournalError, match="A run works on the job"):
            remove_job(job.folder)
        with Journal(tmp_path, "video", {**SETTINGS, "steps": 20}, 3):
            pass  # another job is free
    with Journal(tmp_path, "video", SETTINGS, 3) as job:
        assert job.next_segment() == 0


def test_a_job_at_work_is_told_from_one_that_was_stopped_and_looking_disturbs_no_run(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 3) as job:
        assert jobs.is_at_work(job.folder)
        (record,) = job.folder.glob("holder-*")
        holder = record.read_bytes()
        assert jobs.is_at_work(job.folder) and record.read_bytes() == holder
    assert not jobs.is_at_work(job.folder) and not jobs.is_at_work(tmp_path / "none")
    assert not list(job.folder.glob("holder*"))
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            jobs.is_at_work(job.folder)
            time.sleep(0.001)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for _ in range(50):
            with Journal(tmp_path, "video", SETTINGS, 3):
                pass
    finally:
        stop.set()
        looking.join()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("call", range(4))
def test_a_disk_that_fails_at_any_write_leaves_the_job_resumable(tmp_path, monkeypatch, code, call):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        make(job, 2)
        real, calls = os.fsync, []

        def failing(descriptor):
            calls.append(descriptor)
            if len(calls) > call:
                raise OSError(code, os.strerror(code))
            return real(descriptor)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            # a folder that cannot be synced is no failure: the first call syncs the tensors, the second their folder
            with pytest.raises(JournalError) as failure:
                make(job)
        sentence = str(failure.value)
        assert "start the same job again; the 2 finished of 4 segments are kept." in sentence and len(calls) >= call
        assert ("The disk is full" in sentence) == (code == errno.ENOSPC) and "\n" not in sentence
        assert not list(job.folder.glob("*" + job_files.UNFINISHED))
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert make(job) == [2, 3]


@pytest.fixture
def tiny_disk(tmp_path):
    """A disk of its own with room for a few files, where the system lets the tests mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    command = [mount or "", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if not mount or not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_disk_that_is_really_full_or_read_only_leaves_the_job_resumable(tiny_disk):
    ballast = tiny_disk / "ballast"
    with Journal(tiny_disk, "video", SETTINGS, 4) as job:
        make(job, 2)
        with suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while file.write(bytes(512)):
                pass
        with pytest.raises(JournalError, match=r"The disk is full under .*; the 2 finished of 4 segments are kept\.$"):
            job.commit(2, {"tail": torch.zeros(9000)})
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    with pytest.raises(JournalError, match="Nothing can be written to"):
        Journal(tiny_disk, "video", SETTINGS, 4)
    subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    ballast.unlink()
    with Journal(tiny_disk, "video", SETTINGS, 4) as job:
        assert make(job) == [2, 3]


def test_other_writers_into_the_job_get_the_same_sentence(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job, pytest.raises(JournalError, match="disk is full"):  # noqa: SIM117
        with job.writing():
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="needs a user who cannot write everywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(JournalError, match="allow it, or choose another folder"):
            Journal(tmp_path, "video", SETTINGS, 4)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("name", ["", "a/b", "..", ".", "../x", "a\\b", "c:x", "nul", "COM1.mp4", "x ", "a\nb", "a?"])
def test_a_name_that_is_no_plain_file_name_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="plain file name"):
        Journal(tmp_path, name, SETTINGS, 4)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["video", "My film 2", "猫", "a-b_c.mp4"])
def test_plain_names_work(tmp_path, name):
    with Journal(tmp_path, name, SETTINGS, 4):
        assert [info.name for info in list_jobs(tmp_path)] == [name]


@pytest.mark.parametrize("value", [float("nan"), object(), b"x"])
def test_settings_that_cannot_be_written_down_are_refused(tmp_path, value):
    with pytest.raises(InputError, match="A setting can't be saved"):
        Journal(tmp_path, "video", {"x": value}, 4)


def test_a_part_outside_the_job_is_refused(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job, pytest.raises(InputError, match="write it to part_path"):
        job.commit(0, {}, [tmp_path / "part"])


def jobs_of(root: Path, *finished: int, **options: Any) -> list[Path]:
    """Make jobs of four segments, of which so many are finished; the first is the longest untouched."""
    folders = []
    for number, until in enumerate(finished):
        with Journal(root, "video", {"number": number, **options}, 4, removable=options.get("removable", True)) as job:
            make(job, until)
            if job.next_segment() is None:
                job.finish()
            folders.append(job.folder)
        for path in job.folder.glob("segment-*.json"):
            os.utime(path, (1000 + number, 1000 + number))
    return folders


def test_jobs_are_listed_removed_and_limited(tmp_path):
    assert list_jobs(tmp_path / "missing") == [] and limit_size(tmp_path, 0) == []
    folders = jobs_of(tmp_path, 4, 4, 2, 4)
    (tmp_path / "something else").mkdir()
    infos = list_jobs(tmp_path)
    assert [info.folder for info in infos] == folders
    assert [(info.finished, info.complete) for info in infos] == [(4, True), (4, True), (2, False), (4, True)]
    assert all(info.size > 500 and info.removable for info in infos)
    total = sum(info.size for info in infos)
    assert limit_size(tmp_path, total) == []
    assert limit_size(tmp_path, 0, untouched_for=time.time()) == []  # none is as old as the clock
    assert limit_size(tmp_path, total - 1) == folders[:1]
    with Journal(tmp_path, "video", {"number": 1}, 4):  # in use
        assert limit_size(tmp_path, 0) == folders[3:]
    assert [info.folder for info in list_jobs(tmp_path)] == folders[1:3]
    assert str(show_jobs(tmp_path, folders[2].name)).startswith(f"{folders[2].name} was removed.\n1 job, ")
    assert not folders[2].exists()
    assert "There is no job" in str(show_jobs(tmp_path, folders[2].name))  # queued once more with the same name
    with pytest.raises(InputError, match="is not the folder of a job"):
        remove_job(tmp_path / "something else")


def test_a_limit_removes_only_what_was_made_under_one(tmp_path):
    (kept,) = jobs_of(tmp_path, 4, removable=False)
    made, again = jobs_of(tmp_path, 4, 4)
    with Journal(tmp_path, "video", {"number": 0, "removable": False}, 4, removable=True):
        pass  # a stranger's workflow runs a kept job once more, now with a limit
    with Journal(tmp_path, "video", {"number": 1}, 4, removable=False) as job:
        job.finish()  # and without one: what the limit may do was settled when the job was begun
    assert limit_size(tmp_path, 0) == [made, again] and kept.is_dir()
    for path in (kept / "job.json",):  # a torn one says nothing about it
        path.write_bytes(path.read_bytes()[:-5])
    with Journal(tmp_path, "video", {"number": 0, "removable": False}, 4, removable=True) as job:
        job.finish()
    assert limit_size(tmp_path, 0) == []


def big_job(root: Path, gigabytes: float) -> Path:
    (folder,) = jobs_of(root, 4)
    with open(folder / "big", "wb") as file:
        file.truncate(int(gigabytes * 1e9))
    return folder


@pytest.mark.parametrize("text", [None, "", "yes", "nan", "inf", "-inf", "\ud800", "link", "pipe"])
def test_without_a_persons_word_a_limit_removes_nothing_and_says_how_to_give_it(tmp_path, text):
    folder, agreed = big_job(tmp_path, 60), tmp_path / "keep_gb.txt"
    if text == "link":
        (tmp_path / "elsewhere").write_text("20")
        agreed.symlink_to(tmp_path / "elsewhere")
    elif text == "pipe":
        os.mkfifo(agreed)
    elif text is not None:
        agreed.write_bytes(text.encode("utf-8", "surrogatepass"))
    assert make_room(tmp_path, 0, 0.0) is None and make_room(tmp_path, 70, 0.0) is None
    said = str(make_room(tmp_path, 1e-6, 0.0))
    assert said.startswith("The jobs take 60.0 GB, more than keep_gb (1e-06 GB). Nothing was removed: ")
    assert said.endswith(f"into the file {agreed}.") and folder.is_dir()


@pytest.mark.parametrize(
    ("text", "size", "removed"),
    [
        ("20", 19, False),
        ("9" * 5000, 21, False),
        ("20", 21, True),
        ("0", 9, False),
        ("-5", 9, False),
        ("0", 11, True),
        ("\ufeff12.5\r\n", 13, True),
    ],
)
def test_a_persons_word_is_a_floor_under_every_workflows_limit(tmp_path, text, size, removed):
    folder = big_job(tmp_path, size)
    (tmp_path / "keep_gb.txt").write_text(text, "utf-8")
    assert make_room(tmp_path, 1e-6, untouched_for=1e12) is None and folder.is_dir()  # it may be in use
    said = make_room(tmp_path, 1e-6, 0.0)
    assert (str(said) == f"Removed for keep_gb: {folder.name}.") if removed else said is None
    assert folder.is_dir() != removed


def test_a_result_is_known_as_it_was_noted(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        make(job)
        result = job.folder / "video.bin"
        result.write_bytes(b"whole")
        assert not job.has(result) and job.noted(result) == []
        job.finish(result)
        assert job.has(result) and job.noted(result)[0] == 5
        for at in range(5):
            for changed in (b"whole"[:at] + b"x" + b"whole"[at + 1 :], b"whole"[:at]):
                result.write_bytes(changed)
                assert not job.has(result)
        result.write_bytes(b"whole")
        assert job.has(result)
        result.rename(job.folder / "other")
        result.symlink_to(job.folder / "other")
        assert not job.has(result)
        result.unlink()
        assert not job.has(result)


def whole_result(job: Journal) -> tuple[Path, dict]:
    """Finish a job whose file is not noted; return the file and the job's record."""
    make(job)
    result = job.folder / "video.bin"
    result.write_bytes(b"whole")
    job.finish()
    return result, job_records.read_record(job.folder / "job.json")


def test_a_result_that_an_older_version_noted_by_its_size_is_made_again(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        result, about = whole_result(job)
        job_records.write_record(job.folder / "job.json", {**about, "result": {"video.bin": 5}})
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert job.next_segment() is None and not job.has(result)
        job.finish(result)
        assert job.has(result)


@pytest.mark.parametrize("killed", [False, True])
def test_what_was_made_into_the_result_goes_and_the_job_is_complete(tmp_path, monkeypatch, killed):
    """Also where the run is killed between the note and the removal; a torn part then harms nothing."""
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        make(job, 3)
        picture = job.frames_folder / "frame_000000.png"
        picture.parent.mkdir()
        picture.write_bytes(b"picture")
        job.commit(3, {"tail": torch.full((3, 5), 7.0)}, [picture])
        result = job.result_path(".bin")
        assert result.name == f"{job.folder.name}.bin", "no other job's file has this name"
        result.write_bytes(b"whole")
        with monkeypatch.context() as patch:
            if killed:
                patch.setattr(FinishedSegments, "drop_parts", lambda self: None)
            job.finish(result)
    if killed:
        (job.folder / "part-0001.bin").write_bytes(b"torn")
    size = list_jobs(tmp_path)[0].size
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert (
            job.next_segment() is None
            and job.has(result)
            and torch.equal(job.load(3, "tail")["tail"], torch.full((3, 5), 7.0))
        )
    left = {path.name for path in job.folder.iterdir() if path.suffix != ".json"}
    assert left == {"frames", result.name, "segment-0003.safetensors", "lock"} and picture.is_file()
    assert list_jobs(tmp_path)[0].size == size or killed


@pytest.mark.parametrize("how", ["torn", "removed"])
def test_a_job_whose_result_is_lost_after_its_parts_are_gone_is_made_again(tmp_path, how):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        make(job)
        result = job.result_path(".bin")
        result.write_bytes(b"whole")
        job.finish(result)
    result.write_bytes(b"torn") if how == "torn" else result.unlink()
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert job.next_segment() == 0 and not list_jobs(tmp_path)[0].complete
        assert make(job) == [0, 1, 2, 3]
        job.finish()
        assert job.next_segment() is None


def test_an_older_job_keeps_its_files_and_the_name_of_its_result(tmp_path):
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        result, about = whole_result(job)
        noted = {"result": {"video.bin": [5, hashlib.sha256(b"whole").hexdigest()]}}
        job_records.write_record(job.folder / "job.json", {**about, **noted})
    with Journal(tmp_path, "video", SETTINGS, 4) as job:
        assert job.next_segment() is None and job.result_path(".bin") == result and job.has(result)
        assert all(part.is_file() for part in job.parts())


def test_a_complete_job_that_lost_a_file_is_no_longer_complete(tmp_path):
    folder, _ = finished_job(tmp_path)
    (folder / "part-0002.bin").unlink()
    with Journal(tmp_path, "torn", SETTINGS, 4) as job:
        assert not list_jobs(tmp_path)[0].complete and make(job) == [0, 1, 2]


def test_a_segment_that_is_not_committed_is_noticed(tmp_path):
    rollout = Rollout(plan_segments(Wanted(57, 37, 17)), (1, 2, 2, 2), seeded((1, 1)))
    with Journal(tmp_path, "video", {}, 2) as job, pytest.raises(RuntimeError, match="was not committed"):
        list(continue_job(Segments(rollout, lambda task: task.noise), job))


@pytest.mark.parametrize("method", ["segments", "moving window", "rolling"])
def test_a_job_killed_at_random_moments_ends_in_the_same_video_and_makes_nothing_twice(tmp_path, method):
    if not hasattr(os, "fork"):
        pytest.skip("children are forked, so that each does not load torch again")
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_jobs.py")), str(tmp_path), method],
        capture_output=True, text=True, timeout=600, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["kills_within"] >= 20


def test_the_digest_of_a_tensor_tells_type_shape_and_value_apart():
    tensors = [
        torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.tensor([0.0, 0, 0, -0.0]),
        torch.zeros(0), torch.tensor(0.0), torch.zeros(4, dtype=torch.bool), torch.zeros(8, dtype=torch.bfloat16),
    ]  # fmt: skip
    assert len({job_records.tensor_digest(tensor) for tensor in tensors}) == len(tensors)
    assert job_records.tensor_digest(torch.arange(6.0).view(2, 3).T) == job_records.tensor_digest(
        torch.arange(6.0).view(2, 3).T.contiguous()
    )


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    path, data = tmp_path / "video.mp4", bytes(range(256)) * 10_000
    path.write_bytes(data)
    assert job_files.file_digest(path) == hashlib.sha256(data).hexdigest()
    assert job_files.size_and_digest(path) == [len(data), hashlib.sha256(data).hexdigest()]


def test_tensors_that_cannot_be_read_are_named(tmp_path):
    with Journal(tmp_path, "video", {}, 2) as job:
        job.commit(0, {"tail": torch.ones(2)})
        (job.folder / "segment-0000.safetensors").write_bytes(b"torn")
        with pytest.raises(
            JournalError, match=r"segment-0000\.safetensors cannot be read \(.*\): delete .*-0000\.json "
        ):
            job.load(0)

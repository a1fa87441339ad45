"""The journal of a long job: a folder that a killed run goes on from, and never a torn file taken for a whole one.

    <root>/<name>-<fingerprint>/    one job: the same settings and the same given tensors find it again
        job.json                    settings and state, for people and lists
        segment-0000.safetensors    what the next segment needs
        segment-0000.json           written last: the segment is finished; sizes and checksums of its files
        part-0000.mp4               whatever else belongs to the segment
        frames/                     pictures that belong to segments
        lock                        held while a process works on the job

Each record names the checksum of the tensors it was made from. So if one segment is torn only that one is made again,
and the ones behind it count as long as it comes out the same.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import safetensors.torch
import torch

from ..errors import InputError, SkyReelsError
from ..words import Joined, Words, counted, lines, words
from .job_files import UNFINISHED, Lock, file_digest, folder_bytes, held, sync_file, sync_folder, write_whole
from .job_records import canonical, digest_of, read_record, tensor_digest, write_record

JOB_FILE, LOCK_FILE = "job.json", "lock"
FRAMES = "frames"
LEFT_BEHIND = ("*" + UNFINISHED, ".*.part", f"{FRAMES}/.*.part")  # by a run that was killed while it wrote
SHORT = 16  # characters of the fingerprint in a folder's name
FULL_DISK = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for devices


class JournalError(SkyReelsError):
    """A job's folder cannot be used: the disk is full or read-only, or another run holds it."""


@dataclass(frozen=True)
class JobInfo:
    """One job in a list.

    Attributes:
        folder: where it lies.
        name: the name it was started with.
        segments: segments in all, 0 where job.json is torn.
        finished: segments with a record, unchecked.
        complete: whether `Journal.finish` was called.
        size: bytes of all its files.
        changed: seconds since 1970 of the last finished segment, or of the start.
    """

    folder: Path
    name: str
    segments: int
    finished: int
    complete: bool
    size: int
    changed: float


class Journal:
    """One job's folder, locked for this process; a context manager.

    Attributes:
        folder: where it lies.
        segments: how many the job has.
        is_new: whether nothing was there before.
        changed: for a new job, the settings and tensors that differ from the newest job of the same name.

    Args:
        root: the folder of all jobs; it is made if need be.
        name: what the job is called; no folders in it.
        settings: all that decides about the result, as JSON knows it (str, int, float, bool, None, list, dict).
        segments: how many segments the job has.
        tensors: given tensors that decide about the result (conditioning, images, latents), by name.

    Raises:
        InputError: a name with path parts, or settings that JSON does not know.
        JournalError: another run works on this job, or the folder cannot be written.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str,
        settings: Mapping[str, Any],
        segments: int,
        tensors: Mapping[str, torch.Tensor] | None = None,
    ):
        check_name(name)
        self.segments = segments
        hashes = {key: tensor_digest(tensor) for key, tensor in (tensors or {}).items()}
        about = {"name": name, "segments": segments, "settings": dict(settings), "tensors": hashes}
        self._about = json.loads(canonical(about))  # tuples are lists from here on, as in the file
        self.fingerprint = digest_of({key: value for key, value in self._about.items() if key != "name"})
        self.folder = Path(root) / f"{name}-{self.fingerprint[:SHORT]}"
        self._records: dict[int, dict[str, Any]] = {}
        self._lock = Lock(self.folder / LOCK_FILE)
        with self.writing():
            self.is_new = not (self.folder / JOB_FILE).exists()
            self.changed = changes(Path(root), self._about) if self.is_new else ()
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise JournalError(
                    "The job in {folder} is being worked on by {holder}: wait until it has ended, or stop it.",
                    folder=self.folder,
                    holder=self._lock.holder(),
                )
        try:
            self._open()
        except BaseException:
            self._lock.release()
            raise

    def _open(self) -> None:
        for pattern in LEFT_BEHIND:
            for path in self.folder.glob(pattern):
                with suppress(OSError):
                    path.unlink()
        for index in range(self.segments):
            record = self._whole_record(index)
            if record is not None:
                self._records[index] = record
        about = read_record(self.folder / JOB_FILE)
        if about is None or (about["complete"] and self.next_segment() is not None):
            with self.writing():
                write_record(self.folder / JOB_FILE, {**self._about, "complete": False})

    def _whole_record(self, index: int) -> dict[str, Any] | None:
        """Return the record of a segment if it and all its files are whole."""
        record = read_record(self._record_path(index))
        if record is None or record.get("job") != self.fingerprint:
            return None
        for name, (size, digest) in record["files"].items():
            path = self.folder / name
            try:
                if path.stat().st_size != size or file_digest(path) != digest:
                    return None
            except OSError:
                return None
        return record

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let another run have the job; what is finished stays."""
        self._lock.release()

    def next_segment(self) -> int | None:
        """Return the first segment that has to be made, or None when all are finished.

        A segment counts as finished if its files are whole and it was made from what the one before it holds now.
        """
        before = ""
        for index in range(self.segments):
            record = self._records.get(index)
            if record is None or record["after"] != before:
                return index
            before = record["files"][self._tensor_path(index).name][1]
        return None

    def load(self, index: int) -> dict[str, torch.Tensor]:
        """Return the tensors of a finished segment, on the CPU."""
        return safetensors.torch.load(self._tensor_path(index).read_bytes())

    @property
    def frames_folder(self) -> Path:
        """Where parts belong that are pictures."""
        return self.folder / FRAMES

    def parts(self, suffix: str = "", before: int | None = None) -> list[Path]:
        """Return the parts of all finished segments, or of those before one, in order; `suffix`: only such files."""
        indices = sorted(self._records if before is None else range(before))
        names = [name for index in indices for name in self._records[index]["parts"]]
        return [self.folder / name for name in names if name.endswith(suffix)]

    def part_path(self, index: int, suffix: str) -> Path:
        """Return where a segment's part belongs (`suffix` such as ".mp4"); it counts once it is committed."""
        return self.folder / f"part-{index:04}{suffix}"

    def commit(self, index: int, tensors: Mapping[str, torch.Tensor], parts: Sequence[Path] = ()) -> None:
        """Note that a segment is finished.

        Args:
            index: which.
            tensors: what is needed to go on from it; equal tensors give an equal file.
            parts: files that were written to `part_path` or into `frames_folder`.

        Raises:
            JournalError: it could not be written; what was finished before is safe.
            InputError: a part lies outside the job's folder.
        """
        if any(part.parent not in (self.folder, self.frames_folder) for part in parts):
            raise InputError("A part lies outside of {folder}: write it to part_path.", folder=self.folder)
        target = self._tensor_path(index)
        before = self._records[index - 1]["files"][self._tensor_path(index - 1).name][1] if index else ""
        self._records.pop(index, None)
        with self.writing():
            write_whole(target, safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()}))
            for part in parts:
                sync_file(part)
            for folder in {self.folder, *(part.parent for part in parts)}:
                sync_folder(folder)
            names = {path: path.relative_to(self.folder).as_posix() for path in (target, *parts)}
            files = {name: [path.stat().st_size, file_digest(path)] for path, name in names.items()}
            record = {
                "job": self.fingerprint, "after": before, "files": files, "parts": [names[part] for part in parts]
            }  # fmt: skip
            write_record(self._record_path(index), record)
        self._records[index] = record

    def finish(self, result: Path | None = None) -> None:
        """Note that the job is done, so that a size limit may remove it.

        Args:
            result: the file that the parts were made into, in the job's folder; it is on the disk before it is noted.
        """
        with self.writing():
            noted = {}
            if result is not None:
                sync_file(result)
                sync_folder(self.folder)
                noted = {"result": {result.name: result.stat().st_size}}
            write_record(self.folder / JOB_FILE, {**self._about, "complete": True, **noted})

    def has(self, result: Path) -> bool:
        """Say whether a file is there as `finish` noted it, and not torn or changed since."""
        noted = (read_record(self.folder / JOB_FILE) or {}).get("result", {})
        return result.is_file() and noted.get(result.name) == result.stat().st_size

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one sentence what a full or read-only disk means for the job; for whatever writes into its folder.

        Raises:
            JournalError: in place of an OSError.
        """
        try:
            yield
        except OSError as error:
            kept = words("what was finished before is kept")
            if self._records:
                kept = words(
                    "the {finished} finished of {segments} segments are kept",
                    finished=len(self._records),
                    segments=self.segments,
                )
            if error.errno in FULL_DISK:
                reason = words("The disk is full under {folder}: free some space", folder=self.folder)
            elif error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
                reason = words(
                    "Nothing can be written to {folder}: allow it, or choose another folder", folder=self.folder
                )
            else:
                cause = error.strerror or error
                reason = words("Writing to {folder} failed ({cause}): fix that", folder=self.folder, cause=cause)
            raise JournalError("{reason}, and start the same job again; {kept}.", reason=reason, kept=kept) from error

    def _tensor_path(self, index: int) -> Path:
        return self.folder / f"segment-{index:04}.safetensors"

    def _record_path(self, index: int) -> Path:
        return self.folder / f"segment-{index:04}.json"


def list_jobs(root: str | os.PathLike[str]) -> list[JobInfo]:
    """Return the jobs in a folder, the longest untouched first."""
    jobs = []
    for folder in Path(root).glob("*-" + "[0-9a-f]" * SHORT):
        if not folder.is_dir():
            continue
        about = read_record(folder / JOB_FILE) or {}
        records = list(folder.glob("segment-*.json"))
        times = [folder.stat().st_mtime, *(path.stat().st_mtime for path in records)]
        jobs.append(
            JobInfo(
                folder, about.get("name", folder.name[: -SHORT - 1]), about.get("segments", 0), len(records),
                about.get("complete", False), folder_bytes(folder), max(times[1:] or times),
            )
        )  # fmt: skip
    return sorted(jobs, key=lambda job: job.changed)


def remove_job(folder: str | os.PathLike[str]) -> None:
    """Remove a job and all its files.

    Raises:
        InputError: the folder holds no job.
        JournalError: a run works on it.
    """
    folder = Path(folder)
    is_job = (folder / LOCK_FILE).is_file() or (folder / JOB_FILE).is_file()
    if not is_job or not re.fullmatch(rf".+-[0-9a-f]{{{SHORT}}}", folder.name):
        raise InputError("{folder} is not the folder of a job: choose one from the list of jobs.", folder=folder)
    with held(folder / LOCK_FILE) as got:
        if not got:
            raise JournalError("A run works on the job in {folder}: stop it before removing the job.", folder=folder)
        for path in folder.glob("segment-*.json"):  # first: of a removal that is cut short nothing counts
            path.unlink()
    shutil.rmtree(folder)


def limit_size(root: str | os.PathLike[str], most_bytes: int, untouched_for: float = 0.0) -> list[Path]:
    """Remove complete jobs, the longest untouched first, until all jobs together are within a size.

    Jobs that are not complete are never removed: somebody may want to go on with them.

    Args:
        root: the folder of all jobs.
        most_bytes: the size.
        untouched_for: seconds for which a job stays in any case: its video may be in use.

    Returns:
        The folders that were removed.
    """
    jobs = list_jobs(root)
    total = sum(job.size for job in jobs)
    removed = []
    for job in jobs:
        if total > most_bytes and job.complete and time.time() - job.changed >= untouched_for:
            with suppress(JournalError):  # one that is being looked at stays
                remove_job(job.folder)
                removed.append(job.folder)
                total -= job.size
    return removed


def show_jobs(root: str | os.PathLike[str], remove: str = "") -> Joined:
    """Return the jobs in a folder as a table for a person.

    Args:
        root: the folder of all jobs.
        remove: name of a job's folder that is removed first, or "".

    Raises:
        JournalError: a run works on it.
    """
    shown: list[Words] = []
    if remove:
        chosen = next((job.folder for job in list_jobs(root) if job.folder.name == remove), None)
        if chosen is None:  # no error: the name of a job that was just removed still stands there when more is queued
            shown.append(
                words("There is no job {name!r}: choose one from this list, or leave the name empty.", name=remove)
            )
        else:
            remove_job(chosen)
            shown.append(words("{name} was removed.", name=remove))
    jobs = list_jobs(root)
    size = sum(job.size for job in jobs) / 1e6
    shown.append(words("{jobs}, {size:.1f} MB in all", jobs=counted(len(jobs), "jobs"), size=size))
    for job in jobs:
        changed = datetime.fromtimestamp(job.changed).strftime("%Y-%m-%d %H:%M")
        partly = words("{finished} of {segments} segments", finished=job.finished, segments=job.segments)
        state = words("finished") if job.complete else partly
        shown.append(
            words(
                "{name}  {state}  {size:.1f} MB  {changed}",
                name=job.folder.name,
                state=state,
                size=job.size / 1e6,
                changed=changed,
            )
        )
    return lines(*shown)


def changes(root: Path, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings and tensors in which a job differs from the newest one of the same name."""
    for job in reversed(list_jobs(root)):
        other = read_record(job.folder / JOB_FILE)
        if other is not None and other.get("name") == about["name"]:
            ours, theirs = ({**data["settings"], **data["tensors"]} for data in (about, other))
            missing = object()
            names = {**theirs, **ours}
            return tuple(key for key in names if ours.get(key, missing) != theirs.get(key, missing))
    return ()


def check_name(name: str) -> None:
    """Refuse a job name that is no plain file name; `Raises: InputError`."""
    plain = name and name == name.strip(" .") and not re.search(r'[\\/:*?"<>|\x00-\x1f]', name)
    if not plain or RESERVED.fullmatch(name):
        raise InputError(
            "The name is {name!r}, but it has to be a plain file name that any system knows, without "
            "folders: use letters, digits, - and _.",
            name=name,
        )

"""The journal of a long job: a folder that a killed run goes on from, and never a torn file taken for a whole one.

    <root>/<name>-<fingerprint>/    one job: the same settings and the same given tensors find it again
        job.json                    settings and state, for people and lists
        segment-0000.safetensors    what the next segment needs: the newest two, and now and then one in between
        segment-0000.json           written last: the segment is finished; sizes and checksums of its files
        part-0000.mp4               whatever else belongs to the segment
        <name>-<fingerprint>.mp4    what the parts were made into; they go once it is checked and noted
        frames/                     pictures that belong to segments
        lock, holder-...            held while a process works on the job, and which one that is

Each record names the checksum of the tensors it was made from. So if a segment is torn, it is made again from the last
tensors that are kept before it, and the ones after it count as long as it comes out the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from ..errors import InputError
from ..finite import check_all_finite
from ..words import joined, words
from .finished_segments import FRAMES, FinishedSegments
from .job_files import (
    JournalError,
    check_folder,
    is_whole,
    remove_left_behind,
    size_and_digest,
    sync_file,
    sync_folder,
    why_not_written,
    write_whole,
)
from .job_lock import JobHeldError, Lock
from .job_records import (
    canonical,
    digest_of,
    is_noted,
    is_place,
    read_job,
    read_tensors,
    tensor_digest,
    write_record,
)
from .jobs import JOB_FILE, LOCK_FILE, SHORT, changes, check_name


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
        removable: whether a new job is made under a size limit, which may then remove it; see `jobs.limit_size`.

    Raises:
        InputError: a name with path parts, or settings that JSON does not know.
        JobHeldError: another run works on this job, on this machine or another that shares the drive.
        JournalError: the folder cannot be written, or a link or a pipe lies in it.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        name: str,
        settings: Mapping[str, Any],
        segments: int,
        tensors: Mapping[str, torch.Tensor] | None = None,
        removable: bool = False,
    ):
        check_name(name)
        self.segments = segments
        hashes = {key: tensor_digest(tensor) for key, tensor in (tensors or {}).items()}
        about = {"name": name, "segments": segments, "settings": dict(settings), "tensors": hashes}
        self._about = json.loads(canonical(about))  # tuples are lists from here on, as in the file
        self.fingerprint = digest_of({key: value for key, value in self._about.items() if key != "name"})
        self.folder = Path(root) / f"{name}-{self.fingerprint[:SHORT]}"
        self._made = FinishedSegments(self.folder, self.fingerprint, segments)
        self._lock = Lock(self.folder / LOCK_FILE)
        with self.writing():
            check_folder(self.folder)
            self.is_new = not (self.folder / JOB_FILE).exists()
            self.changed = changes(Path(root), self._about) if self.is_new else ()
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self._lock.acquire():
                raise JobHeldError(
                    "The job in {folder} is being worked on by {holder}: wait until it has ended, or stop it.",
                    folder=self.folder,
                    holder=self._lock.holder(),
                )
        try:
            self._open(removable and self.is_new)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, removable: bool) -> None:
        remove_left_behind(self.folder, FRAMES)
        about = read_job(self.folder / JOB_FILE) or {}
        results = about.get("result") if about.get("joined") is True else None
        named = list(results) if isinstance(results, dict) else []
        self._joined = bool(named) and all(is_place(name) and self.has(self.folder / name) for name in named)
        self._made.read(self._joined)
        # what the limit may do with a job was settled when it was begun
        self._kept = {"removable": True} if removable or about.get("removable") is True else {}
        if not about or (about["complete"] and self.next_segment() is not None):
            with self.writing():
                write_record(self.folder / JOB_FILE, {**self._about, **self._kept, "complete": False})

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *raised: object) -> None:
        self._lock.release()

    def next_segment(self) -> int | None:
        """Return the segment to make next, or None when all are finished.

        It is the first that is not finished, or one before it where the tensors that it needs are not kept.
        """
        return self._made.next()

    def load(self, index: int, *names: str) -> dict[str, torch.Tensor]:
        """Return the tensors of a finished segment, on the CPU.

        Args:
            index: which.
            names: of tensors that have to be among them.

        Raises:
            JournalError: the file cannot be read or lacks one of them.
            NotFiniteError: they hold NaN or infinity, as versions before 0.2 could write.
        """
        path = self._made.tensor_path(index)
        again = words(
            "delete {record} and queue again to make this segment again", record=self._made.record_path(index)
        )
        tensors = read_tensors(path, again)
        lost = [name for name in names if name not in tensors]
        if lost:
            raise JournalError("{file} lacks {names}: {advice}.", file=path, names=joined(lost), advice=again)
        check_all_finite(tensors, words("{file}", file=path), again)
        return tensors

    @property
    def finished(self) -> list[int]:
        """The segments that are finished, as far as each was made from what the one before it holds now."""
        end = self.next_segment()
        return list(range(self.segments if end is None else end))

    @property
    def frames_folder(self) -> Path:
        """Where parts belong that are pictures."""
        return self.folder / FRAMES

    def parts(self, suffix: str = "", before: int | None = None) -> list[Path]:
        """Return the parts of all finished segments, or of those before one, in order; `suffix`: only such files."""
        indices = sorted(self._made.records if before is None else range(before))
        names = [name for index in indices for name in self._made.records[index]["parts"]]
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
            NotFiniteError: the tensors hold NaN or infinity, so the segment is not finished.
            InputError: a part lies outside the job's folder.
        """
        check_all_finite(
            tensors, words("Segment {number}", number=index + 1), words("what made it failed, so it is not kept")
        )
        if any(part.parent not in (self.folder, self.frames_folder) for part in parts):
            raise InputError("A part lies outside of {folder}: write it to part_path.", folder=self.folder)
        target, before = self._made.tensor_path(index), self._made.digest(index - 1) if index else ""
        self._made.forget(index)
        with self.writing():
            write_whole(target, safetensors.torch.save({key: value.contiguous() for key, value in tensors.items()}))
            for part in parts:
                sync_file(part)
            for folder in {self.folder, *(part.parent for part in parts)}:
                sync_folder(folder)
            names = {path: path.relative_to(self.folder).as_posix() for path in (target, *parts)}
            files = {name: size_and_digest(path) for path, name in names.items()}
            record = {
                "job": self.fingerprint, "after": before, "files": files, "parts": [names[part] for part in parts]
            }  # fmt: skip
            write_record(self._made.record_path(index), record)
        self._made.add(index, record)

    def finish(self, result: Path | None = None) -> None:
        """Note that the job is done.

        Args:
            result: the file that the parts were made into, in the job's folder; it is on the disk before it is noted,
                and noted before what it was made from goes.
        """
        with self.writing():
            noted = {}
            if result is not None:
                sync_file(result)
                sync_folder(self.folder)
                noted = {"result": {result.name: size_and_digest(result)}, "joined": True}
                self._joined = True
            write_record(self.folder / JOB_FILE, {**self._about, **self._kept, "complete": True, **noted})
        if self._joined:
            self._made.drop_parts()

    def result_path(self, suffix: str) -> Path:
        """Return where the finished file belongs. It is called as no other job's is; an older job's keeps its name."""
        older = self.folder / f"video{suffix}"
        return older if self.noted(older) else self.folder / f"{self.folder.name}{suffix}"

    def has(self, result: Path) -> bool:
        """Say whether a file is there as `finish` noted it, and not torn or changed since."""
        return is_whole(result, self.noted(result))

    def noted(self, result: Path) -> list[int | str]:
        """Return size and digest of a file as `finish` noted them; [] where it did not."""
        noted = (read_job(self.folder / JOB_FILE) or {}).get("result")
        found = noted.get(result.name) if isinstance(noted, dict) else None
        return found if is_noted(found) else []  # older jobs know the size alone

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in one sentence what a full or read-only disk means for the job: a JournalError for an OSError.

        Raises:
            JobHeldError: another machine has taken the job over; see `job_lock`.
        """
        try:
            self._lock.check()
            yield
        except OSError as error:
            kept = words("what was finished before is kept")
            if self._made.records:
                kept = words(
                    "the {finished} finished of {segments} segments are kept",
                    finished=len(self._made.records),
                    segments=self.segments,
                )
            reason = why_not_written(error, self.folder)
            raise JournalError("{reason}, and start the same job again; {kept}.", reason=reason, kept=kept) from error

"""The finished segments of a job: a record of each, written last, and the tensors that are kept of some.

A segment counts as finished if its parts are whole and it was made from what the one before it held.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from .job_files import is_whole
from .job_records import read_segment
from .kept_states import is_kept

FRAMES = "frames"


class FinishedSegments:
    """What is on the disk of a job's segments.

    Args:
        folder: of the job.
        job: its fingerprint; records of another one do not count.
        count: how many segments it has.

    Attributes:
        records: of the segments whose parts are whole, by number.
    """

    def __init__(self, folder: Path, job: str, count: int):
        self.folder, self.job, self.count = folder, job, count
        self.records: dict[int, dict[str, Any]] = {}
        self.states: set[int] = set()  # segments whose tensors are there and whole

    def tensor_path(self, index: int) -> Path:
        """Return where the tensors belong that are needed to go on from a segment."""
        return self.folder / f"segment-{index:04}.safetensors"

    def record_path(self, index: int) -> Path:
        """Return where a segment's record belongs."""
        return self.folder / f"segment-{index:04}.json"

    def digest(self, index: int) -> str:
        """Return the checksum of a segment's tensors, as its record has it."""
        found: str = self.records[index]["files"][self.tensor_path(index).name][1]
        return found

    def read(self, joined: bool) -> None:
        """Look at what is there, and remove what nobody needs; `joined`: the parts are made into a result."""
        for index in range(self.count):
            if (record := self.whole_record(index, joined)) is not None:
                self.records[index] = record
                name = self.tensor_path(index).name
                if is_whole(self.folder / name, record["files"][name]):
                    self.states.add(index)
        if joined:
            self.drop_parts()
        self.drop_states(self.unfinished() - 1)

    def whole_record(self, index: int, joined: bool) -> dict[str, Any] | None:
        """Return the record of a segment if it and all files that it needs are whole, its tensors aside."""
        record = read_segment(self.record_path(index), self.tensor_path(index).name)
        if record is None or record["job"] != self.job:
            return None
        parts = [name for name in record["files"] if name != self.tensor_path(index).name]
        needed = [name for name in parts if not (joined and self.is_spare(name))]
        whole = all(is_whole(self.folder / name, record["files"][name]) for name in needed)
        return record if whole else None

    def is_spare(self, name: str) -> bool:
        """Whether a finished job needs a file of a segment no longer: not pictures, nor the last segment's tensors."""
        return not name.startswith(f"{FRAMES}/") and name != self.tensor_path(self.count - 1).name

    def drop_parts(self) -> None:
        """Remove what was made into the result, which is noted and on the disk."""
        for record in self.records.values():
            for name in filter(self.is_spare, record["files"]):
                with suppress(OSError):
                    (self.folder / name).unlink()

    def drop_states(self, newest: int) -> None:
        """Remove tensors that nothing goes on from, now that those of the newest segment are on the disk."""
        for index in sorted(self.states):
            if not is_kept(index, newest):
                self.states.discard(index)
                with suppress(OSError):  # they only take up room
                    self.tensor_path(index).unlink()

    def next(self) -> int | None:
        """Return the segment to make next: the first that is not finished, or one before it whose tensors are kept."""
        index = self.unfinished()
        if index == self.count and index - 1 not in self.states:
            index -= 1  # the last one's tensors are asked for when the job is done
        elif index == self.count:
            return None
        while index and index - 1 not in self.states:
            index -= 1
        return index

    def unfinished(self) -> int:
        """Return the first segment that is not finished; one past the last where all are."""
        before = ""
        for index in range(self.count):
            record = self.records.get(index)
            if record is None or record["after"] != before:
                return index
            before = self.digest(index)
        return self.count

    def forget(self, index: int) -> None:
        """Let a segment count as unfinished while its files are written anew."""
        self.records.pop(index, None)
        self.states.discard(index)

    def add(self, index: int, record: dict[str, Any]) -> None:
        """Take in a segment whose record is on the disk."""
        self.records[index] = record
        self.states.add(index)
        self.drop_states(index)

"""The jobs that lie on the disk: listed, removed, and kept within a size that a person has agreed to."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..words import Joined, Words, counted, joined, lines, words
from .job_files import JournalError, check_in_place, folder_bytes, is_file, is_folder, open_plain
from .job_lock import held, is_held
from .job_records import read_job

JOB_FILE, LOCK_FILE = "job.json", "lock"
SHORT = 16  # characters of the fingerprint in a folder's name
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows keeps for devices
MOST_NAME_BYTES = 220  # with the fingerprint behind it a name stays within what file systems take
GIGABYTE = 10**9
AGREED = "keep_gb.txt"  # a person's own file: no workflow can put it there
FLOOR_GB = 10.0  # what finished jobs may always take, whatever a workflow or that file says


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
        removable: whether it was made under a size limit, so that one may remove it.
    """

    folder: Path
    name: str
    segments: int
    finished: int
    complete: bool
    size: int
    changed: float
    removable: bool


def list_jobs(root: str | os.PathLike[str]) -> list[JobInfo]:
    """Return the jobs in a folder, the longest untouched first."""
    jobs = []
    for folder in Path(root).glob("*-" + "[0-9a-f]" * SHORT):
        if is_folder(folder):
            with suppress(OSError):  # it is being removed
                jobs.append(info_of(folder))
    return sorted(jobs, key=lambda job: job.changed)


def info_of(folder: Path) -> JobInfo:
    """Return what a job's folder says about it; `Raises: OSError` where it vanishes meanwhile."""
    about = read_job(folder / JOB_FILE) or {}
    records = list(folder.glob("segment-*.json"))
    times = [os.lstat(folder).st_mtime, *(os.lstat(path).st_mtime for path in records)]
    return JobInfo(
        folder,
        about.get("name", folder.name[: -SHORT - 1]),
        about.get("segments", 0),
        len(records),
        about.get("complete", False),
        folder_bytes(folder),
        max(times[1:] or times),
        about.get("removable") is True,
    )


def is_at_work(folder: Path) -> bool:
    """Return whether a run works on a job, here or on another machine that shares the drive."""
    with suppress(JournalError, OSError):
        return is_held(folder / LOCK_FILE)
    return False


def remove_job(folder: str | os.PathLike[str]) -> None:
    """Remove a job and all its files.

    Raises:
        InputError: the folder holds no job.
        JournalError: a run works on it, it is a link, or the system does not let it be removed.
    """
    folder = Path(folder)
    check_in_place(folder)
    is_job = is_file(folder / LOCK_FILE) or is_file(folder / JOB_FILE)
    if not is_job or not re.fullmatch(rf".+-[0-9a-f]{{{SHORT}}}", folder.name):
        raise InputError("{folder} is not the folder of a job: choose one from the list of jobs.", folder=folder)
    try:
        with held(folder / LOCK_FILE) as got:
            if not got:
                raise JournalError(
                    "A run works on the job in {folder}: stop it before removing the job.", folder=folder
                )
            for path in folder.glob("segment-*.json"):  # first: of a removal that is cut short nothing counts
                if not is_folder(path):
                    path.unlink()
        shutil.rmtree(folder)
    except OSError as error:
        raise JournalError(
            "{folder} cannot be removed ({cause}): close what uses it, or remove it by hand.",
            folder=folder,
            cause=error.strerror or error,
        ) from error


def limit_size(root: str | os.PathLike[str], most_bytes: float, untouched_for: float = 0.0) -> list[Path]:
    """Remove complete jobs that were made under a limit, the longest untouched first, until all are within a size.

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
        unused = job.complete and job.removable and time.time() - job.changed >= untouched_for
        if total > most_bytes and unused:
            with suppress(JournalError):  # one that is being looked at stays
                remove_job(job.folder)
                removed.append(job.folder)
                total -= job.size
    return removed


def agreed_gb(root: str | os.PathLike[str]) -> float | None:
    """Return down to how many gigabytes a person lets finished jobs be removed, None where nobody has agreed."""
    with suppress(OSError, ValueError), open_plain(Path(root) / AGREED) as file:
        number = float(file.read(100).decode("utf-8-sig").strip())
        return max(number, FLOOR_GB) if isfinite(number) else None
    return None


def make_room(root: str | os.PathLike[str], keep_gb: float, untouched_for: float) -> Words | None:
    """Remove finished jobs beyond a limit, if a person has agreed to that.

    A workflow's limit alone removes nothing: it may come from a stranger. See `agreed_gb` and `limit_size`.

    Args:
        root: the folder of all jobs.
        keep_gb: gigabytes that a workflow wants all jobs to take at most; 0 = no limit.
        untouched_for: seconds for which a job stays in any case.

    Returns:
        What was removed, or why nothing was, for a person; None where there is nothing to say.
    """
    size = sum(job.size for job in list_jobs(root)) / GIGABYTE
    if not 0 < keep_gb < size:
        return None
    least = agreed_gb(root)
    if least is None:
        return words(
            "The jobs take {size:.1f} GB, more than keep_gb ({keep_gb:g} GB). Nothing was removed: to have finished "
            "jobs removed, write the number of GB that always stay, such as 50, into the file {file}.",
            size=size,
            keep_gb=keep_gb,
            file=Path(root) / AGREED,
        )
    removed = limit_size(root, max(keep_gb, least) * GIGABYTE, untouched_for)
    if not removed:
        return None
    return words("Removed for keep_gb: {names}.", names=joined([folder.name for folder in removed]))


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
        partly = words("{finished} of {segments} segments", finished=job.finished, segments=job.segments)
        state = words("finished") if job.complete else partly
        shown.append(
            words(
                "{name}  {state}  {size:.1f} MB  {changed}",
                name=job.folder.name,
                state=state,
                size=job.size / 1e6,
                changed=date_of(job.changed),
            )
        )
    return lines(*shown)


def date_of(seconds: float) -> str:
    """Return a time of the file system as a person writes it; a clock that went wild gives no date."""
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return "?"


def changes(root: Path, about: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings and tensors in which a job differs from the newest one of the same name."""
    for job in reversed(list_jobs(root)):
        other = read_job(job.folder / JOB_FILE)
        if other is not None and other["name"] == about["name"]:
            ours, theirs = ({**data["settings"], **data["tensors"]} for data in (about, other))
            missing = object()
            names = {**theirs, **ours}
            return tuple(key for key in names if ours.get(key, missing) != theirs.get(key, missing))
    return ()


def check_name(name: str) -> None:
    """Refuse a job name that is no plain file name; `Raises: InputError`."""
    plain = name and name == name.strip(" .") and not re.search(r'[\\/:*?"<>|\x00-\x1f\x7f\ud800-\udfff]', name)
    if not plain or RESERVED.fullmatch(name) or len(name.encode()) > MOST_NAME_BYTES:
        raise InputError(
            "The name is {name}, but it has to be a plain file name that any system knows, of {most} letters at most "
            "and without folders: use letters, digits, - and _.",
            name=ascii(name[:MOST_NAME_BYTES]) if not name.isprintable() else repr(name[:MOST_NAME_BYTES]),
            most=MOST_NAME_BYTES,
        )

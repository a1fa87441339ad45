"""The lock of a job: one run works in its folder, of all those on this machine and on others that share the drive.

Within a machine the operating system's lock on a file decides; it ends with its process, so none is ever stale. Whether
it reaches other machines depends on the drive, and nothing says so. Who has the lock therefore also keeps a record
`holder-...` beside it, which a thread writes anew every few seconds: a heartbeat. A record of another machine counts
until it has had none for a minute. Ages are told by the drive's own clock; no two machines' clocks are compared.

Two machines that take the same lock at once each write a record and look for others after that: at least one of them
sees the other and gives way. Who was taken for dead and is not finds its record gone, and is refused before it writes.
"""

from __future__ import annotations

import errno
import json
import os
import platform
import random
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ..words import Words, words
from .job_files import UNFINISHED, JournalError, check_file, is_file, not_plain, open_plain

WAIT_SECONDS = 0.2  # for a lock: somebody may just be looking whether it is held
BEAT_SECONDS = 5.0  # between two heartbeats
STALE_SECONDS = 60.0  # without a heartbeat, until a machine counts as dead
WATCH_SECONDS = 12.0  # more than two heartbeats: some drives note the time of the machine that writes
RECORDS = "holder-*"
RECORD_BYTES = 1000
ATTEMPTS = 5  # of two machines that give way to each other
OLDER = "holder"  # versions before 0.2 wrote down here who had the lock
CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class JobHeldError(JournalError):
    """Another run works on the job, or has taken it over."""


@dataclass(frozen=True)
class Record:
    """Who has a lock.

    Attributes:
        path: the record's file.
        beat: when it was last written, in seconds of the drive's clock.
        machine: see `this_machine`; "" where the record isn't whole.
        host: the machine's name.
        process: its number.
        since: date and time at which the lock was taken, by the holder's clock.
    """

    path: Path
    beat: float
    machine: str = ""
    host: str = "?"
    process: int = 0
    since: str = "?"


@cache
def this_machine() -> str:
    """Return what tells this machine, since it was started, from all others: within it the system's locks hold."""
    with suppress(OSError):
        return f"{platform.node()} {Path('/proc/sys/kernel/random/boot_id').read_text('ascii').strip()}"
    return f"{platform.node()} {uuid.getnode():x}"


def read_holder(path: Path) -> Record | None:
    """Return a record, or None where there is none."""
    try:
        with open_plain(path) as file:  # opened, not just looked at: a network drive then asks its server
            beat, text = os.fstat(file.fileno()).st_mtime, file.read(RECORD_BYTES)
    except FileNotFoundError:
        return None
    try:
        about: dict[str, Any] = json.loads(text)
        names = {name: str(about[name]) for name in ("machine", "host", "since")}
        return Record(path, beat, process=int(about["process"]), **names)
    except (ValueError, KeyError, TypeError, RecursionError):
        return Record(path, beat)


def holders(folder: Path) -> list[Record]:
    """Return the records in a job's folder; raises as `open_plain` does."""
    return [record for record in map(read_holder, sorted(folder.glob(RECORDS))) if record is not None]


def drive_time(folder: Path) -> float:
    """Return the time by the clock of the drive that a folder is on; `Raises: OSError` where it can't be written to."""
    path = folder / f"clock-{uuid.uuid4().hex}{UNFINISHED}"
    try:
        with open_plain(path, "xb") as file:
            file.write(b"\n")  # as a heartbeat is: by the same clock
        return os.lstat(path).st_mtime
    finally:
        with suppress(OSError):
            path.unlink()


def is_stale(record: Record, watch: bool) -> bool:
    """Return whether the machine of a record counts as dead.

    Args:
        record: of another machine, or of this one on a drive that cannot lock.
        watch: before saying so, see for some seconds that no heartbeat comes; without it clocks are trusted.
    """
    if abs(drive_time(record.path.parent) - record.beat) < STALE_SECONDS:
        return False
    end = time.monotonic() + WATCH_SECONDS
    while watch and time.monotonic() < end:
        time.sleep(min(1.0, WATCH_SECONDS))
        now = read_holder(record.path)
        if now is None or now.beat != record.beat:
            return False
    return True


def system_lock(path: Path) -> tuple[bool | None, BaseFileLock | None]:
    """Take the operating system's lock on a file.

    Returns:
        Whether it was free, None where the drive cannot lock; and the lock, where it was. Raises as `open_plain` does.
    """
    check_file(path)
    if os.path.lexists(path) and os.lstat(path).st_nlink > 1:  # older versions of filelock empty the file
        raise not_plain(path)
    lock: BaseFileLock = FileLock(str(path), timeout=WAIT_SECONDS, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        # some versions make the file itself a marker where the drive cannot lock, and take one that lies there for held
        return (None if isinstance(lock, SoftFileLock) else False), None
    except (OSError, NotImplementedError) as error:
        if getattr(error, "errno", errno.ENOSYS) not in CANNOT_LOCK:
            raise
        return None, None
    if isinstance(lock, SoftFileLock):
        lock.release()
        return None, None
    return True, lock


class Heart(threading.Thread):
    """Writes a record anew every few seconds, whatever the process is busy with, as long as the record is there."""

    def __init__(self, path: Path, data: bytes):
        super().__init__(name="job lock", daemon=True)
        self.path, self.data, self.ended = path, data, threading.Event()

    def run(self) -> None:
        """Beat until `end`, or until somebody has removed the record."""
        while not self.ended.wait(BEAT_SECONDS):
            try:
                with open_plain(self.path, "rb+") as file:  # makes none, and leaves no moment in which it is torn
                    file.write(self.data)
            except FileNotFoundError:
                return
            except (OSError, JournalError):  # a drive that is away for a while
                continue

    def end(self) -> None:
        """Stop, and remove the record."""
        self.ended.set()
        self.join(timeout=BEAT_SECONDS)
        with suppress(OSError):
            self.path.unlink()


class Lock:
    """The lock of one job.

    Args:
        path: the file that the operating system locks; records lie beside it.
    """

    def __init__(self, path: Path):
        self.path, self.folder = path, path.parent
        self.lock: BaseFileLock | None = None
        self.heart: Heart | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another run has it.

        Where another machine held it and seems dead, this takes WATCH_SECONDS. Raises as `open_plain` does.
        """
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(0.0, 0.1 * 2**attempt))
            free, self.lock = system_lock(self.path)
            before = holders(self.folder)
            if (free is not False or before) and all(is_dead(record, free, watch=True) for record in before):
                self.write_record()
                if self.is_alone({record.path for record in before}):
                    for record in before:
                        with suppress(OSError):
                            record.path.unlink()
                    with suppress(OSError):
                        (self.folder / OLDER).unlink()
                    return True
                self.release()
            else:
                self.release()
                return False
        return False

    def is_alone(self, dead: set[Path]) -> bool:
        """Return whether all records but our own are of the dead."""
        assert self.heart is not None
        return {record.path for record in holders(self.folder)} - dead == {self.heart.path}

    def write_record(self) -> None:
        """Write down who has the lock, and keep it fresh."""
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        about = {"machine": this_machine(), "host": platform.node(), "process": os.getpid(), "since": since}
        data = json.dumps(about).encode()
        path = self.folder / f"holder-{uuid.uuid4().hex[:12]}"
        with open_plain(path, "xb") as file, suppress(OSError):  # on a full disk an empty record has to do
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self.heart = Heart(path, data)
        self.heart.start()

    def release(self) -> None:
        """Give the lock up."""
        if self.heart is not None:
            self.heart.end()
            self.heart = None
        if self.lock is not None:
            with suppress(OSError):
                self.lock.release()
            self.lock = None

    def check(self) -> None:
        """Refuse to go on where the lock was lost: to another machine, while this one gave no sign of life.

        Raises:
            JobHeldError: it was.
        """
        if self.heart is not None and read_holder(self.heart.path) is None:
            raise JobHeldError(
                "The job in {folder} was taken over by {holder}, because this process gave no sign of life for "
                "{seconds:.0f} s: what that one makes is the same, so wait for it.",
                folder=self.folder,
                holder=self.holder(),
                seconds=STALE_SECONDS,
            )

    def holder(self) -> Words:
        """Return who holds the lock, for a message."""
        found = holders(self.folder)
        if not found:
            return words("another process")
        record = max(found, key=lambda each: each.beat)
        about = words(
            "process {process} on {host} since {since}", process=record.process, host=record.host, since=record.since
        )
        if record.machine == this_machine():
            return about
        return words(
            "{holder} (last sign of life {age:.0f} s ago; after {seconds:.0f} s without one, the job is free)",
            holder=about,
            age=max(drive_time(self.folder) - record.beat, 0.0),
            seconds=STALE_SECONDS,
        )


def is_dead(record: Record, free: bool | None, watch: bool) -> bool:
    """Return whether the holder of a record has ended; `free`: of `system_lock`; `watch`: of `is_stale`."""
    if record.machine == this_machine() and free is not None:
        return free
    return is_stale(record, watch)


def is_held(path: Path) -> bool:
    """Return whether somebody holds a lock, without disturbing it; raises as `open_plain` does."""
    free, lock = system_lock(path) if is_file(path) else (None, None)
    try:
        found = holders(path.parent)
        return any(not is_dead(record, free, watch=False) for record in found) if found else free is False
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock while the context lasts; gives whether it could be had."""
    lock = Lock(path)
    got = lock.acquire()
    try:
        yield got
    finally:
        lock.release()

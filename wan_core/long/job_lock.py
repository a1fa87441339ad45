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
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ..words import Words, words
from . import heartbeat
from .heartbeat import Heart, holders, in_words, is_dead, read_holder
from .job_files import JournalError, check_file, is_file, not_plain

WAIT_SECONDS = 0.2  # for a lock: somebody may just be looking whether it is held
ATTEMPTS = 5  # of two machines that give way to each other
OLDER = "holder"  # versions before 0.2 wrote down here who had the lock
CANNOT_LOCK = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)


class JobHeldError(JournalError):
    """Another run works on the job, or has taken it over."""


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
                self.heart = Heart.begun(self.folder)
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
                seconds=heartbeat.STALE_SECONDS,
            )

    def holder(self) -> Words:
        """Return who holds the lock, for a message."""
        found = holders(self.folder)
        if not found:
            return words("another process")
        return in_words(max(found, key=lambda each: each.beat))


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

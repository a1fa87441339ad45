"""Files that appear whole or not at all, their checksums, and a lock that dies with its process."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ..words import Words, words

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CHUNK = 1 << 20
LOCKED_BYTE = 1 << 16  # Windows lets nobody read a locked byte: this one lies behind the text of the lock file
UNFINISHED = ".unfinished"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment there is the old one or the new one, never a part.

    Raises:
        OSError: it could not be written; the old file is then left as it was.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with open(unfinished, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
    sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until a file that something else wrote is on the disk."""
    with open(path, "rb+") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if sys.platform != "win32":
        with suppress(OSError):  # some network folders cannot
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's content."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while data := file.read(CHUNK):
            digest.update(data)
    return digest.hexdigest()


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may vanish meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


class Lock:
    """A lock on a file that the operating system gives up when the process ends, however it ends.

    So there is no stale lock, and no process number that another process might have by now.
    """

    def __init__(self, path: Path):
        self.path = path
        self.file: BinaryIO | None = None

    def acquire(self) -> bool:
        """Take the lock; False if another holder has it."""
        while True:
            file = open(self.path, "a+b")  # noqa: SIM115 - it stays open as long as the lock is held
            try:
                lock_byte(file)
            except (BlockingIOError, PermissionError):
                file.close()
                return False
            except OSError as error:
                logging.warning("%s cannot be locked (%s): do not start the same job twice at once.", self.path, error)
            with suppress(OSError):
                if os.path.samestat(os.stat(self.path), os.fstat(file.fileno())):
                    break
            file.close()  # the file was removed between opening and locking
        file.truncate(0)
        file.write(f"process {os.getpid()}\n".encode())
        file.flush()
        self.file = file
        return True

    def release(self) -> None:
        """Give the lock up."""
        if self.file is not None:
            with suppress(OSError):
                unlock_byte(self.file)
            self.file.close()
            self.file = None

    def holder(self) -> str | Words:
        """Return who holds the lock, for a message."""
        try:
            name = self.path.read_text(encoding="utf-8").strip()
        except OSError:
            name = ""
        return name or words("another process")


def lock_byte(file: BinaryIO) -> None:
    """Lock a file without waiting; `Raises: OSError` if it is locked."""
    if sys.platform == "win32":
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)


def unlock_byte(file: BinaryIO) -> None:
    """Undo `lock_byte`."""
    if sys.platform == "win32":
        file.seek(LOCKED_BYTE)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


@contextmanager
def held(path: Path) -> Iterator[bool]:
    """Hold a lock while the context lasts; gives whether it could be had."""
    lock = Lock(path)
    got = lock.acquire()
    try:
        yield got
    finally:
        lock.release()

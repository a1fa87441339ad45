"""A job's files: plain files that appear whole or not at all, and their checksums.

Nothing here follows a link or waits for a pipe: whoever can put files into a job's folder cannot make a run read,
empty or write what lies outside of it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import SkyReelsError
from ..words import Words, words

CHUNK = 1 << 20
UNFINISHED = ".unfinished"
# a link is an error, a pipe does not wait for its other end, and Windows changes no line ends
PLAIN = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY", "O_CLOEXEC"))


class JournalError(SkyReelsError):
    """A job's folder cannot be used: the disk is full or read-only, another run holds it, or what lies in it is odd."""


def not_plain(path: Path) -> JournalError:
    """Return the error for a link, a pipe or a device where a file or a folder of a job should be."""
    return JournalError(
        "{path} is a link, a pipe or a device, but a job has plain files and folders only, and nothing else is "
        "followed: remove it and queue again.",
        path=path,
    )


def check_folder(folder: Path) -> None:
    """Refuse a job's folder that lies elsewhere, and what in it is neither file nor folder; `Raises: JournalError`."""
    if not os.path.lexists(folder):
        return
    check_in_place(folder)
    for path in (folder / name for name in os.listdir(folder)):
        if is_folder(path):  # pictures; what lies deeper is never touched
            check_in_place(path)
            for name in os.listdir(path):
                if not is_folder(path / name):
                    check_file(path / name)
        else:
            check_file(path)


def check_in_place(folder: Path) -> None:
    """Refuse a folder that is none itself, a link or a junction for example; `Raises: JournalError`."""
    real = os.path.join(os.path.realpath(folder.parent), folder.name)
    if not is_folder(folder) or os.path.normcase(os.path.realpath(folder)) != os.path.normcase(real):
        raise not_plain(folder)


def check_file(path: Path) -> None:
    """Refuse what is there and no file itself; `Raises: JournalError`."""
    if os.path.lexists(path) and not is_file(path):
        raise not_plain(path)


def is_folder(path: Path) -> bool:
    """Say whether a path is a folder itself, not a link to one."""
    with suppress(OSError):
        return stat.S_ISDIR(os.lstat(path).st_mode)
    return False


def is_file(path: Path) -> bool:
    """Say whether a path is a file itself, not a link to one."""
    with suppress(OSError):
        return stat.S_ISREG(os.lstat(path).st_mode)
    return False


def open_plain(path: Path, mode: str = "rb") -> BinaryIO:
    """Open a file that is one itself: no link, no pipe, no device.

    Args:
        path: the file.
        mode: as for `open`, of bytes.

    Raises:
        JournalError: it is something else.
        OSError: it cannot be opened.
    """
    check_file(path)
    file = open(path, mode, opener=lambda name, flags: os.open(name, flags | PLAIN, 0o666))  # noqa: SIM115 - lent
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # it was exchanged meanwhile
        file.close()
        raise not_plain(path)
    return file  # type: ignore[return-value]


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment there is the old one or the new one, never a part.

    Raises:
        OSError: it could not be written; the old file is then left as it was.
    """
    unfinished = path.with_name(path.name + UNFINISHED)
    try:
        with suppress(FileNotFoundError):
            unfinished.unlink()
        with open_plain(unfinished, "xb") as file:
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
    with open_plain(path, "rb+") as file:  # Windows syncs only what is open for writing
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can do that."""
    if os.name != "nt":
        with suppress(OSError):  # some network folders cannot
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def stream_digest(file: BinaryIO) -> str:
    """Return the sha256 of what is left in an open file."""
    digest = hashlib.sha256()
    while data := file.read(CHUNK):
        digest.update(data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file that a person chose, wherever it lies."""
    with open(path, "rb") as file:
        return stream_digest(file)


def size_and_digest(path: Path) -> list[int | str]:
    """Return the size and the sha256 of a job's file, as records have them; raises as `open_plain` does."""
    with open_plain(path) as file:
        return [os.fstat(file.fileno()).st_size, stream_digest(file)]


def remove_left_behind(folder: Path, pictures: str) -> None:
    """Remove what a run left that was killed while it wrote; `pictures`: the name of their folder in it."""
    for pattern in ("*" + UNFINISHED, ".*.part", f"{pictures}/.*.part"):
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()


def is_whole(path: Path, noted: list[int | str]) -> bool:
    """Return whether a file is there with the size and digest that were noted of it."""
    with suppress(OSError, JournalError):
        return is_file(path) and size_and_digest(path) == noted
    return False


def why_not_written(error: OSError, folder: Path) -> Words:
    """Return what is said of a folder that could not be written to."""
    if error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return words("The disk is full under {folder}: free some space", folder=folder)
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return words("Nothing can be written to {folder}: allow it, or choose another folder", folder=folder)
    return words("Writing to {folder} failed ({cause}): fix that", folder=folder, cause=error.strerror or error)


def folder_bytes(folder: Path) -> int:
    """Return the size of all files in a folder; links count for nothing."""
    total = 0
    for inner, _folders, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # it may vanish meanwhile
                found = os.lstat(os.path.join(inner, name))
                total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total

"""Who has a job's lock: a record `holder-...` in its folder that a thread writes anew every few seconds.

A record of another machine counts until it has had no heartbeat for a minute. Ages are told by the drive's own clock;
no two machines' clocks are compared.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

from ..words import Words, words
from .job_files import UNFINISHED, JournalError, open_plain, write_whole

BEAT_SECONDS = 5.0  # between two heartbeats
STALE_SECONDS = 60.0  # without a heartbeat, until a machine counts as dead
WATCH_SECONDS = 12.0  # more than two heartbeats: some drives note the time of the machine that writes
RECORDS = "holder-*"
RECORD_BYTES = 1000


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
    whole = (path for path in sorted(folder.glob(RECORDS)) if path.suffix != UNFINISHED)
    return [record for record in map(read_holder, whole) if record is not None]


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


class Heart(threading.Thread):
    """Writes a record anew every few seconds, whatever the process is busy with, as long as the record is there."""

    def __init__(self, path: Path, data: bytes):
        super().__init__(name="job lock", daemon=True)
        self.path, self.data, self.ended = path, data, threading.Event()

    @classmethod
    def begun(cls, folder: Path) -> Heart:
        """Write down who has the lock of a job's folder, and keep it fresh; raises as `open_plain` does."""
        since = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
        about = {"machine": this_machine(), "host": platform.node(), "process": os.getpid(), "since": since}
        data = json.dumps(about).encode()
        path = folder / f"holder-{uuid.uuid4().hex[:12]}"
        try:
            write_whole(path, data)  # whoever dies meanwhile leaves none that seems to be another machine's
        except OSError:  # on a full disk an empty record has to do
            open_plain(path, "xb").close()
        heart = cls(path, data)
        heart.start()
        return heart

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


def is_dead(record: Record, free: bool | None, watch: bool) -> bool:
    """Return whether the holder of a record has ended; `free`: of `system_lock`; `watch`: of `is_stale`."""
    if record.machine == this_machine() and free is not None:
        return free
    return is_stale(record, watch)


def in_words(record: Record) -> Words:
    """Return who a record is of, and where that is on another machine, how long ago it gave a sign of life."""
    about = words(
        "process {process} on {host} since {since}", process=record.process, host=record.host, since=record.since
    )
    if record.machine == this_machine():
        return about
    return words(
        "{holder} (last sign of life {age:.0f} s ago; after {seconds:.0f} s without one, the job is free)",
        holder=about,
        age=max(drive_time(record.path.parent) - record.beat, 0.0),
        seconds=STALE_SECONDS,
    )

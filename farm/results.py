"""What became of the jobs of a list: a small JSON file beside it, written whole after every job that ended.

The same command run again finds there what is finished and does not run it again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wan_core.errors import InputError
from wan_core.long.job_files import write_whole

from .talk import FINISHED


@dataclass(frozen=True)
class Result:
    """What became of one job.

    Attributes:
        name: of the job.
        state: one of those in `talk`.
        host: that had it last, "" where none had.
        tries: how often it was given to a host.
        seconds: of the last try.
        outputs: files; on this machine, or as the host names them where they were left there.
        sentence: why it did not finish, "" where it did.
    """

    name: str
    state: str
    host: str = ""
    tries: int = 0
    seconds: float = 0.0
    outputs: list[str] = field(default_factory=list)
    sentence: str = ""


class Results:
    """The results of a list, held by one command at a time; a context manager.

    Attributes:
        run: what tells this list's prompts from all others on a host.
        by_key: results by the key of their job.

    Args:
        path: the file.

    Raises:
        InputError: another command works on the list, or the file is none of ours.
    """

    def __init__(self, path: Path):
        self.path = path
        self.lock = FileLock(f"{path}.lock", timeout=0)
        try:
            self.lock.acquire()
        except Timeout:
            raise InputError(f"Another command works on this list ({path}.lock): wait until it has ended.") from None
        try:
            self.run, self.by_key = self.read()
        except BaseException:
            self.lock.release()
            raise

    def read(self) -> tuple[str, dict[str, Result]]:
        """Return what the file holds; `Raises: InputError` where it holds something else."""
        if not self.path.exists():
            return uuid.uuid4().hex, {}
        known = {each.name for each in fields(Result)}
        try:
            about: dict[str, Any] = json.loads(self.path.read_text("utf-8"))
            results = {
                key: Result(**{name: value for name, value in each.items() if name in known})
                for key, each in about["jobs"].items()
            }
            return str(about["run"]), results
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.path} isn't a file of results ({error!r}): move it away, and all jobs are run anew."
            ) from None

    def finished(self, keys: Iterable[str]) -> set[str]:
        """Return which of some jobs are finished."""
        return {key for key in keys if key in self.by_key and self.by_key[key].state == FINISHED}

    def note(self, key: str, result: Result) -> None:
        """Note what became of a job, so that it is on the disk."""
        self.by_key[key] = result
        jobs = {key: asdict(each) for key, each in self.by_key.items()}
        write_whole(self.path, json.dumps({"run": self.run, "jobs": jobs}, ensure_ascii=False, indent=1).encode())

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *raised: object) -> None:
        self.lock.release()

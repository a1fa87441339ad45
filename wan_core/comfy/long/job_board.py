"""What the Jobs node shows of the jobs on the disk, and does with them: rows, first pictures, workflows, removal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import SkyReelsError
from ...long.job_files import is_file, open_plain, write_whole
from ...long.jobs import JobInfo, date_of, is_at_work, list_jobs, remove_job
from ...video.reader import read_frames
from ...video.writer import encoded_png
from ...words import Catalogue, Words, words
from ..host_flags import writes_no_texts

WORKFLOW_FILE = "workflow.json"
MOST_BYTES = 64_000_000  # of a workflow
FIRST_FRAMES = ("frames/frame_000000.png", "part-0000-source.*", "part-0000.*")
EDGE = 160  # pixels of a picture's longer side, at least
LABELS: dict[str, Words] = {
    "resume": words("Resume"),
    "delete": words("Delete"),
    "sure": words("Really delete?"),
    "queued": words("Queued."),
    "none": words("No jobs yet: SkyReels-V2 Long Video and Extend Video keep theirs here."),
    "unkept": words("This job's workflow was not kept: open the workflow that made it and queue that."),
}


def keep_workflow(folder: Path, texts: Mapping[str, str] | None) -> None:
    """Keep what made a job beside it, so that it can be queued again; with --disable-metadata nothing stays of it."""
    file = folder / WORKFLOW_FILE
    if texts:
        write_whole(file, json.dumps({name: json.loads(text) for name, text in texts.items()}).encode())
    elif writes_no_texts():
        file.unlink(missing_ok=True)


def kept_workflow(folder: Path) -> dict[str, Any] | None:
    """Return the API prompt and the workflow of a job by these names, None where they were not kept."""
    with suppress(OSError, ValueError, RecursionError, SkyReelsError), open_plain(folder / WORKFLOW_FILE) as file:
        found = json.loads(file.read(MOST_BYTES))
        return found if isinstance(found, dict) and isinstance(found.get("prompt"), dict) else None
    return None


def job_of(root: Path, name: str) -> JobInfo | None:
    """Return the job in a folder of this name, so that no name leads anywhere else."""
    return next((job for job in list_jobs(root) if job.folder.name == name), None)


def board(root: Path, language: Catalogue) -> dict[str, Any]:
    """Return the jobs, the latest first, and the words around them, in a language."""
    rows = [
        {
            "name": job.folder.name,
            "about": words(
                "{state}, {size:.1f} MB, {changed}",
                state=words("{state}, at work", state=state_of(job)) if at_work else state_of(job),
                size=job.size / 1e6,
                changed=date_of(job.changed),
            ).say(language),
            "complete": job.complete,
            "at_work": at_work,
            "resumable": kept_workflow(job.folder) is not None,
        }
        for job in reversed(list_jobs(root))
        for at_work in (is_at_work(job.folder),)
    ]
    return {"jobs": rows, "labels": {name: label.say(language) for name, label in LABELS.items()}}


def state_of(job: JobInfo) -> Words:
    """Return how far a job is."""
    if job.complete:
        return words("finished")
    return words("{finished} of {segments} segments kept", finished=job.finished, segments=job.segments)


def first_picture(folder: Path) -> bytes | None:
    """Return the first frame of a job as a small PNG file, None where there is none yet."""
    found = [
        path for pattern in (*FIRST_FRAMES, f"{folder.name}.*", "video.*") for path in sorted(folder.glob(pattern))
    ]
    for path in filter(is_file, found):
        with suppress(SkyReelsError, OSError, StopIteration):
            frame = next(read_frames(path))
            step = max(1, max(frame.shape[:2]) // EDGE)
            return encoded_png(torch.from_numpy(np.ascontiguousarray(frame[::step, ::step])))
    return None


def remove(root: Path, name: str) -> None:
    """Remove a job that a person chose; `Raises: SkyReelsError` where it cannot be. One that is gone is gone."""
    job = job_of(root, name)
    if job is not None:
        remove_job(job.folder)

"""Not a test: long videos made in forked children that are killed at random moments; test_journal.py runs it.

Prints as JSON how many jobs were made, how often one was killed, and how often between its first and last segment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from wan_core.long.journal import Journal
from wan_core.long.plan import Wanted
from wan_core.long.rollout import Rollout, Segments, Task, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import continue_job
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.video.join import join_videos
from wan_core.video.writer import write_video

PLAN = plan_segments(Wanted(137, 37, 17, steps=4))
ROW_SECONDS = 0.001
KILLS, MOST_JOBS = 20, 60


def sample_segment(task: Task) -> torch.Tensor:
    def denoise(x: torch.Tensor, levels: torch.Tensor, row: object) -> torch.Tensor:
        time.sleep(ROW_SECONDS)
        return torch.tanh(x + x.mean(dim=2, keepdim=True))

    known = None if task.known is None else task.known.mask
    run = plan_run(ForcingOptions(), flow_sigmas(PLAN.steps), task.segment.length, known)
    return sample(denoise, task.noise, run, task.known)


def run_job(root: Path, seed: int) -> None:
    """Make a job, noting every segment that is begun and finished."""
    rollout = Rollout(PLAN, (1, 4, 6, 8), seeded((seed,) * len(PLAN.segments)), drift_control=0.3)
    log = os.open(root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def begun(task: Task) -> torch.Tensor:
        os.write(log, f"begun {task.segment.index}\n".encode())
        return sample_segment(task)

    with Journal(root, "video", {"seed": seed}, len(PLAN.segments)) as journal:
        for finished in continue_job(Segments(rollout, begun), journal):
            index = finished.segment.index
            part = journal.part_path(index, ".mp4")
            write_video(part, picture(finished.latents), 24)
            journal.commit(index, {**finished.state, "latents": finished.latents}, [part])
            os.write(log, f"finished {index}\n".encode())
        join_videos(journal.folder / "video.mp4", journal.parts())
        journal.finish()


def picture(latents: torch.Tensor) -> torch.Tensor:
    """Return latents [1, 4, F, H, W] as frames [F, 8 H, 8 W, 3] in 0..1."""
    colours = latents[0, :3].sigmoid().permute(1, 2, 3, 0)
    return colours.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)


def in_child(root: Path, seed: int, kill_after: float | None) -> bool:
    """Run a job in a child and kill it after a while; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            run_job(root, seed)
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the job failed"
        return True
    return False


def made(root: Path) -> list[bytes]:
    (folder,) = root.glob("video-*")
    assert json.loads((folder / "job.json").read_text())["complete"]
    assert not list(folder.glob("*.unfinished"))
    return [path.read_bytes() for path in sorted(folder.glob("*.mp4")) + sorted(folder.glob("*.safetensors"))]


def main() -> None:
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    numbers = random.Random(4)
    kills = within = 0
    undisturbed: dict[int, list[bytes]] = {}
    for seed in range(2):
        (root / f"whole-{seed}").mkdir()
        started = time.monotonic()
        assert in_child(root / f"whole-{seed}", seed, None)
        seconds = time.monotonic() - started
        undisturbed[seed] = made(root / f"whole-{seed}")
    assert undisturbed[0] != undisturbed[1]
    job = 0
    while within < KILLS and job < MOST_JOBS:
        folder, seed = root / f"job-{job}", job % 2
        folder.mkdir()
        finished_before: set[str] = set()
        for _ in range(3):
            if in_child(folder, seed, numbers.uniform(0, seconds * 0.6)):
                break
            kills += 1
            # a record that lies in the folder is a finished segment, whether or not the child came to note it
            records = {path.name for path in folder.glob("video-*/segment-*.json")}
            assert finished_before <= records
            within += 0 < len(records) < len(PLAN.segments)
            finished_before = records
            with open(folder / "log", "a") as log:
                log.writelines(f"finished {int(name[8:12])}\n" for name in sorted(records))
        assert in_child(folder, seed, None)
        assert made(folder) == undisturbed[seed], f"job {job} ends differently"
        finished: set[str] = set()
        for line in (folder / "log").read_text().splitlines():
            word, index = line.split()
            assert word != "begun" or index not in finished, f"segment {index} of job {job} was made twice"
            if word == "finished":
                finished.add(index)
        assert len(finished) == len(PLAN.segments)
        job += 1
    print(json.dumps({"jobs": job, "kills": kills, "kills_within": within, "seconds": seconds}))


if __name__ == "__main__":
    main()

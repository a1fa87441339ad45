"""Not a test: long videos made in forked children that are killed at random moments; test_journal.py runs it.

The arguments are a folder and a method. Prints as JSON how many jobs were made, how often one was killed, and how often
between its first and last segment.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from wan_core.long.journal import Journal
from wan_core.long.moving_window import MovingWindow, WindowTask, plan_moving_window
from wan_core.long.plan import Wanted
from wan_core.long.rolling import RollingRow, Window, block_noise, roll_out, split_known
from wan_core.long.rolling_video import RollingTask, RollingVideo, plan_rolling
from wan_core.long.rollout import Rollout, Segments, Task, seeded
from wan_core.long.segments import plan_segments
from wan_core.long.sources import Source, continue_job
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.video.join import join_videos
from wan_core.video.writer import write_video

ROW_SECONDS = 0.001
KILLS, MOST_JOBS = 20, 60
SHAPE, STEPS, BLOCK, SIGHT = (1, 4, 6, 8), 4, 2, Window(8, 2)
Noting = Callable[[int], None]


def denoise(x: torch.Tensor, _levels: torch.Tensor, _row: object) -> torch.Tensor:
    time.sleep(ROW_SECONDS)
    return torch.tanh(x + x.mean(dim=2, keepdim=True))


def in_segments(seed: int, begun: Noting) -> Source:
    """A video in segments that overlap."""
    plan = plan_segments(Wanted(137, 37, 17, steps=STEPS))

    def segment(task: Task) -> torch.Tensor:
        begun(task.segment.index)
        known = None if task.known is None else task.known.mask
        run = plan_run(ForcingOptions(), flow_sigmas(STEPS), task.segment.length, known)
        return sample(denoise, task.noise, run, task.known)

    return Segments(Rollout(plan, SHAPE, seeded((seed,) * len(plan.segments)), drift_control=0.3), segment)


def by_window(seed: int, begun: Noting) -> Source:
    """A video by a moving window."""
    plan = plan_moving_window(Wanted(137, 29, causal_block_size=BLOCK, ar_step=0, steps=STEPS))

    def window(task: WindowTask) -> tuple[torch.Tensor, torch.Tensor]:
        begun(task.segment.index)
        left: list[torch.Tensor] = []
        made = sample(denoise, task.noise, task.run, task.known, begun=task.begun, left=left.append)
        return made, left[0]

    return MovingWindow(plan, SHAPE, ForcingOptions(), flow_sigmas(STEPS), (seed,), window)


def rolling(seed: int, begun: Noting) -> Source:
    """A rolling video; what its chunks see of those before is their mean."""
    plan = plan_rolling(Wanted(269, steps=STEPS), SIGHT, BLOCK)

    def chunks(task: RollingTask) -> torch.Tensor:
        begun(task.segment.index)
        seen = list(task.known.split(1, dim=2))

        def see(x: torch.Tensor, _levels: torch.Tensor, row: RollingRow) -> torch.Tensor:
            time.sleep(ROW_SECONDS)
            if row.keep:
                seen.extend(x.split(1, dim=2))
            around = torch.cat([x, *seen[-SIGHT.frames :]], dim=2).mean(dim=2, keepdim=True)
            return torch.tanh(x + around + 0.01 * row.first)

        shape = (*SHAPE[:2], BLOCK, *SHAPE[2:])
        noise = (block_noise(shape, task.seed, STEPS, task.first + at, "lcm") for at in range(0, task.new, BLOCK))
        jump = (len(split_known(task.sink, BLOCK)), task.position)
        made = torch.cat(list(roll_out(see, noise, flow_sigmas(STEPS), SIGHT, jump=jump)), dim=2)
        return made[:, :, : task.new]

    return RollingVideo(plan, SHAPE, SIGHT, (seed,), chunks, {})


METHODS: dict[str, Callable[[int, Noting], Source]] = {
    "segments": in_segments,
    "moving window": by_window,
    "rolling": rolling,
}


def run_job(method: str, root: Path, seed: int) -> None:
    """Make a job, noting every segment that is begun and finished."""
    log = os.open(root / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    source = METHODS[method](seed, lambda index: os.write(log, f"begun {index}\n".encode()) and None)
    with Journal(root, "video", {"seed": seed}, len(source.plan.segments)) as journal:
        for finished in continue_job(source, journal):
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


def in_child(method: str, root: Path, seed: int, kill_after: float | None) -> bool:
    """Run a job in a child and kill it after a while; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            run_job(method, root, seed)
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
    root, method = Path(sys.argv[1]), sys.argv[2]
    segments = len(METHODS[method](0, lambda index: None).plan.segments)
    numbers = random.Random(4)
    kills = within = 0
    undisturbed: dict[int, list[bytes]] = {}
    for seed in range(2):
        (root / f"whole-{seed}").mkdir()
        started = time.monotonic()
        assert in_child(method, root / f"whole-{seed}", seed, None)
        seconds = time.monotonic() - started
        undisturbed[seed] = made(root / f"whole-{seed}")
    assert undisturbed[0] != undisturbed[1]
    job = 0
    while within < KILLS and job < MOST_JOBS:
        folder, seed = root / f"job-{job}", job % 2
        folder.mkdir()
        finished_before: set[str] = set()
        for _ in range(3):
            if in_child(method, folder, seed, numbers.uniform(0, seconds * 0.6)):
                break
            kills += 1
            # a record that lies in the folder is a finished segment, whether or not the child came to note it
            records = {path.name for path in folder.glob("video-*/segment-*.json")}
            assert finished_before <= records
            within += 0 < len(records) < segments
            finished_before = records
            with open(folder / "log", "a") as log:
                log.writelines(f"finished {int(name[8:12])}\n" for name in sorted(records))
        assert in_child(method, folder, seed, None)
        assert made(folder) == undisturbed[seed], f"job {job} ends differently"
        finished: set[str] = set()
        for line in (folder / "log").read_text().splitlines():
            word, index = line.split()
            assert word != "begun" or index not in finished, f"segment {index} of job {job} was made twice"
            if word == "finished":
                finished.add(index)
        assert len(finished) == segments
        job += 1
    print(json.dumps({"jobs": job, "kills": kills, "kills_within": within, "seconds": seconds}))


if __name__ == "__main__":
    main()

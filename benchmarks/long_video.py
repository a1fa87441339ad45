"""What a long video takes by each method, and whether that grows: memory, time per frame, and every frame of the file.

    python -m benchmarks.long_video            97 and 1,457 frames by each method, with the embedded models
    python -m benchmarks.long_video 97 481     other lengths, the shortest first

Each video is made in a separate host process. Recorded are the peak of the whole process, and how much the video adds
to what the process held once the models were loaded and a first short video was made. The results are kept in
benchmarks/results/long-video.json and, as a table, in long-video.md. On the CPU device memory is main memory.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
INSIDE = "--inside"
LENGTHS = (97, 1457)  # video frames
WARM_UP = 41  # video frames of what is made first, so that all libraries are there
KEPT = ROOT / "benchmarks" / "results" / "long-video.json"
PAGE = KEPT.with_suffix(".md")
SHARED = {"base_num_frames": 37, "overlap_history": 17, "codec": "ffv1"}
METHODS: dict[str, dict[str, Any]] = {
    "segments": SHARED,
    "moving window": {**SHARED, "method": {"method": "moving window"}, "causal_block_size": 5},
    "rolling": {
        **SHARED,
        "method": {"method": "rolling", "chunk_frames": 5, "window_frames": 10, "timesteps": "1000, 750, 500, 250"},
        "cfg": 1.0,
    },
}
# memory that the allocator keeps back for its threads would make the figures a matter of chance
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": "0", "OMP_NUM_THREADS": "1"}
LOOK_SECONDS = 0.05
SAME = 0.03  # share by which peaks may differ


def frame_digests(path: Path, rate: int) -> list[str]:
    """Return the digest of every frame of a file.

    Raises:
        AssertionError: a frame is not shown at its time, or shows what the frame before it did.
    """
    import av

    digests: list[str] = []
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        for number, frame in enumerate(container.decode(stream)):
            shown = (frame.pts or 0) * Fraction(stream.time_base or 1)
            # Matroska counts milliseconds
            assert abs(shown - Fraction(number, rate)) <= Fraction(1, 1000), f"frame {number} is shown at {shown}"
            digests.append(hashlib.sha256(frame.to_ndarray(format="rgb24").tobytes()).hexdigest()[:16])
            assert digests[-1:] != digests[-2:-1], f"frame {number} shows what the one before it does"
    return digests


class Commits(threading.Thread):
    """Notes the processor time of this process whenever a segment was finished in a folder of jobs.

    Processor time, as the machine may have other work to do.
    """

    def __init__(self, output: Path):
        super().__init__(daemon=True)
        self.output, self.times, self.over = output, [time.process_time()], threading.Event()

    def run(self) -> None:
        """Look for new records until it is over."""
        while not self.over.wait(LOOK_SECONDS):
            finished = len(list(self.output.glob("skyreels_v2_jobs/*/segment-*.json")))
            self.times += [time.process_time()] * (finished - len(self.times) + 1)

    @property
    def seconds(self) -> list[float]:
        """What each segment took."""
        return [after - before for before, after in pairwise(self.times)]


def make(method: str, frames: int, target: Path) -> None:
    """Make a video and write what was seen as JSON; runs in a host's process."""
    import comfy.cli_args
    import folder_paths

    comfy.cli_args.args.cpu = True
    sys.path.insert(0, str(ROOT))
    same_latents, measure = (importlib.import_module(name) for name in ("tools.same_latents", "benchmarks.measure"))
    ways = same_latents.Ways(same_latents.nodes_of(ROOT))
    folder_paths.set_output_directory(str(target.parent / "first"))
    ways.long(total_frames=WARM_UP, **METHODS[method])
    folder_paths.set_output_directory(str(target.parent / "video"))
    measure.RESET_PEAK.write_text(measure.RESET_PEAK_CODE, "ascii")  # the peak is counted from here
    held, commits = measure.status_bytes("VmRSS"), Commits(target.parent / "video")
    commits.start()
    ways.long(total_frames=frames, **METHODS[method])
    seconds, peak = time.process_time() - commits.times[0], measure.status_bytes("VmHWM")
    commits.over.set()
    commits.join()
    (job,) = (target.parent / "video").glob("skyreels_v2_jobs/*-*/")
    (file,) = job.glob("*.mkv")
    seen = {
        "method": method, "frames": frames, "peak": peak, "added": peak - held, "seconds": seconds,
        "segments": commits.seconds,
        "digests": frame_digests(file, 24), "bytes": file.stat().st_size,
    }  # fmt: skip
    target.write_text(json.dumps(seen), "utf-8")


def later(seconds: list[float]) -> float | None:
    """Return the median time of the later half of the segments over that of the earlier half, the ends aside.

    The first waits for nothing before it and the last may be short.
    """
    inner = seconds[1:-1]
    if len(inner) < 4:
        return None
    half = len(inner) // 2
    return statistics.median(inner[half:]) / statistics.median(inner[:half])


def same_beginning(short: list[str], long: list[str]) -> int:
    """Return how many frames at the beginning are equal to the bit."""
    return next((at for at, (a, b) in enumerate(zip(short, long, strict=False)) if a != b), len(short))


def table(runs: list[dict[str, Any]], host: str) -> str:
    """Return what was seen as a page."""
    lines = [
        "# Long video by method: memory, time and frames",
        "",
        f"`python -m benchmarks.long_video` in ComfyUI {host} on a CPU, where device memory is main memory: the",
        "embedded models, 64x64, 4 steps, lossless files, each video in a process of its own. *peak*: of the whole",
        "process; *added*: above what it held when the models were loaded and a short video was made; *later /",
        "earlier*: the median time of a segment in the later half over that in the earlier. Times are of the",
        "processor. Every frame of each file was decoded: it is shown at its time and differs from the one before it.",
        "",
        "| method | frames | peak, MB | against the shorter | added, MB | s a frame | later / earlier | frames in the "
        "file | equal to the shorter video's |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        short = next(each for each in runs if each["method"] == run["method"])
        first = run is short
        again = "" if first else f"{100 * (run['peak'] / short['peak'] - 1):+.1f} %"
        equal = "" if first else f"the first {run['equal']} of {short['frames']}"
        ratio = later(run["segments"])
        flat = "" if ratio is None else f"{ratio:.2f}"
        lines.append(
            f"| {run['method']} | {run['frames']} | {run['peak'] / 1e6:.0f} | {again} | {run['added'] / 1e6:.1f} | "
            f"{run['seconds'] / run['frames']:.3f} | {flat} | {run['found']} | {equal} |"
        )
    return "\n".join(lines) + "\n"


def main(lengths: list[int]) -> None:
    """Make the videos, keep what was seen, and say where peaks differ; `Raises: AssertionError`."""
    from tools.host import run_in_host
    from tools.hosts import find_hosts, why_no_host

    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    os.environ.update(ALLOCATOR)
    runs: list[dict[str, Any]] = []
    for method in METHODS:
        digests: list[str] = []
        for frames in lengths:
            with tempfile.TemporaryDirectory() as folder:
                target = Path(folder) / "seen.json"
                run_in_host(hosts[0], Path(__file__).resolve(), INSIDE, method, frames, target, timeout=7200)
                seen = json.loads(target.read_text("utf-8"))
            found = seen.pop("digests")
            assert len(found) == frames, f"{method}: {len(found)} frames in the file, not {frames}"
            digests = digests or found
            runs.append({**seen, "found": len(found), "equal": same_beginning(digests, found)})
            took = f"peak {seen['peak'] / 1e6:.0f} MB, {seen['seconds']:.0f} s of the processor"
            print(f"{method}, {frames} frames: {took}", flush=True)
    KEPT.write_text(json.dumps({"host": hosts[0].version, "runs": runs}, indent=1) + "\n", "utf-8")
    PAGE.write_text(table(runs, hosts[0].version), "utf-8")
    print(PAGE.read_text("utf-8"))
    for method in METHODS:
        peaks = [run["peak"] for run in runs if run["method"] == method]
        assert max(peaks) / min(peaks) - 1 <= SAME, f"{method}: peaks of {peaks} bytes"


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        make(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    else:
        main([int(frames) for frames in sys.argv[1:]] or list(LENGTHS))

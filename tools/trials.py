"""Disturb runs at random moments, and see that what comes out in the end is the same to the bit.

    python -m tools.trials interrupts 100      the host's interrupt
    python -m tools.trials memory 100          out of memory at an operation of the run
    python -m tools.trials clock 20            a clock that jumps back and forth
    python -m tools.trials kills 20            kill -9, of each of the ways that keep their work

The number is that of runs that were ended so; a clock ends none. Of a killed run only the segment at work may be made
twice: what was finished has to stay as it was.

Each trial takes the next way of sampling (tools/same_latents.py), disturbs it, and runs it to its end in the same
output folder. The result has to be the undisturbed one, and the MODEL as it was. A trial's number gives its moment.
What was seen is kept (tools/trust.py).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
INSIDE = "--inside"
METHODS = ("sync", "async", "causal", "moving window", "rolling")
WINDOW = {"method": {"method": "moving window"}, "ar_step": 2, "causal_block_size": 2}
ROLLING = {"method": {"method": "rolling", "chunk_frames": 2, "window_frames": 6, "timesteps": "1000, 500"}, "cfg": 1.0}
MOST = 4  # times as many runs: a disturbance may come when a run has ended, and not each ends one
Way = Callable[[], Any]


class Trials:
    """Ways of sampling, what each gives undisturbed and how long that takes; lives in a host's process.

    Args:
        ways: a `same_latents.Ways`.
        folder: for output.
        names: which of its ways of sampling are tried; and every method of a long video, whose work lies on the disk.
    """

    def __init__(self, ways: Any, folder: Path, names: tuple[str, ...] = METHODS):
        found = ways.all()
        self.ways: dict[str, Way] = {name: found[name] for name in names}
        self.ways |= {
            "long: segments": ways.long,
            "long: moving window": lambda: ways.long(**WINDOW),
            "long: rolling": lambda: ways.long(**ROLLING),
            "extended": ways.extended,
        }
        self.model, self.folder, self.count = ways.model, folder, 0
        self.wanted: dict[str, str] = {}
        self.seconds: dict[str, float] = {}
        for name in self.ways:
            self.new_folder()
            self.wanted[name] = self.run(name)
            self.new_folder()
            begin = time.perf_counter()  # the first run of a kind is slower
            assert self.run(name) == self.wanted[name], f"{name}: the second run gave another result"
            self.seconds[name] = time.perf_counter() - begin
            print(f"{name}: {self.wanted[name][:12]} twice, {self.seconds[name]:.1f} s", flush=True)
        self.marks = self.marks_now()

    def new_folder(self) -> None:
        """Let the next run write into a folder of its own."""
        import folder_paths

        self.count += 1
        (self.folder / str(self.count)).mkdir()
        folder_paths.set_output_directory(str(self.folder / str(self.count)))

    def run(self, name: str) -> str:
        """Run a way and return the digest of its latents and its video file."""
        latents = self.ways[name]().float().contiguous()
        digest = hashlib.sha256(latents.cpu().numpy().tobytes())
        for file in sorted((self.folder / str(self.count)).glob("skyreels_v2_jobs/*/*.mp4")):
            digest.update(file.name.encode() + file.read_bytes())
        return digest.hexdigest()

    def marks_now(self) -> list[str]:
        """Return what a run could leave on the MODEL."""
        patcher, transformer = self.model, self.model.model.diffusion_model
        hooks = sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in transformer.modules())
        return [
            *(f"{name}: {sorted(map(str, getattr(patcher, name)))}"
              for name in ("patches", "object_patches", "model_options", "attachments", "wrappers", "callbacks")),
            f"transformer options: {sorted(patcher.model_options.get('transformer_options', {}))}",
            f"attributes: {sorted(transformer.__dict__)}, hooks: {hooks}",
        ]  # fmt: skip

    def records(self) -> dict[str, tuple[int, bytes]]:
        """Return the finished segments of the job in the folder at hand: when each was written, and what."""
        found = (self.folder / str(self.count)).glob("skyreels_v2_jobs/*/segment-*.json")
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in found}

    def trial(self, number: int, disturbed: Callable[[Random, float], Any]) -> bool:
        """Disturb one run and run it to its end; return whether the disturbance ended the run.

        Args:
            number: of the trial.
            disturbed: makes a context manager from random numbers and the seconds that the way takes.
        """
        name, numbers = list(self.ways)[number % len(self.ways)], Random(number)
        self.new_folder()
        found = None
        try:
            with disturbed(numbers, self.seconds[name]):
                found = self.run(name)
        except expected_errors():
            pass
        ended = found is None
        found = found or self.run(name)
        assert found == self.wanted[name], f"trial {number} of {name}: another result"
        assert self.marks_now() == self.marks, f"trial {number} of {name}: {self.marks_now()}"
        return ended


def expected_errors() -> tuple[type[BaseException], ...]:
    """Return how a disturbed run may end."""
    import comfy.model_management

    ours = importlib.import_module("skyreels_v2.wan_core.errors").SkyReelsError
    return (
        comfy.model_management.InterruptProcessingException,
        comfy.model_management.OOM_EXCEPTION,
        ours,
    )


@contextmanager
def interrupted(numbers: Random, seconds: float) -> Iterator[None]:
    """Ask the host to interrupt at some moment of a run."""
    import comfy.model_management

    timer = threading.Timer(numbers.random() * seconds, comfy.model_management.interrupt_current_processing)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        comfy.model_management.interrupt_current_processing(False)


@contextmanager
def out_of_memory(numbers: Random, _seconds: float, operations: int = 4000) -> Iterator[None]:
    """Let one operation of a run find no memory."""
    import comfy.model_management
    from torch.utils._python_dispatch import TorchDispatchMode

    class Failing(TorchDispatchMode):
        left = numbers.randrange(operations)

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.left -= 1
            if self.left == 0:
                raise comfy.model_management.OOM_EXCEPTION("out of memory, for a test")
            return function(*args, **(kwargs or {}))

    with Failing():
        yield


@contextmanager
def jumping_clock(numbers: Random, _seconds: float) -> Iterator[None]:
    """Let the time of day jump by up to ten years at each look."""
    real = time.time
    time.time = lambda: real() + numbers.uniform(-3e8, 3e8)
    try:
        yield
    finally:
        time.time = real


DISTURBED: dict[str, Callable[[Random, float], Any]] = {
    "interrupts": interrupted,
    "memory": out_of_memory,
    "clock": jumping_clock,
}


def killed(trials: Trials, number: int) -> int | None:
    """Kill a run's process at some moment, then run to the end in another.

    Returns:
        How many segments were finished and stayed as they were; None if the run had ended before the kill.
    """
    name, numbers = list(trials.ways)[number % len(trials.ways)], Random(number)
    trials.new_folder()
    child = os.fork()
    if child == 0:
        trials.run(name)
        os._exit(0)
    time.sleep(numbers.random() * trials.seconds[name])
    os.kill(child, signal.SIGKILL)
    at_work = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    kept = trials.records()
    assert trials.run(name) == trials.wanted[name], f"kill {number} of {name}: another video"
    after = trials.records()
    assert all(after[segment] == record for segment, record in kept.items()), f"kill {number} of {name}: made twice"
    return len(kept) if at_work else None


def kills(trials: Trials, count: int) -> dict[str, Any]:
    """Kill runs of every way until so many were ended, and return what was seen; `Raises: AssertionError`."""
    memory, kept = list[int](), {name: list[int]() for name in trials.ways}
    for number in range(MOST * count * len(kept)):
        name = list(kept)[number % len(kept)]
        if len(kept[name]) < count:
            finished = killed(trials, number)
            kept[name] += [] if finished is None else [finished]
            memory.append(own_bytes())
            print(f"kill {number + 1} of {name}: {finished} segments kept, {memory[-1] / 1e6:.0f} MB", flush=True)
    return {"ended": sum(map(len, kept.values())), "memory": memory, "kept": kept}


def own_bytes() -> int:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def make(kind: str, count: int, target: Path) -> None:
    """Run trials in a host's process and write what was seen as JSON."""
    import comfy.cli_args
    import tqdm.auto

    comfy.cli_args.args.cpu = True
    for bar in (tqdm.tqdm, tqdm.auto.tqdm):
        bar.set_lock(threading.RLock())  # their own is shared with the processes that are killed while they hold it
    sys.path.insert(0, str(ROOT))
    same_latents = importlib.import_module("tools.same_latents")
    ways = same_latents.Ways(same_latents.nodes_of(ROOT))
    folder = Path(tempfile.mkdtemp(dir=target.parent))
    trials = Trials(ways, folder, () if kind == "kills" else METHODS)
    if kind == "kills":
        target.write_text(json.dumps(kills(trials, count)), "utf-8")
        return
    ended, memory = 0, list[int]()
    while len(memory) < (count if kind == "clock" else MOST * count) and ended < count:
        number = len(memory)
        ended += trials.trial(number, DISTURBED[kind])
        memory.append(own_bytes())
        print(f"{kind} {number + 1}: {ended} ended a run, {memory[-1] / 1e6:.0f} MB", flush=True)
    target.write_text(json.dumps({"ended": ended, "memory": memory}), "utf-8")


def main(kind: str, count: int) -> None:
    """Run trials in the newest host and say what was seen."""
    from tools import trust
    from tools.host import run_in_host
    from tools.hosts import find_hosts, why_no_host

    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "seen.json"
        print(run_in_host(hosts[0], Path(__file__).resolve(), INSIDE, kind, count, target, timeout=7200), end="")
        seen = json.loads(target.read_text("utf-8"))
    runs = len(seen["memory"])
    print(f"ComfyUI {hosts[0].version}: {runs} {kind}, of which {seen['ended']} ended a run; every result is equal")
    for name, kept in seen.get("kept", {}).items():
        print(f"{name}: {len(kept)} kills, with {min(kept)} to {max(kept)} segments finished; none was made twice")
    if runs > trust.WARM:
        print(f"memory at the end: {trust.percent(trust.grown(seen['memory']))} of that after {trust.WARM}")
        trust.keep("trials", {"host": hosts[0].version, "count": runs, **seen}, kind)


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        make(sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
    elif len(sys.argv) == 3 and sys.argv[1] in (*DISTURBED, "kills"):
        main(sys.argv[1], int(sys.argv[2]))
    else:
        sys.exit(__doc__)

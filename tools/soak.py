"""Queue many mixed jobs in one ComfyUI, and draw its memory after each: docs/figures/soak.svg.

    python -m tools.soak 200

The jobs take the demo models: every way of sampling, long videos that run through, are interrupted and resumed, plans,
decoding, and inputs that are refused. Meanwhile another thread asks the server something five times a second.
The C library is told to give back at once what is freed: what it keeps for later would hide what is held.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import ENVIRONMENT
from tests.comfy.graph import Graph, Ref
from tools import trust
from tools.host import ExecutionFailed, Host
from tools.hosts import find_hosts, why_no_host
from tools.same_latents import ASYNC, CAUSAL, FORCING, LONG
from tools.svg import INK, SOFT, Page

FIGURES = Path(__file__).resolve().parent.parent / "docs" / "figures"
WORDS = {
    "": ("Memory of ComfyUI after each of {count} jobs, MB", "job"),
    ".zh-CN": ("{count} 个任务中每个任务结束后 ComfyUI 占用的内存（MB）", "任务"),
}
SIZE = {"size": "custom", "size.width": 64, "size.height": 64}


class Job(Graph):
    """A prompt with the demo models, texts and a latent in it."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number
        self.model, self.clip, self.vae = (self.add("SkyReelsV2DemoModels")[at] for at in range(3))
        text = self.add("SkyReelsV2TextEncode", clip=self.clip, prompt=f"a red circle {number}", negative_prompt="")
        self.positive, self.negative = text[0], text[1]
        self.latent = self.add("SkyReelsV2EmptyLatent", **SIZE, frames=17, batch_size=1)

    def shown(self, latent: Ref) -> None:
        """Decode and save what was made."""
        images = self.add("SkyReelsV2VAEDecode", samples=latent, vae=self.vae, tiling="auto")
        self.add("SaveImage", images=images, filename_prefix="soak")

    def sampled(self, **forcing: Any) -> None:
        """Sample and decode."""
        settings = {"seed": self.number, "steps": 4, "cfg": 3.0, "shift": 5.0, **FORCING, **forcing}
        latent = {"model": self.model, "positive": self.positive, "negative": self.negative, "latent": self.latent}
        self.shown(self.add("SkyReelsV2Sampler", **{**latent, **settings}))

    def rolled(self) -> None:
        """Make a rolling video."""
        settings = {"seed": self.number, "timesteps": "1000, 500", "shift": 5.0, "cfg": 1.0, "chunk_frames": 1}
        window = {"window_frames": 3, "sink_frames": 1, "solver": "lcm", "fps": 24}
        given = {"model": self.model, "positive": self.positive, "latent": self.latent}
        self.shown(self.add("SkyReelsV2RollingSampler", **given, **settings, **window))

    def long(self, **changes: Any) -> None:
        """Make a long video."""
        settings = {**FORCING, **LONG, "seed": self.number, "steps": 2, "total_frames": 41, **changes}
        del settings["window_frames"]
        given = {"model": self.model, "vae": self.vae, "positive": self.positive, "negative": self.negative}
        job = {"job_name": "soak", "keep_gb": 0.0, "key_times": ""}
        video = self.add("SkyReelsV2LongVideo", **given, **SIZE, **settings, **job)
        self.add("SaveVideo", video=video, filename_prefix="soak", format="auto", codec="auto")

    def planned(self) -> None:
        """Show a plan."""
        names = ("total_frames", "base_num_frames", "overlap_history", "steps", "shift", "loop")
        settings = {name: LONG[name] for name in names} | {"total_frames": 1000 + self.number}
        forcing = {name: FORCING[name] for name in ("ar_step", "causal_block_size", "causal_attention")}
        plan = self.add("SkyReelsV2Plan", **SIZE, **settings, **forcing)
        self.add("SaveImage", images=plan[1], filename_prefix="plan")


# what is queued, in turn; a job that is refused or interrupted is meant to be
MIXED: tuple[tuple[str, Callable[[Job], None]], ...] = (
    ("sync", lambda job: job.sampled()),
    ("async", lambda job: job.sampled(**ASYNC)),
    ("causal", lambda job: job.sampled(**CAUSAL)),
    ("moving window", lambda job: job.sampled(**{**ASYNC, "window_frames": 4, "ar_step": 3})),
    ("rolling", lambda job: job.rolled()),
    ("long", lambda job: job.long()),
    ("long loop", lambda job: job.long(loop=True, carry_over="frames")),
    ("plan", lambda job: job.planned()),
    ("refused", lambda job: job.sampled(ar_step=1, causal_block_size=1, window_frames=2)),
    ("interrupted", lambda job: job.long(total_frames=200)),
)


class Asker(threading.Thread):
    """Asks the server something now and then; keeps how long each answer took."""

    def __init__(self, host: Host):
        super().__init__(daemon=True)
        self.host, self.waits, self.stopped = host, list[float](), threading.Event()

    def run(self) -> None:
        """Ask until it is stopped, at least once."""
        while not self.waits or not self.stopped.wait(0.2):
            self.waits.append(timed(lambda: self.host.get("/prompt")))


def soak(host: Host, count: int) -> dict[str, Any]:
    """Run the jobs and return memory after each, the waits of other requests, and those of the interrupts."""
    memory, interrupts, asker = [], [], Asker(host)
    asker.start()
    for number in range(count):
        name, build = MIXED[number % len(MIXED)]
        job = Job(number)
        build(job)
        stop = threading.Timer(0.5, lambda: interrupts.append(timed(host.interrupt)))
        try:
            if name == "interrupted":
                stop.start()
            host.run(job.prompt, timeout=600)
            stop.cancel()
            assert name != "refused", name
        except ExecutionFailed as failed:
            assert name in ("refused", "interrupted"), f"{name}: {failed}"
        if name == "interrupted":
            stop.join()
        memory.append(host.resident_bytes())
        print(f"job {number + 1} ({name}): {memory[-1] / 1e6:.0f} MB", flush=True)
    asker.stopped.set()
    asker.join()
    return {"memory": memory, "waits": asker.waits, "interrupts": interrupts}


def timed(call: Callable[[], None]) -> float:
    """Return the seconds that a call takes."""
    begin = time.monotonic()
    call()
    return time.monotonic() - begin


def picture(memory: list[int], language: str) -> Page:
    """Draw memory over jobs."""
    title, label = WORDS[language]
    page, (left, top, width, height) = Page(760, 300), (70, 50, 660, 200)
    most = max(memory) * 1.15
    page.text(left, 28, title.format(count=len(memory)), size=15, bold=True)
    page.line([(left, top), (left, top + height), (left + width, top + height)], SOFT)
    for share in (0.0, 0.5, 1.0):
        y = top + height * (1 - share)
        page.text(left - 8, y + 4, f"{share * most / 1e6:.0f}", anchor="end", fill=SOFT)
        page.text(left + width * share, top + height + 20, f"{share * len(memory):.0f}", anchor="middle", fill=SOFT)
    page.text(left + width / 2, top + height + 38, label, anchor="middle", fill=SOFT)
    points = [
        (left + width * (at + 1) / len(memory), top + height * (1 - seen / most)) for at, seen in enumerate(memory)
    ]
    page.line(points, INK, 1.6)
    return page


def main(count: int) -> None:
    """Run the jobs in the newest host, say what was seen and draw it."""
    hosts = find_hosts()
    if not hosts:
        sys.exit(why_no_host())
    os.environ.update(ENVIRONMENT)
    with Host(hosts[0]) as host:
        seen = soak(host, count)
    memory, waits = seen["memory"], seen["waits"]
    print(f"memory after job {count}: {trust.percent(trust.grown(memory))} of that after job {trust.WARM}")
    slowest = {"requests": len(waits), "longest": round(max(waits), 3), "interrupt": round(max(seen["interrupts"]), 3)}
    print(slowest)
    trust.keep("soak", {"host": hosts[0].version, "memory": memory, **slowest})
    for language in WORDS:
        (FIGURES / f"soak{language}.svg").write_text(picture(memory, language).svg(), "utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1])) if len(sys.argv) == 2 else sys.exit(__doc__)

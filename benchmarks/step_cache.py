"""`python dev.py bench --step-cache`: the step cache on the embedded model, in work and in how near the video comes.

Every clip is made with all its calls, then in several ways with less work: by the step cache's presets, by the rules of
two published caches (`rivals`), and with fewer steps. Work is counted in latent frames that go through the transformer;
what matters is how near a clip comes to the first one, and whether it still shows what was asked for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from demo.captions import LANGUAGES, parse
from demo.generate import Settings, clip_noise
from demo.measure import look, psnr
from demo.models import Models, load_models
from demo.score import prompts_of, right
from demo.vae import decode
from wan_core.model.wan_model import WanModel
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.reuse import DISTANCES
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.step_cache import StepCache

from .machine import this_machine
from .report import write_files
from .rivals import Rival

RESULTS = Path(__file__).resolve().parent / "results"
FIRST_SEED = 7_000_000  # of prompts and noise; the method was chosen on others
BATCH = 8  # clips at once: no rule but MotionCache's looks at what is in them
ALL = "all calls"
KINDS = ("colour", "shape", "motion")
ASYNC = Settings(ar_step=5, causal_block_size=5)


@dataclass(frozen=True)
class Way:
    """A way to make a clip with less work.

    Attributes:
        name: for the table.
        distance: of the step cache.
        apart: whether blocks of frames are computed one without the other.
        rival: the threshold of a rival's rule, 0 for none.
        motion: whether that is MotionCache's.
        steps: fewer steps, 0 for all.
        ar_step: that goes with them.
    """

    name: str
    distance: float = 0.0
    apart: bool = True
    rival: float = 0.0
    motion: bool = False
    steps: int = 0
    ar_step: int = 0


@dataclass(frozen=True)
class Mode:
    """How the clips of a table are made, and the ways that are compared."""

    settings: Settings
    latent_frames: int
    ways: tuple[Way, ...]
    clips: int = 48


PRESETS = tuple(Way(name, distance) for name, distance in DISTANCES.items())
WHOLE = (Way("balanced, whole calls", DISTANCES["balanced"], apart=False),)
RIVALS = (
    *(Way(f"FlowCache's rule, {threshold}", rival=threshold) for threshold in (0.02, 0.1, 0.3)),
    *(Way(f"MotionCache's rule, {threshold}", rival=threshold, motion=True) for threshold in (0.02, 0.1, 0.3)),
)


def fewer(*pairs: tuple[int, int]) -> tuple[Way, ...]:
    """Return ways with so many steps, and the ar_step that keeps the blocks as far apart in noise."""
    return tuple(Way(f"{steps} steps", steps=steps, ar_step=ar_step) for steps, ar_step in pairs)


MODES = {
    "sync, 30 steps": Mode(Settings(steps=30), 10, (*PRESETS, *fewer((15, 0), (12, 0), (10, 0)))),
    "async, 50 steps": Mode(
        replace(ASYNC, steps=50), 15, (*PRESETS, *WHOLE, *RIVALS, *fewer((25, 3), (17, 2), (10, 1))), 100
    ),
    "async, 20 steps": Mode(ASYNC, 15, (*PRESETS, *fewer((14, 3), (10, 2)))),
    "causal async, 50 steps": Mode(replace(ASYNC, steps=50, causal_attention=True), 15, PRESETS, 24),
}


@dataclass(frozen=True)
class Line:
    """One line of a table: how much work was left out over all clips, and how near each came to the whole one.

    Attributes:
        mode: how the clips were made.
        way: what left out work.
        work: times fewer latent frames computed.
        decibels: PSNR of every clip's pixels.
        scores: share of clips that show what was asked for, by kind.
    """

    mode: str
    way: str
    work: float
    decibels: tuple[float, ...]
    scores: dict[str, float]

    def text(self) -> str:
        """Return the line of a Markdown table."""
        clips, least = len(self.decibels), min(self.decibels)
        scores = " | ".join(f"{self.scores[kind]:.0%}" for kind in KINDS)
        mean = sum(self.decibels) / clips
        return f"| {self.mode} | {self.way} | {clips} | {self.work:.2f} | {mean:.1f} | {least:.1f} | {scores} |"


@dataclass(frozen=True)
class Made:
    """Clips, and the latent frames that were computed for each of their conditions."""

    pixels: Tensor  # [clips, frames, 64, 64, 3], 0..1
    work: float


Velocity = Callable[[Tensor, Tensor, Tensor, Row], Tensor]


@torch.inference_mode()
def make_clips(models: Models, prompts: list[tuple[str, int]], mode: Mode, way: Way) -> Made:
    """Make clips with guidance in a way, from texts and seeds."""
    settings, frames = mode.settings, mode.latent_frames
    if way.steps:
        settings = replace(settings, steps=way.steps, ar_step=way.ar_step)
    block = settings.causal_block_size if settings.ar_step else 1
    options = ForcingOptions(ar_step=settings.ar_step, causal_block_size=block)
    run = plan_run(options, flow_sigmas(settings.steps, settings.shift), frames)
    with StepCache(way.distance) as cache:
        rivals = [Rival(models.dit, way.rival, settings.causal_block_size, way.motion) for _ in range(2)]
        velocity = by_rival(rivals, settings.fps) if way.rival else by_cache(models.dit, cache, settings, way.apart)
        texts, seeds = [text for text, _ in prompts], [seed for _, seed in prompts]
        denoise = model_denoise(velocity, models.embed(texts), models.embed([""] * len(texts)), settings.guidance)
        latents = sample(denoise, clip_noise(seeds, frames), run)
        work = sum(rival.work for rival in rivals) if way.rival else cache.report.computed
    return Made(decode(models.vae, latents), len(prompts) * work)


def by_cache(
    dit: WanModel, cache: StepCache, settings: Settings, apart: bool, keys: Sequence[str] = ("asked", "plain")
) -> Velocity:
    """Return the velocity of calls through a step cache, for as many conditions as there are keys."""
    causal = settings.causal_block_size if settings.causal_attention else 0
    apart = apart and settings.ar_step > 0

    def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
        def compute(wanted: Sequence[Sequence[int]]) -> Tensor:
            if not apart:
                return dit(x, t, context, fps=settings.fps, causal_block_size=causal)
            told = cache.some_frames(keys, wanted, len(dit.blocks), x.shape[2])
            each = (whole.chunk(len(keys)) for whole in (x, t, context))
            return torch.cat([
                some.computed(dit, video, times, text, fps=settings.fps, causal_block_size=causal)
                for video, times, text, some in zip(*each, told, strict=True)
            ])  # fmt: skip

        return cache(compute, keys, row, bool(causal) and apart, apart)

    return velocity


def by_rival(rivals: list[Rival], fps: int) -> Velocity:
    """Return the velocity of guided calls by a rival's rule, a run of it for each condition."""

    def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
        parts = zip(rivals, x.chunk(2), t.chunk(2), context.chunk(2), strict=True)
        return torch.cat([rival(video, times, text, fps, row) for rival, video, times, text in parts])

    return velocity


def measure(models: Models, name: str, clips: int, done: Collection[str] = ()) -> Iterator[Line]:
    """Make the clips of a mode in all ways but those that are done; prompts are English and Chinese by turns."""
    mode = MODES[name]
    ways = [way for way in (Way(ALL), *mode.ways) if way.name not in done]
    if not ways:
        return
    languages = [prompts_of(language, clips, FIRST_SEED + n) for n, language in enumerate(LANGUAGES)]
    prompts = [(languages[n % len(languages)][0][n], languages[n % len(languages)][1][n]) for n in range(clips)]
    words = [parse(text) for text, _ in prompts]

    def all_clips(way: Way) -> Made:
        size = 1 if way.motion else BATCH
        parts = [make_clips(models, prompts[at : at + size], mode, way) for at in range(0, clips, size)]
        return Made(torch.cat([part.pixels for part in parts]), sum(part.work for part in parts))

    whole = all_clips(Way(ALL))
    for way in ways:
        made = whole if way.name == ALL else all_clips(way)
        seen = [look(pixels, mode.settings.fps) for pixels in made.pixels]
        near = tuple(psnr(clip, wanted) for clip, wanted in zip(made.pixels, whole.pixels, strict=True))
        yield Line(name, way.name, whole.work / made.work, near, {kind: right(seen, words, kind) for kind in KINDS})


def page(lines: list[Line]) -> str:
    """Return the table as Markdown."""
    usual = Settings()
    return "\n".join([
        "# Benchmark: step cache",
        "",
        this_machine().words(),
        "",
        f"The embedded model, guidance {usual.guidance:g}, shift {usual.shift:g}; async: ar_step "
        "5, blocks of 5, 15 latent frames; sync: 10. Work: latent frames through the transformer, times fewer than "
        "with all calls. PSNR: of the pixels against the same clip with all calls. Right: clips that show what was "
        "asked for. Some lines come from another machine; each is compared with clips made on the same one.",
        "",
        "| mode | way | clips | work | PSNR, mean | PSNR, least | colour right | shape right | motion right |",
        "|---|---|---|---|---|---|---|---|---|",
        *(line.text() for line in lines),
        "",
    ])  # fmt: skip


def place(line: Line) -> tuple[int, int]:
    """Return where a line stands in the table."""
    return list(MODES).index(line.mode), [ALL, *(way.name for way in MODES[line.mode].ways)].index(line.way)


def kept() -> list[Line]:
    """Return the lines that were measured before."""
    found = json.loads((RESULTS / "step-cache.json").read_text("utf-8"))["lines"]
    return [Line(**{**line, "decibels": tuple(line["decibels"])}) for line in found]


def main() -> None:
    """Measure, and write the table after every line: what a stopped run has left out, one with --add measures."""
    parser = argparse.ArgumentParser(prog="python dev.py bench --step-cache", description=__doc__)
    parser.add_argument("--clips", type=int, default=0, help="clips for every line (0: as many as each mode says)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--add", action="store_true", help="keep the lines that are there, and measure the others")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    models, lines = load_models(), kept() if given.add else []
    for mode in given.modes:
        done = [line.way for line in lines if line.mode == mode]
        for line in measure(models, mode, given.clips or MODES[mode].clips, done):
            lines.append(line)
            lines.sort(key=place)
            print(line.text(), flush=True)
            values = {"machine": this_machine().values(), "lines": [asdict(line) for line in lines]}
            write_files(RESULTS, "step-cache", page(lines), values)


if __name__ == "__main__":
    main()

"""`python dev.py bench --step-cache`: the step cache on the embedded model, in model calls and in decibels.

Every clip is made with all its calls, then with the step cache at several thresholds; what matters is how near it comes
to the first one. Beside it stands what saves as many calls without a cache: fewer steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from demo.captions import LANGUAGES
from demo.generate import Settings, clip_noise
from demo.measure import psnr
from demo.models import Models, load_models
from demo.score import prompts_of
from demo.vae import decode
from wan_core.sampling.denoise import model_denoise
from wan_core.sampling.loop import sample
from wan_core.sampling.run import ForcingOptions, Row, plan_run
from wan_core.sampling.sigmas import flow_sigmas
from wan_core.sampling.step_cache import StepCache

from .machine import this_machine
from .report import write_files

RESULTS = Path(__file__).resolve().parent / "results"
FIRST_SEED = 7_000_000  # of prompts and noise; the method was chosen on others
THRESHOLDS = (0.1, 0.2, 0.3, 0.5, 1.0)
FEWER_STEPS = (0.67, 0.5)
MODES = {
    "sync, 20 steps": (Settings(), 10),
    "sync, 30 steps": (Settings(steps=30), 10),
    "async (ar_step 5, block 5), 20 steps": (Settings(ar_step=5, causal_block_size=5), 15),
    "async (ar_step 5, block 5), 30 steps": (Settings(steps=30, ar_step=5, causal_block_size=5), 15),
    "causal async (ar_step 5, block 5), 30 steps": (
        Settings(steps=30, ar_step=5, causal_block_size=5, causal_attention=True),
        15,
    ),
}


@dataclass(frozen=True)
class Line:
    """One line of the table: what was left out over all clips, and how near each came to the clip with all calls.

    Attributes:
        mode: how the clips were made.
        way: the threshold, or the steps in its place.
        calls: times fewer model calls.
        frames: times fewer latent frames computed.
        decibels: PSNR of every clip's pixels.
    """

    mode: str
    way: str
    calls: float
    frames: float
    decibels: tuple[float, ...]

    def text(self) -> str:
        """Return the line of a Markdown table."""
        mean, least = sum(self.decibels) / len(self.decibels), min(self.decibels)
        return f"| {self.mode} | {self.way} | {self.calls:.2f} | {self.frames:.2f} | {mean:.1f} | {least:.1f} |"


@dataclass(frozen=True)
class Made:
    """A clip, and what it took."""

    pixels: Tensor  # [frames, 64, 64, 3], 0..1
    calls: int
    frames: int


@torch.inference_mode()
def make_clip(models: Models, text: str, seed: int, latent_frames: int, settings: Settings, threshold: float) -> Made:
    """Make one clip with guidance through a step cache; threshold 0 computes everything."""
    block = settings.causal_block_size if settings.ar_step else 1
    causal = settings.causal_block_size if settings.causal_attention else 0
    options = ForcingOptions(ar_step=settings.ar_step, causal_block_size=block)
    run = plan_run(options, flow_sigmas(settings.steps, settings.shift), latent_frames)
    calls: list[int] = []

    with StepCache(threshold) as cache:

        def velocity(x: Tensor, t: Tensor, context: Tensor, row: Row) -> Tensor:
            def compute(end: int) -> Tensor:
                seen = end if causal else latent_frames
                calls.append(seen)
                made = models.dit(x[:, :, :seen], t[:, :seen], context, fps=settings.fps, causal_block_size=causal)
                return functional.pad(made, (0, 0, 0, 0, 0, latent_frames - seen))

            return cache(compute, ("asked", "plain"), row, bool(causal))

        denoise = model_denoise(velocity, models.embed([text]), models.embed([""]), settings.guidance)
        latents = sample(denoise, clip_noise([seed], latent_frames), run)
    return Made(decode(models.vae, latents)[0], len(calls), sum(calls))


def measure(models: Models, mode: str, clips: int) -> Iterator[Line]:
    """Make the clips of a mode in all ways; prompts are English and Chinese by turns."""
    settings, latent_frames = MODES[mode]
    languages = [prompts_of(language, clips, FIRST_SEED + n) for n, language in enumerate(LANGUAGES)]
    prompts = [(languages[n % len(languages)][0][n], languages[n % len(languages)][1][n]) for n in range(clips)]

    def all_clips(how: Settings, threshold: float) -> list[Made]:
        return [make_clip(models, text, seed, latent_frames, how, threshold) for text, seed in prompts]

    def line(way: str, made: list[Made]) -> Line:
        return Line(
            mode,
            way,
            sum(clip.calls for clip in whole) / sum(clip.calls for clip in made),
            sum(clip.frames for clip in whole) / sum(clip.frames for clip in made),
            tuple(psnr(clip.pixels, wanted.pixels) for clip, wanted in zip(made, whole, strict=True)),
        )

    whole = all_clips(settings, 0.0)
    for threshold in THRESHOLDS:
        yield line(f"threshold {threshold}", all_clips(settings, threshold))
    for share in FEWER_STEPS if settings.ar_step == 0 else ():
        steps = round(settings.steps * share)
        yield line(f"{steps} steps, no cache", all_clips(replace(settings, steps=steps), 0.0))


def page(lines: list[Line], clips: int) -> str:
    """Return the table as Markdown."""
    usual = Settings()
    return "\n".join([
        "# Benchmark: step cache",
        "",
        this_machine().words(),
        "",
        f"The embedded model, {clips} clips a line, guidance {usual.guidance:g}, shift {usual.shift:g}; PSNR of the "
        "pixels against the same clip with all its model calls. "
        "Model calls and latent frames: times fewer than without a cache.",
        "",
        "| mode | way | model calls | frames computed | PSNR, mean | PSNR, least |",
        "|---|---|---|---|---|---|",
        *(line.text() for line in lines),
        "",
    ])  # fmt: skip


def main() -> None:
    """Measure, and write the table after every line: a run that is stopped leaves the rest behind."""
    parser = argparse.ArgumentParser(prog="python dev.py bench --step-cache", description=__doc__)
    parser.add_argument("--clips", type=int, default=6, help="clips for every line (6)")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads that compute")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    models, lines = load_models(), []
    for mode in given.modes:
        for line in measure(models, mode, given.clips):
            lines.append(line)
            print(line.text(), flush=True)
            values = {
                "machine": this_machine().values(),
                "clips": given.clips,
                "lines": [asdict(line) for line in lines],
            }
            write_files(RESULTS, "step-cache", page(lines, given.clips), values)


if __name__ == "__main__":
    main()
